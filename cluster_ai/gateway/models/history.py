"""What was asked of models on the days before, from Prometheus."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from cluster_ai.metrics import names

if TYPE_CHECKING:
    from cluster_ai.scaling.forecast import Forecast

SPAN, STEP = 21 * 86400, 600  # seconds
AGAIN = 1800.0  # seconds after which a forecast is made anew
FAILED = 60.0  # seconds after which Prometheus is asked again that didn't answer
TIMEOUT = aiohttp.ClientTimeout(total=20)


class History:
    """client: a session for loopback. url: Prometheus'; None: there is none, and no forecast."""

    def __init__(self, client: aiohttp.ClientSession, url: str | None) -> None:
        self._client, self._url = client, url
        self._forecasts: dict[str, tuple[float, Forecast | None]] = {}

    async def forecast(self, model: str) -> Forecast | None:
        """None: there is less than two days of history, or Prometheus doesn't answer."""
        due, found = self._forecasts.get(model, (-math.inf, None))
        if self._url is None or time.monotonic() < due:
            return found
        try:
            times, values = await self._asked(model, self._url)
            found, wait = await asyncio.to_thread(_fit, times, values), AGAIN
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            wait = FAILED  # the last one serves on
        self._forecasts[model] = time.monotonic() + wait, found
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


def _fit(times: list[float], values: list[float]) -> Forecast | None:
    """Beside the event loop: the import takes a while, and so do weeks of history."""
    from cluster_ai.scaling.forecast import fit  # numpy: only where something is scaled

    return fit(times, values)
