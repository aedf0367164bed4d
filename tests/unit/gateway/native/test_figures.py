from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from cluster_ai.gateway.api.native.figures import INTERVAL, WINDOW, Figures, quantile
from cluster_ai.gateway.metering import Meter, Usage

BOUNDS = (0.1, 1.0, 10.0, math.inf)


def buckets(*values: float) -> dict[float, float]:
    return {bound: float(sum(value <= bound for value in values)) for bound in BOUNDS}


def test_a_quantile_is_reckoned_within_its_bucket() -> None:
    assert quantile(0.5, buckets(0.5, 0.5), {}) == pytest.approx(0.55)
    assert quantile(1.0, buckets(0.5), {}) == pytest.approx(1.0)
    assert quantile(0.5, buckets(0.05, 5.0), {}) == pytest.approx(0.1)


def test_what_was_before_the_window_does_not_count() -> None:
    assert quantile(0.99, buckets(0.05, 5.0), buckets(5.0)) == pytest.approx(0.099)
    assert quantile(0.5, buckets(5.0), buckets(5.0)) is None
    assert quantile(0.5, {}, {}) is None


def test_what_is_above_every_bound_counts_as_the_last_one() -> None:
    assert quantile(0.5, buckets(99.0), {}) == 10.0


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_stands_for(values: list[float], share: float) -> None:
    found = quantile(share, buckets(*values), {})
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    top = next(bound for bound in BOUNDS if true <= bound)
    bottom = max((bound for bound in BOUNDS if bound < true), default=0.0)
    assert found is not None
    assert bottom - 1e-9 <= found <= top + 1e-9


def test_a_minute_is_remembered_and_what_came_before_is_not_in_the_rates() -> None:
    registry, now = CollectorRegistry(), [0.0]
    meter = Meter(registry)
    figures = Figures(registry, lambda: now[0])
    meter.request("/api/v1/chat", 200)
    meter.request("/health", 200)
    meter.request("/api/chat", 503)
    meter.usage("m", "w", Usage(3, 40, 1.0, 0.1, 0.5))
    meter.task(0.5, failed=False)
    before, after = figures.span()
    assert (after.requests - before.requests, after.errors, after.tokens, after.tasks) == (2, 1, 40, 1)
    while now[0] < WINDOW + INTERVAL:
        now[0] += INTERVAL
        figures.remember()
    before, after = figures.span()
    assert after.at - before.at <= WINDOW
    assert (after.requests - before.requests, after.requests) == (0, 2)
