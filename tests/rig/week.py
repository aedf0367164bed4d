"""Measurements of the past in a real Prometheus, without waiting for them: promtool writes its blocks."""

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
Value = Callable[[float], float | None]  # seconds since the begin -> value; None: not measured


def blocks(folder: Path, series: Mapping[str, Value], begin: float, end: float, step: float) -> Path:
    """A folder of Prometheus' data. series: name with labels, as OpenMetrics writes them (no spaces) -> what it was."""
    moments = [begin + n * step for n in range(int((end - begin) // step) + 1)]
    with (folder / "past.txt").open("w") as out:
        for name, value in sorted(series.items()):
            out.writelines(f"{name} {found} {at:.0f}\n" for at in moments if (found := value(at - begin)) is not None)
        out.write("# EOF\n")
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "past.txt", folder / "data"],
        check=True,
        capture_output=True,
    )
    return folder / "data"


def prometheus_of(folder: Path, series: Mapping[str, Value]) -> contextlib.AbstractContextManager[tuple[str, float]]:
    """Of one week: its URL, and the week's end."""
    end = time.time() // STEP * STEP
    blocks(folder, series, end - DAYS * 86400, end, STEP)
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
        with urllib.request.urlopen(url + path, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
