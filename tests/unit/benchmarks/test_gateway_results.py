"""From runs to rows, and to what was promised."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gateway.results import LIGHT, SHORT, SLOW, STREAMS, Results, promises, row


def run(**changed: Any) -> dict[str, Any]:
    base = {"requests": 1000, "tokens": 64000, "failed": 0, "requests_per_second": 100.0, "cpu_seconds": 0.1}
    base |= {"latency_p50": 1.0, "first_p50": 20.0, "first_p99": 22.0, "resident_mb": 50.0}
    return base | changed


@pytest.fixture
def results() -> Results:
    found = Results()
    for scenario in (SHORT, LIGHT, STREAMS, SLOW):
        found.add("direct", scenario, run())
        found.add("go", scenario, run(first_p50=21.0))
        found.add("ours", scenario, run(cpu_seconds=0.2, first_p50=21.5, first_p99=30.0, latency_p50=1.25))
    found.add("litellm", SHORT, run(requests_per_second=2.0))
    return found


def test_a_row_tells_what_is_added_to_the_direct_way(results: Results) -> None:
    assert row(results, "ours", "Ours") == ["Ours", "100", "200", "0.25", "1.50 / 8.00", "3.1", "0", "50"]


def test_nobody_stands_in_the_direct_way(results: Results) -> None:
    assert row(results, "direct", "direct") == ["direct", "100", "", "", "", "", "0", ""]


def test_what_was_promised_is_held_against_what_was_found(results: Results) -> None:
    found = {promise.text: (promise.found, promise.kept) for promise in promises(results, "ours")}
    assert found["times LiteLLM's requests/s"] == (50.0, True)
    assert found["times the Go proxy's CPU per short request"] == (2.0, True)
    assert found["ms of TTFT p50 above the Go proxy's at 128 streams"] == (0.5, True)
    assert found["ms of TTFT p99 above the Go proxy's at 128 streams"] == (8.0, False)
    assert found["errors of 2,000 slow streams"] == (0.0, True)


def test_of_rounds_the_median_counts_and_of_errors_the_worst() -> None:
    found = Results()
    for failed, rate in ((0, 10.0), (3, 30.0), (0, 20.0)):
        found.add("ours", SLOW, run(failed=failed, requests_per_second=rate))
    assert found.of("ours", SLOW, "requests_per_second") == 20.0
    assert found.worst("ours", SLOW, "failed") == 3
