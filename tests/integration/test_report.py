"""The report of a week that a real Prometheus holds, looked at in a real Chromium."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cluster_ai.bench.results import Result
from cluster_ai.report.measurements import MOST, Measurements, read
from cluster_ai.report.page import Material, html
from cluster_ai.rollout.journal import Change, Intent, Rollout
from cluster_ai.rollout.prometheus import Prometheus
from tests.dashboard.conftest import shots
from tests.rig.processes import PATIENCE, REPOSITORY, free_port
from tests.rig.week import DAYS, Value, ask, prometheus_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("promtool"), reason="no prometheus here (Debian: apt install prometheus)"),
]
HOUR, DAY = 3600.0, 86400.0
UPDATE = 4 * DAY  # after which one model is half as fast on one worker
OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
SLOW = "worker_model:tokens_per_second:rate5m"
__all__ = ("shots",)


def working(at: float) -> bool:
    return 8 * HOUR <= at % DAY < 19 * HOUR and at // DAY not in (5, 6)


def down(at: float) -> bool:
    return 2 * DAY < at < 2.3 * DAY


def speed(normally: float, *, halved: bool) -> Value:
    return lambda at: (normally / 2 if halved and at > UPDATE else normally) if working(at) else None


def busy(level: float) -> Value:
    return lambda at: level * (1 + 0.2 * math.sin(at / HOUR)) if working(at) else 0.02


def counter(per_second: float) -> Value:
    """Of working hours only."""
    return lambda at: per_second * (at // DAY * 11 * HOUR + min(max(at % DAY - 8 * HOUR, 0), 11 * HOUR))


def week() -> dict[str, Value]:
    series: dict[str, Value] = {'up{job="gateway"}': lambda at: 1.0}
    for number in range(1, MOST + 3):
        worker = f'worker="gpu-{number:02}"'
        series[f"worker_up{{{worker}}}"] = (lambda at: float(not down(at))) if number == 2 else (lambda at: 1.0)
        series[f"worker_cpu_usage{{{worker}}}"] = busy(0.3 + number / 30)
        series[f'{SLOW}{{{worker},model="llama3:8b"}}'] = speed(45.0 + number, halved=number == 1)
    firing = 'alertstate="firing",severity="warning"'
    series[f'ALERTS{{alertname="WorkerDown",{firing},worker="gpu-02"}}'] = lambda at: 1.0 if down(at) else None
    series[f'ALERTS{{alertname="ModelSlow",{firing},worker="gpu-01",model="llama3:8b"}}'] = lambda at: (
        1.0 if at > UPDATE and working(at) else None
    )
    for le, share in (("0.5", 0.5), ("2.5", 0.96), ("+Inf", 1.0)):
        series[f'gateway_time_to_first_token_seconds_bucket{{model="llama3:8b",le="{le}"}}'] = counter(share)
    series['cluster_total_tasks_total{kind="inference"}'] = counter(1.0)
    series['cluster_failed_tasks_total{kind="inference"}'] = counter(0.01)
    return series


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, float]]:
    """One that has measured the week, and the week's end."""
    with prometheus_of(tmp_path_factory.mktemp("week"), week()) as (url, end):
        yield Prometheus(lambda path: ask(url, path)), end


@pytest.fixture(scope="module")
def measured(served: tuple[Prometheus, float]) -> Measurements:
    prometheus, end = served
    found = read(prometheus, (end - DAYS * DAY, end))
    assert found
    assert read(prometheus, (end - 90 * DAY, end - 80 * DAY)) is None
    return found


@pytest.mark.parametrize("days", [1, 5])
def test_what_is_so_at_the_end_is_in_it_however_far_it_looks_back(served: tuple[Prometheus, float], days: int) -> None:
    prometheus, end = served
    found = read(prometheus, (end - days * DAY, end))
    assert found
    (workers,) = (
        it for section in found.sections.values() for it in section if it.chart.title == "Workers that answer"
    )
    assert {it.points[-1][0] for it in workers.series} == {end}


