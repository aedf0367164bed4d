"""What was asked of models on the days before, from Prometheus."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from cluster_ai.metrics import names

if TYPE_CHECKING:
    from cluster_ai.scaling.forecast import Forecast

SPAN, STEP = 21 * 86400, 600  # seconds
AGAIN = 1800.0  # seconds after which a forecast is made anew
TIMEOUT = aiohttp.ClientTimeout(total=20)


class History:
    """client: a session for loopback. url: Prometheus'; None: there is none, and no forecast."""

    def __init__(self, client: aiohttp.ClientSession, url: str | None) -> None:
        self._client, self._url = client, url
        self._forecasts: dict[str, tuple[float, Forecast | None]] = {}

    async def forecast(self, model: str) -> Forecast | None:
        """None: there is less than two days of history, or Prometheus doesn't answer."""
        made, found = self._forecasts.get(model, (-math.inf, None))
        if self._url is None or time.monotonic() - made < AGAIN:
            return found
        from cluster_ai.scaling.forecast import fit  # numpy: only where something is scaled

        try:
            times, values = await self._asked(model, self._url)
            found = fit(times, values)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            pass  # the last one serves on
        self._forecasts[model] = time.monotonic(), found
        return found

    async def _asked(self, model: str, url: str) -> tuple[list[float], list[float]]:
        """Requests at once: the time that answers took, in each second (Little's law)."""
        text = f'sum(rate({names.INFERENCE_TIME.name}_sum{{model="{model}"}}[{STEP}s]))'
        now = time.time()
        asked = {"query": text, "start": f"{now - SPAN:.0f}", "end": f"{now:.0f}", "step": str(STEP)}
        async with self._client.get(f"{url}/api/v1/query_range", params=asked, timeout=TIMEOUT) as reply:
            said: Any = await reply.json()
        series = said["data"]["result"]
        points = [(float(at), float(value)) for at, value in series[0]["values"]] if series else []
        good = [(at, value) for at, value in points if math.isfinite(value)]
        return [at for at, _ in good], [value for _, value in good]
