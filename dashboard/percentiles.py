"""Percentiles of a histogram's buckets, as PromQL's histogram_quantile has them. Pure.

Several percentiles of one histogram cost Prometheus its buckets once for each; read here, they cost them once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from dashboard.prometheus import Lines, Sample

Buckets = Sequence[tuple[float, float]]  # upper bound, how many (or how many a second) are not above it; by bound


def buckets(histogram: str, window: str, selector: str = "") -> str:
    """The query whose answer `of` and `over` read. selector: which series, such as {model="x"}; empty: all."""
    return f"sum by (le) (rate({histogram}_bucket{selector}[{window}]))"


def lines(histogram: str, window: str, selector: str = "") -> list[Lines]:
    """The buckets as a chart's lines, for `over`."""
    return [Lines(buckets(histogram, window, selector), lambda labels: labels["le"])]


def percentile(q: float, found: Buckets) -> float | None:
    """The values of a bucket are taken to lie evenly in it; above the last bound that is finite nothing is known.

    None where there are no values.
    """
    if len(found) < 2 or not found[-1][1] > 0:
        return None
    rank = q * found[-1][1]
    low = below = 0.0
    for bound, count in found:
        if count >= rank:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, max(below, count)
    return low


def of(qs: Sequence[float], samples: Sequence[Sample]) -> tuple[float | None, ...]:
    found = sorted((float(it.labels["le"]), it.value) for it in samples if it.value is not None)
    return tuple(percentile(q, found) for q in qs)


def over(names: Mapping[str, float], frame: pd.DataFrame) -> pd.DataFrame:
    """From the chart of buckets to that of percentiles. names: of each line -> which percentile it is, 0..1."""
    if frame.empty:
        return frame
    wide = frame.pivot_table(index="time", columns="series", values="value", dropna=False)
    bounds = sorted(map(float, wide.columns))
    wide = wide.set_axis([float(it) for it in wide.columns], axis="columns")[bounds]
    rows = [[(b, v) for b, v in zip(bounds, row, strict=True) if not math.isnan(v)] for row in wide.to_numpy()]
    drawn = pd.DataFrame({name: list(map(partial(percentile, q), rows)) for name, q in names.items()}, wide.index)
    return drawn.astype("float64").reset_index().melt("time", var_name="series", value_name="value")
