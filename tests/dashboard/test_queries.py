from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import UnavailableError
from cluster_ai.metrics.names import HOST_METRICS, METRICS
from dashboard import history, hosts, percentiles, queries
from dashboard.prometheus import POINTS, Prometheus, Span, duration, parse_instant, parse_range, quantile
from tests.dashboard.conftest import Node, RealPrometheus, see_work, wait_for
from tests.dashboard.fake_gateway import FakeGateway
from tests.rig.processes import free_port


def test_every_metric_that_is_asked_for_is_one_that_the_gateway_or_a_host_has() -> None:
    source = "".join(Path(str(it.__file__)).read_text() for it in (queries, history, hosts, percentiles))
    asked = set(re.findall(r"\b(?:cluster|worker|model|gateway)_[a-z_]{3,}", source))
    asked |= {f"cluster_{kind}_tasks_total" for kind in ("total", "failed")}
    known = {m.name for m in (*METRICS, *HOST_METRICS)}
    known |= {f"{m.name}{end}" for m in METRICS if m.kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    assert asked - known - {"cluster_ai"} <= {"cluster_"}


@given(seconds=st.integers(60, 10**6), scrape=st.floats(0.5, 120), now=st.floats(1e9, 2e9))
def test_a_grid_is_even_ends_now_and_has_no_more_points_than_a_chart_can_show(
    seconds: int, scrape: float, now: float
) -> None:
    span = Span(seconds, scrape)
    grid = span.grid(now)
    assert now - span.step < grid[-1] <= now
    assert grid[-1] - grid[0] <= seconds
    assert len(grid) <= POINTS + 1
    assert all(at % span.step == 0 for at in grid)


@given(scrape=st.floats(0.5, 120))
def test_a_rate_looks_over_at_least_four_scrapes_and_one_step(scrape: float) -> None:
    span = Span(86400, scrape)
    window = int(span.rate_window.removesuffix("s"))
    assert window >= max(4 * scrape, span.step)


def test_a_series_keeps_the_whole_grid_with_gaps_as_gaps() -> None:
    answer = [{"metric": {"worker": "a"}, "values": [[10, "1"], [30, "NaN"]]}]
    frame = parse_range(answer, range(10, 40, 10), lambda m: m["worker"])
    assert list(frame["series"]) == ["a", "a", "a"]
    assert frame["value"][0] == 1
    assert frame["value"][1:].isna().all()
    assert frame["time"][0].isoformat() == "1970-01-01T00:00:10+00:00"


def test_no_series_is_an_empty_frame_of_the_same_form() -> None:
    frame = parse_range([], range(10, 40, 10), lambda m: m["worker"])
    assert frame.empty
    assert list(frame.columns) == ["time", "series", "value"]


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf"])
def test_a_value_that_is_no_number_is_not_known(text: str) -> None:
    assert parse_instant([{"metric": {}, "value": [1, text]}])[0].value is None


@pytest.mark.parametrize(("text", "seconds"), [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("1d2h", 93600)])
def test_prometheus_durations_are_read(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@given(st.text())
def test_anything_else_is_no_duration(text: str) -> None:
    if re.fullmatch(r"(\d+(\.\d+)?(ms|[smhdwy]))+", text):
        return
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


def test_an_absent_prometheus_is_said_with_its_address_and_a_remedy() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError) as caught:
        Prometheus(url).instant("up")
    assert caught.value.where == url
    assert caught.value.remedy


def test_what_is_not_prometheus_is_said_so(gateway: FakeGateway) -> None:
    with pytest.raises(UnavailableError):
        Prometheus(gateway.url).instant("up")


@pytest.mark.integration
def test_the_scrape_interval_is_asked_for(prometheus: RealPrometheus) -> None:
    assert Prometheus(prometheus.url).scrape_interval() == 1


@pytest.mark.integration
def test_a_query_that_prometheus_refuses_is_an_error_of_ours(prometheus: RealPrometheus) -> None:
    with pytest.raises(UnavailableError, match="refused a query"):
        Prometheus(prometheus.url).instant("sum(")


@pytest.mark.integration
def test_the_overview_of_a_real_prometheus(prometheus: RealPrometheus, gateway: FakeGateway) -> None:
    see_work(prometheus, gateway)
    seen = queries.overview(Prometheus(prometheus.url), Span(900, 1))
    assert seen.workers_up == 2
    assert seen.workers_down == ("gpu-worker-02",)
    assert seen.targets_down == ("node on far-host",)
    assert seen.requests is not None
    assert seen.requests > 0
    assert seen.p50 is not None
    assert seen.p95 is not None
    assert 0 < seen.p50 < seen.p95
    assert seen.finished > seen.failed
    assert set(seen.charts["tokens"]["series"]) == {"llama2:13b", "smollm2:135m"}
    assert all(frame["value"].notna().any() for key, frame in seen.charts.items() if key != "requests")


@pytest.mark.integration
def test_the_workers_of_a_real_prometheus(prometheus: RealPrometheus) -> None:
    seen = {w.name: w for w in queries.workers(Prometheus(prometheus.url), Span(900, 1)).workers}
    assert list(seen) == ["cpu-worker-01", "gpu-worker-01", "gpu-worker-02"]
    cpu, gpu, down = seen.values()
    assert cpu.gpu_memory is None
    assert cpu.loaded == ("smollm2:135m",)
    assert cpu.cpu is not None
    assert 0 < cpu.cpu < 1
    assert gpu.gpu_memory is not None
    assert gpu.gpu_memory_total == 24 * 2**30
    assert not down.up
    assert down.memory is None


@pytest.mark.integration
def test_the_drift_of_hosts_is_read_with_the_time_of_the_check(prometheus: RealPrometheus, node: Node) -> None:
    node.checked.set(1_700_000_000)  # before the others, which are waited for
    node.drift.labels("files").set(2)
    node.drift.labels("ports").set(1)
    asked = Prometheus(prometheus.url)

    def seen() -> dict[str, hosts.Host]:
        return {host.name: host for host in hosts.read(asked.instants(hosts.queries("60s")))}

    wait_for(lambda: "near-host" in seen() and seen()["near-host"].drift == {"files": 2, "ports": 1}, "the drift")
    host = seen()["near-host"]
    assert host.drifted() == "2 files, 1 port"
    assert host.checked == 1_700_000_000
    assert host.overdue(time.time())
    assert not host.awaited  # Prometheus hasn't known it for that long
    node.drift.labels("files").set(0)
    node.drift.labels("ports").set(0)
    wait_for(lambda: seen()["near-host"].drift == {}, "its end")


@pytest.mark.integration
def test_the_state_of_the_last_rollout_is_read(prometheus: RealPrometheus, node: Node) -> None:
    asked = Prometheus(prometheus.url)
    node.rollout.labels("done").set(0)
    node.rollout.labels("paused").set(1)
    wait_for(lambda: queries.overview(asked, Span(900, 1)).rollout == "paused", "the rollout's state")
    node.rollout.labels("done").set(1)
    node.rollout.labels("paused").set(0)
    wait_for(lambda: queries.overview(asked, Span(900, 1)).rollout == "done", "the next state")


@pytest.mark.integration
def test_the_models_of_a_real_prometheus(prometheus: RealPrometheus, gateway: FakeGateway) -> None:
    see_work(prometheus, gateway)
    seen = queries.models(Prometheus(prometheus.url), Span(900, 1)).models
    assert [m.name for m in seen] == ["llama2:13b", "smollm2:135m"]
    for model in seen:
        assert model.tokens is not None
        assert model.p50 is not None
        assert math.isfinite(model.p50)
        assert model.load_time is None


@pytest.mark.integration
@pytest.mark.parametrize("model", [None, "llama2:13b"])
def test_the_past_of_a_real_prometheus(prometheus: RealPrometheus, model: str | None) -> None:
    figures, charts = history.performance(Prometheus(prometheus.url), Span(900, 1, time.time()), model)
    assert figures.requests
    assert figures.tokens
    assert (figures.failed is None) == (model is not None)
    known = [it for it in figures.response if it is not None]
    assert len(known) == len(history.PERCENTILES)
    assert known == sorted(known)
    assert set(charts["response"]["series"]) == {f"{100 * q:.0f} % within" for q in history.PERCENTILES}
    assert charts["tokens"]["value"].max() > 0


@pytest.mark.integration
def test_each_page_asks_prometheus_a_handful_of_times_however_many_workers_and_models_there_are(
    prometheus: RealPrometheus,
) -> None:
    asked, span = Prometheus(prometheus.url), Span(900, 1, time.time())
    pages: dict[str, tuple[int, Callable[[], object]]] = {
        "overview": (3, lambda: queries.overview(asked, span)),
        "workers": (1, lambda: queries.workers(asked, span)),
        "charts of workers": (1, lambda: queries.charts_of_workers(asked, span, [f"w-{n:03}" for n in range(8)])),
        "models": (2, lambda: queries.models(asked, span)),
        "performance": (2, lambda: history.performance(asked, span, None)),
        "canary": (1, lambda: history.canary(asked, span, [f"w-{n:03}" for n in range(50)])),
    }
    for page, (most, draw) in pages.items():
        before = prometheus.asked()
        draw()
        assert prometheus.asked() - before <= most, page


@pytest.mark.integration
def test_the_charts_of_workers_are_of_those_that_are_asked_for(prometheus: RealPrometheus) -> None:
    charts = queries.charts_of_workers(Prometheus(prometheus.url), Span(900, 1), ["gpu-worker-01", "gpu.*"])
    assert set(charts["cpu"]["series"]) == {"gpu-worker-01"}
    assert set(charts["gpu_memory"]["series"]) == {"gpu-worker-01 card 0"}


@pytest.mark.integration
@pytest.mark.parametrize("q", history.PERCENTILES)
def test_percentiles_are_those_that_prometheus_itself_tells(prometheus: RealPrometheus, q: float) -> None:
    asked, at = Prometheus(prometheus.url), time.time()
    histogram = "cluster_response_time_seconds"
    (mine,) = percentiles.of([q], asked.instant(percentiles.buckets(histogram, "900s"), at))
    assert mine == pytest.approx(asked.value(quantile(q, histogram, "900s"), at))


@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=10), q=st.floats(0.01, 0.99))
def test_a_percentile_lies_where_so_many_values_are_below(counts: list[int], q: float) -> None:
    sums = list(itertools.accumulate(counts))
    found = [(float(place), float(total)) for place, total in enumerate(sums[:-1], 1)] + [(math.inf, float(sums[-1]))]
    value = percentiles.percentile(q, found)
    if not sums[-1]:
        assert value is None
        return
    assert value is not None
    assert 0 <= value <= len(counts) - 1
    above = next((total for bound, total in found if bound >= value), sums[-1])
    assert above >= q * sums[-1] - 1e-9 or value == len(counts) - 1


