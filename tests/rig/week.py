"""A week of measurements in a real Prometheus, without waiting a week: promtool writes its blocks."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.rig.processes import free_port, running

STEP = 600  # seconds between two samples
DAYS = 7
Value = Callable[[float], float | None]  # seconds since the week's begin -> value; None: not measured


def prometheus_of(folder: Path, series: Mapping[str, Value]) -> contextlib.AbstractContextManager[tuple[str, float]]:
    """Its URL, and the week's end. series: name with labels, as OpenMetrics writes them (no spaces) -> what it was."""
    end = time.time() // STEP * STEP
    begin = end - DAYS * 86400
    lines = []
    for name, value in sorted(series.items()):
        moments = (begin + n * STEP for n in range(DAYS * 86400 // STEP + 1))
        lines += [f"{name} {found} {at:.0f}" for at in moments if (found := value(at - begin)) is not None]
    (folder / "week.txt").write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "week.txt", folder / "data"],
        check=True,
        capture_output=True,
    )
    return _served(folder, end)


@contextlib.contextmanager
def _served(folder: Path, end: float) -> Iterator[tuple[str, float]]:
    (folder / "prometheus.yml").write_text("{}\n")
    url = f"http://127.0.0.1:{free_port()}"
    arguments = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=60d",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]

    def ready() -> bool:
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": "count(up)", "time": end})
        return bool(json.loads(ask(url, path)[1])["data"]["result"])

    with running(arguments, folder / "log", until_ready=ready):
        yield url, end


def ask(url: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url + path, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
