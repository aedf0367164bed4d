"""A model that becomes slow on one of two workers: who is told, and where it is seen. Every part of it is real.

What takes a day is not waited for: that the engines were about as fast yesterday as they are before the test slows one,
promtool writes into Prometheus; and its rules wait for seconds where ours wait for minutes (tests/rules/alerts.yml has
them as they are).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import settings
from cluster_ai.gateway.metering import TIMED
from cluster_ai.local import state
from cluster_ai.local.model import Paths
from dashboard.attention import notices
from dashboard.prometheus import Prometheus, Span
from dashboard.queries import overview
from tests.rig import cluster as rig
from tests.rig.alerting import PROGRAMS, chat, installed, watching
from tests.rig.processes import PATIENCE, REPOSITORY, Process, until
from tests.rig.week import blocks

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not installed(), reason=f"needs {' and '.join(PROGRAMS)} (Debian's)"),
    pytest.mark.skipif(rig.ollama() is None, reason="needs Ollama (`make test` builds it)"),
]
SLOW, STEADY = WORKERS = ("worker-01", "worker-02")
MODEL = f"{rig.MODEL}:latest"
SUMMARY, RUNBOOK = f"{MODEL} on {SLOW} is slower than it was", "docs/alerts.md#modelslow"
# Of each 0.2 s, what a slow engine runs for: what else the machine does can be taken for neither that nor its end.
RUNS, RESTS = 0.02, 0.18
# Of its speed now, what each engine gave yesterday: a machine that becomes some times slower makes no slow model.
BEFORE = {SLOW: 0.5, STEADY: 0.2}


def ask(gateway: str, worker: str) -> None:
    options = {"num_predict": TIMED, "seed": 7, "temperature": 0}
    body = {"model": rig.MODEL, "prompt": "Write a story about rain.", "stream": False, "options": options}
    headers = {"X-Cluster-Worker": worker}
    request = urllib.request.Request(f"{gateway}/api/generate", json.dumps(body).encode(), headers)
    rig.fetch(request, timeout=PATIENCE)


def speed(gateway: str, worker: str) -> float:
    """Tokens per second, as the gateway has counted them so far."""
    lines = rig.fetch(f"{gateway}/metrics")[1].decode().splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if worker in line)
    tokens, seconds = (
        next(float(value) for name, value in told.items() if name.startswith(f"{metric}{{"))
        for metric in ("worker_timed_tokens_total", "worker_eval_seconds_total")
    )
    return tokens / seconds


def yesterday(folder: Path, speeds: dict[str, float]) -> None:
    def constant(value: float) -> Callable[[float], float]:
        return lambda at: value

    now, recorded = time.time(), "worker_model:tokens_per_second:rate5m"
    series = {f'{recorded}{{model="{MODEL}",worker="{name}"}}': constant(it) for name, it in speeds.items()}
    blocks(folder, series, now - 86400, now - 1800, 300)


@contextlib.contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Something that goes on in a thread until it is told to stop. Raises what it raises."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work, stop)
        try:
            yield
        finally:
            stop.set()
        running.result()


def asked(gateway: str) -> contextlib.AbstractContextManager[None]:
    """In turn, so that the two engines don't take the processor from each other."""

    def work(stop: threading.Event) -> None:
        for worker in itertools.cycle(WORKERS):
            if stop.is_set():
                return
            ask(gateway, worker)

    return meanwhile(work)


def slowed(engine: Process) -> contextlib.AbstractContextManager[None]:
    def work(stop: threading.Event) -> None:
        while not stop.wait(RUNS):
            os.killpg(engine.popen.pid, signal.SIGSTOP)
            stop.wait(RESTS)
            os.killpg(engine.popen.pid, signal.SIGCONT)

    return meanwhile(work)


def reported(folder: Path, gateway: str, prometheus: str) -> str:
    """What `cluster-ai report` writes of the cluster that runs here."""
    paths = Paths(folder / ".cluster-ai")
    paths.root.mkdir()
    of_test = {"pid": os.getpid(), "starttime": state.starttime(os.getpid()) or 0, "phase": "up", "token": None}
    away = {"dashboard": None, "open_webui": None, "dask": "", "dask_dashboard": "", "engine": "", "lacks": ()}
    told: dict[str, Any] = {**of_test, **away, "workers": WORKERS, "gateway": gateway, "prometheus": prometheus}
    state.write(paths, state.State(**told))
    command = [sys.executable, "-m", "cluster_ai", "report", "--days", "1"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return (folder / "cluster-ai-report.html").read_text()


def noticed(prometheus: str) -> bool:
    """It is among what the dashboard's overview wants a person to look at."""
    told = notices(overview(Prometheus(prometheus), Span(900, 1)), None)
    return any(SUMMARY in it.what and RUNBOOK in it.remedy for it in told)


def test_a_slow_model_is_told_once_and_seen_on_the_overview_and_in_the_report_and_its_end_is_told(
    tmp_path: Path,
) -> None:
    keys = rig.authority().credentials(tmp_path / "keys", "head", "head", token=rig.TOKEN)
    with (
        rig.ollama_engine(tmp_path / SLOW) as (slow_url, slow),
        rig.ollama_engine(tmp_path / STEADY) as (steady_url, _),
        chat() as webhook,
    ):
        upstreams = tuple(
            settings.Upstream(name, url, (rig.MODEL,), slots=1, gpu=0)
            for name, url in zip(WORKERS, (slow_url, steady_url), strict=True)
        )
        told = rig.gateway_settings(upstreams=upstreams, trusted_networks=("127.0.0.0/8",))
        with rig.gateway(tmp_path / "gateway", told, keys, workers=2) as (gateway, _):
            for worker in WORKERS * 3:
                ask(gateway, worker)
            yesterday(tmp_path, {it: share * speed(gateway, it) for it, share in BEFORE.items()})
            with watching(tmp_path, gateway.removeprefix("http://"), webhook) as prometheus, asked(gateway):
                until(lambda: not noticed(prometheus), what="an engine as fast as yesterday")
                webhook.got.clear()
                with slowed(slow):
                    until(lambda: webhook.told("firing", "ModelSlow"), what="the alert")
                    until(lambda: noticed(prometheus), what="the notice")
                    report = reported(tmp_path, gateway, prometheus)
                until(lambda: webhook.told("resolved", "ModelSlow"), what="its end")
                until(lambda: not noticed(prometheus), what="nothing to look at")
    (said,) = webhook.told("firing", "ModelSlow")
    (alert,) = said["alerts"]
    assert (alert["labels"]["model"], alert["labels"]["worker"]) == (MODEL, SLOW)
    assert alert["annotations"]["summary"].startswith(SUMMARY)
    assert alert["annotations"]["runbook"] == RUNBOOK
    assert "ModelSlow" in report
    assert f"{MODEL}, {SLOW}" in report