def test_a_week_is_read_with_its_speeds_failures_and_alerts(measured: Measurements) -> None:
    drawn = {it.chart.title: it for section in measured.sections.values() for it in section}
    speeds = drawn["Tokens per second of an answer"]
    assert (len(speeds.series), speeds.left_out) == (MOST, 2)
    assert "llama3:8b on gpu-01" in {it.name for it in speeds.series}  # which fell, so it is not among those left out
    assert "gpu-02" in {it.name for it in drawn["Workers that answer"].series}
    alone = drawn["Time to the first token"].series
    assert [it.name for it in alone] == ["half", "95 %", "99 %"]
    assert measured.figures["failed"] == pytest.approx((measured.figures["requests"] or 0) / 100, rel=0.01)
    fired = {it.name: it for it in measured.fired}
    assert fired["WorkerDown"].of == "gpu-02"
    assert fired["WorkerDown"].seconds == pytest.approx(0.3 * DAY, abs=2 * measured.step)
    assert fired["ModelSlow"].of == "llama3:8b, gpu-01"
    assert len(drawn["Disk"].series) == 0


@pytest.mark.browser
def test_what_it_draws_is_seen_in_a_browser_without_a_network(
    measured: Measurements, tmp_path: Path, shots: ModuleType
) -> None:
    (tmp_path / "report.html").write_text(html(material(measured)))
    with shots.chromium() as browser:
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
        browser.get(f"file://{tmp_path}/report.html")
        drawn = """
            const lines = root => [...root.querySelectorAll('*')].flatMap(
                it => it.shadowRoot ? lines(it.shadowRoot) : it.tagName === 'path' ? [it] : []);
            return [...document.querySelectorAll('figure')].map(
                it => [it.querySelector('h3').textContent, lines(it).length]);
        """
        plots = shots.WebDriverWait(browser, PATIENCE).until(
            lambda it: (found := dict(it.execute_script(drawn)))["Measured by cluster-ai bench"] and found
        )
        text = browser.find_element("tag name", "body").text
        assert not [it for it in browser.get_log("browser") if it["level"] == "SEVERE"]
    with_plots = {title for title, paths in plots.items() if paths}
    assert with_plots >= {"Tokens by model", "Tokens by user", "Tokens per second of an answer", "Alerts that fired"}
    assert "llama3:8b on gpu-01 is 49% slower" in text
    assert "Drawn are the 8 that fell most, 2 more are not." in text
    assert "<script>alert" in text  # a user's name is text, whatever it says


def material(measured: Measurements) -> Material:
    begin, end = measured.span
    days = [time.strftime("%Y-%m-%d", time.gmtime(begin + n * DAY)) for n in range(DAYS + 1)]
    used = (("anna", "llama3:8b", 900), ("<script>alert(1)</script>", "qwen3:4b", 2700))
    lines = [
        {
            **{"day": day, "user": user, "model": model, "requests": 40, "seconds": 60.0},
            **{"prompt_tokens": 2 * tokens, "completion_tokens": tokens},
        }
        for day in days[:5]
        for user, model, tokens in used
    ]
    total = {"requests": 400, "prompt_tokens": 13500, "completion_tokens": 6000, "seconds": 600.0}
    results = [
        Result(begin + at, "llama3:8b", "gpu-01", engine, speed, None, None, 0.2, 3.1, None, None)
        for at, engine, speed in ((0.0, "0.17.4", 46.0), (DAY, "0.17.4", 45.2), (5 * DAY, "0.18.0", 23.1))
    ]
    intent = Intent("lab", "rolling", "", {"gpu-01": Change("a" * 64, "b" * 64)}, ())
    rollout = Rollout("20261126-1", "apply", "anna@desk", begin + UPDATE, begin + UPDATE + 90, "done", "", intent)
    usage = {"first": days[0], "last": days[-1], "lines": lines, "total": total}
    return Material("lab", (begin, end), measured, usage, results, [rollout], ())


def test_a_cluster_that_can_not_be_asked_gives_a_page_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(
        "version: '1.0'\ncluster:\n  name: lab\n  scheduler: {host: 127.0.0.1, port: 8786}\n"
        f"  workers: [{{name: w, resources: {{cpu: 1, memory: 1GB}}}}]\n  ssh: {{port: {free_port()}}}\n"
        f"  gateway: {{port: {free_port()}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "cluster_ai", "report", "week.html"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    page = (tmp_path / "week.html").read_text()
    for said in ("This report is not whole.", "Prometheus could not be asked", "The gateway could not be asked"):
        assert said in page
    assert len(done.stderr.splitlines()) == 3, done.stderr
