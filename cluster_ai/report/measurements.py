"""What Prometheus measured over the report's time. Whatever its client raises passes through."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from string import Template

from cluster_ai.metrics import charts, names
from cluster_ai.metrics.charts import Chart
from cluster_ai.rollout.prometheus import Prometheus, Span

POINTS = 336  # of a chart: of a week, one for each half hour
AT_ONCE = 6  # queries, each of which may be a connection by SSH
SHORTEST = 60  # seconds that a rate looks back over at least: a few scrapes
MOST = 8  # series of a chart, more than which nobody can tell apart

Points = tuple[tuple[float, float], ...]  # seconds since 1970, and the value


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Points


@dataclass(frozen=True, slots=True)
class Drawn:
    """left_out: series beyond MOST, the ones that matter least."""

    chart: Chart
    series: tuple[Series, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert, with each time that it fired."""

    name: str
    severity: str
    of: str  # what it was about, such as a worker's name
    times: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return sum(end - begin for begin, end in self.times)


@dataclass(frozen=True, slots=True)
class Measurements:
    """span: what is drawn; it begins later than what was asked for where Prometheus knows nothing of before.

    figures: over the whole span, None where nothing happened that has such a figure.
    """

    span: Span
    step: float  # seconds between two points
    sections: Mapping[str, tuple[Drawn, ...]]
    fired: tuple[Fired, ...]
    figures: Mapping[str, float | None]


_ABOUT = ("model", "worker", "host", "gpu", "job", "state", "certificate")  # labels that tell what an alert is about
REQUESTS, FAILED, FIRST_TOKEN, SPEED = "requests", "failed", "first token", "speed"
_FIGURES = {
    REQUESTS: f'sum(increase({names.TOTAL_TASKS.name}{{kind="inference"}}[$w]))',
    FAILED: f'sum(increase({names.FAILED_TASKS.name}{{kind="inference"}}[$w]))',
    FIRST_TOKEN: f"histogram_quantile(0.95, sum by (le) (rate({names.FIRST_TOKEN.name}_bucket[$w])))",
    SPEED: f"sum(increase({names.WORKER_TIMED_TOKENS.name}[$w])) / sum(increase({names.WORKER_EVAL_SECONDS.name}[$w]))",
}


def read(prometheus: Prometheus, asked: Span) -> Measurements | None:
    """None where Prometheus has measured nothing in that time."""
    first = _first(prometheus, asked)
    if first is None:
        return None
    span, step = _grid((first, asked[1]))
    end = span[1]
    window = {"w": f"{max(SHORTEST, round(step))}s"}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        drawn = {
            name: pool.map(lambda chart: _drawn(prometheus, chart, span, step, window), section)
            for name, section in charts.CHARTS.items()
        }
    return Measurements(
        span=span,
        step=step,
        sections={name: tuple(section) for name, section in drawn.items()},
        fired=_fired(prometheus, span, step),
        figures={
            name: _finite(prometheus, Template(expr).substitute(w=f"{round(end - span[0])}s"), end)
            for name, expr in _FIGURES.items()
        },
    )


def _first(prometheus: Prometheus, span: Span) -> float | None:
    """When measurements begin: among the points of the whole time, then among those before the first with a value."""
    first = None
    for _ in range(2):
        span, step = _grid(span)
        there = [at for series in prometheus.over("count(up)", span, step) for at, _ in series.points]
        if not there:
            return first
        first = max(span[0], min(there) - step)
        span = (first, min(there))
    return first


def _grid(span: Span) -> tuple[Span, float]:
    """A span of whole steps, which begins earlier by less than one, so that it ends with a point; and the step."""
    begin, end = span
    step = max(15, math.ceil((end - begin) / POINTS))
    return (end - math.ceil((end - begin) / step) * step, end), float(step)


def _finite(prometheus: Prometheus, expr: str, at: float) -> float | None:
    values = [sample.value for sample in prometheus.query(expr, at) if math.isfinite(sample.value)]
    return values[0] if values else None


def _drawn(prometheus: Prometheus, chart: Chart, span: Span, step: float, window: Mapping[str, str]) -> Drawn:
    found = []
    for number, line in enumerate(chart.lines):
        for it in prometheus.over(Template(line.expr).substitute(window), span, step):
            points = tuple((at, value) for at, value in it.points if math.isfinite(value))
            if points and not (chart.unit == "count" and not any(value for _, value in points)):
                found.append((number, Series(line.name.format_map(_Labels(it.labels)), points)))
    found.sort(key=lambda one: _matters(one[1].points, chart.falls), reverse=True)
    kept = sorted(found[:MOST], key=lambda one: (one[0], one[1].name))
    return Drawn(chart, tuple(series for _, series in kept), max(0, len(found) - MOST))


def _matters(points: Points, falls: bool) -> float:
    """How much, among the series of one chart: by its height, or by how far it fell below its own mean."""
    values = [value for _, value in points]
    mean = sum(values) / len(values)
    return (1 - min(values) / mean if mean else 1.0) if falls else mean


class _Labels(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def _fired(prometheus: Prometheus, span: Span, step: float) -> tuple[Fired, ...]:
    """What differs in labels that are not told, such as a gateway's instance, is one alert."""
    found: dict[tuple[str, str, str], set[float]] = {}
    for it in prometheus.over('ALERTS{alertstate="firing"}', span, step):
        about = ", ".join(it.labels[key] for key in _ABOUT if key in it.labels)
        alert = (it.labels.get("alertname", "?"), it.labels.get("severity", ""), about)
        found.setdefault(alert, set()).update(at for at, _ in it.points)
    fired = (Fired(*alert, spans(sorted(moments), step)) for alert, moments in found.items())
    return tuple(sorted(fired, key=lambda one: one.times[0]))


def spans(moments: Iterable[float], step: float) -> tuple[Span, ...]:
    """Moments that follow each other by a step, as times from one to the other; each lasts at least a step."""
    found: list[list[float]] = []
    for at in moments:
        if found and at - found[-1][1] <= step * 1.5:
            found[-1][1] = at
        else:
            found.append([at - step, at])
    return tuple((begin, end) for begin, end in found)