@pytest.mark.integration
def test_canaries_are_drawn_beside_the_others(prometheus: RealPrometheus, gateway: FakeGateway) -> None:
    for worker in ("gpu-worker-01", "cpu-worker-01"):
        gateway.metric["worker_requests_total"].labels(worker, "ok").inc(0)
    asked = Prometheus(prometheus.url)
    wait_for(lambda: asked.value("count(worker_requests_total)") == 2, "the first scrape of them")
    for worker in ("gpu-worker-01", "cpu-worker-01"):
        gateway.metric["worker_requests_total"].labels(worker, "ok").inc(50)

    def errors() -> dict[str, float]:
        frame = history.canary(asked, Span(60, 1, time.time()), ["gpu-worker-01"])["errors"].dropna()
        return dict(zip(frame["series"], frame["value"], strict=True))

    wait_for(lambda: errors() == {"gpu-worker-01": 0.0, "others": 0.0}, "both lines")


@pytest.mark.integration
def test_an_empty_prometheus_gives_nothing_and_no_error(tmp_path: Path) -> None:
    with FakeGateway() as silent:
        pass  # its port answers no more
    real = RealPrometheus(tmp_path, silent)
    try:
        wait_for(lambda: real.value("count(up == 0)"), "a failed scrape")
        empty = Prometheus(real.url)
        seen = queries.overview(empty, Span(900, 1))
        assert seen.newest is None
        assert seen.requests is None
        assert queries.workers(empty, Span(900, 1)).workers == ()
        assert queries.models(empty, Span(900, 1)).models == ()
    finally:
        real.stop()
