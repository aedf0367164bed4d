"""The report's plots, by Bokeh: they are drawn by what is in the page, so that it works without a network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from cluster_ai.bench.results import Result
from cluster_ai.errors import UsageError
from cluster_ai.metrics.charts import Unit
from cluster_ai.report.measurements import Drawn, Fired
from cluster_ai.rollout.journal import Rollout
from cluster_ai.rollout.prometheus import Span

try:
    from bokeh.embed import components
    from bokeh.models import ColumnDataSource, DatetimeTickFormatter, HoverTool, NumeralTickFormatter
    from bokeh.plotting import figure
    from bokeh.resources import Resources
except ImportError:
    raise UsageError("a report needs Bokeh", remedy="pip install 'cluster-ai[report]'") from None

# As the dashboard's: they can be told apart with red-green blindness (after Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B5478A", "#9A7400", "#2A9FDB", "#6B4FA0", "#5F6B76")
_SEVERITY = {"critical": COLOURS[1], "warning": COLOURS[4]}
_FORMS: Mapping[Unit, str] = {"tokens/s": "0.[0]", "seconds": "0.[00]", "share": "0.[0]%", "count": "0.[0]"}
_LEAST: Mapping[Unit, float] = {"tokens/s": 1.0, "seconds": 0.1, "share": 0.01, "count": 1.0}  # of a y axis
_HEIGHT = 260
_DAY = "a day"  # the column beside those of the parts: no model and nobody has a space in their name
_CLOCK = "%H:%M"
_DATES = DatetimeTickFormatter(
    seconds=_CLOCK, minsec=_CLOCK, minutes=_CLOCK, hourmin=_CLOCK, hours=_CLOCK, days="%d %b", months="%b %Y"
)


@dataclass(frozen=True, slots=True)
class Bars:
    """Of each day a bar, put together of parts: part -> a value for each day."""

    days: tuple[str, ...]
    parts: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Plots as HTML: head and end for the page's own, and for each plot what stands where it is to be."""

    head: str = ""
    end: str = ""
    places: Mapping[str, str] = field(default_factory=dict)


def embedded(plots: Mapping[str, Any]) -> Embedded:
    if not plots:
        return Embedded()
    script, places = components(dict(plots))
    return Embedded(Resources(mode="inline", components=["bokeh"]).render_js(), script, places)


def over_time(drawn: Drawn, span: Span, step: float, rollouts: Sequence[Rollout]) -> Any:
    """A gap in the measurements is a gap in the line. rollouts: when they began is marked."""
    plot = _plot(x_axis_type="datetime", x_range=_range(span))
    unit = drawn.chart.unit
    for number, series in enumerate(drawn.series):
        xs, ys = _broken(series.points, step)
        source = ColumnDataSource({"at": xs, "value": ys, "name": [series.name] * len(xs)})
        colour = COLOURS[number % len(COLOURS)]
        plot.line("at", "value", source=source, color=colour, width=2)
        plot.scatter("at", "value", source=source, color=colour, size=3)  # else a lone point would not be seen
    _axes(plot, unit)
    _hover(plot, _FORMS[unit], unit)
    marks = [_local(it.started) for it in rollouts if span[0] <= it.started <= span[1]]
    plot.vspan(x=marks, line_color="#5F6B76", line_dash="dashed")
    return plot


def stacked(bars: Bars, unit: str) -> Any:
    names = list(bars.parts)
    form = "%d %b" if len(bars.days) <= 365 else "%d %b %Y"
    days = [date.fromisoformat(day).strftime(form) for day in bars.days]
    plot = _plot(x_range=days)
    plot.xaxis.major_label_orientation = "horizontal" if len(days) <= 10 else "vertical"
    source = ColumnDataSource({_DAY: days, **{name: list(bars.parts[name]) for name in names}})
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    plot.vbar_stack(names, x=_DAY, source=source, width=0.7, color=colours)
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.y_range.start = 0
    plot.xgrid.visible = False
    plot.add_tools(HoverTool(tooltips=[("", f"@{{{_DAY}}}"), ("$name", f"@$name{{0,0}} {unit}")]))
    return plot


def fired(alerts: Sequence[Fired], span: Span) -> Any:
    """A row for each alert, with a bar for each time that it fired."""
    rows = [f"{it.name} {it.of}".strip() for it in alerts]
    apart = list(
        dict.fromkeys(reversed(rows))
    )  # of two severities one row; Bokeh draws none where a name is there twice
    plot = _plot(height=90 + 26 * len(apart), x_axis_type="datetime", x_range=_range(span), y_range=apart)
    times = [(row, it, begin, end) for row, it in zip(rows, alerts, strict=True) for begin, end in it.times]
    source = ColumnDataSource(
        {
            "name": [row for row, *_ in times],
            "begin": [_local(begin) for *_, begin, _ in times],
            "end": [_local(end) for *_, end in times],
            "colour": [_SEVERITY.get(it.severity, COLOURS[7]) for _, it, *_ in times],
        }
    )
    plot.hbar("name", left="begin", right="end", height=0.6, color="colour", source=source)
    _dates(plot)
    formats: Any = {"@begin": "datetime", "@end": "datetime"}
    plot.add_tools(
        HoverTool(tooltips=[("", "@name"), ("from", "@begin{%F %H:%M}"), ("to", "@end{%F %H:%M}")], formatters=formats)
    )
    return plot


def bench(results: Iterable[Result]) -> Any:
    """Every measurement that there is, a line for each model on each worker."""
    plot = _plot(x_axis_type="datetime")
    lines: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        lines.setdefault((result.model, result.worker), []).append(result)
    for number, (_, found) in enumerate(sorted(lines.items())):
        source = ColumnDataSource(
            {
                "at": [_local(it.at) for it in found],
                "value": [it.tokens_per_second for it in found],
                "name": [f"{of(it)}, engine {it.engine}" for it in found],
            }
        )
        colour = COLOURS[number % len(COLOURS)]
        plot.line("at", "value", source=source, color=colour, width=2)
        plot.scatter("at", "value", source=source, color=colour, size=7)
    _axes(plot, "tokens/s")
    _hover(plot, _FORMS["tokens/s"], "tokens/s")
    return plot


def of(result: Result) -> str:
    return f"{result.model} on {result.worker}"


def _plot(*, height: int = _HEIGHT, **how: Any) -> Any:
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="xpan,xbox_zoom,reset",
        output_backend="svg",
        **how,
    )
    plot.outline_line_color = None
    plot.grid.grid_line_color = "#E6EBF0"
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = "#B8C2CC"
        axis.minor_tick_line_color = None
        axis.major_label_text_color = "#44525F"
    return plot


def _axes(plot: Any, unit: Unit) -> None:
    _dates(plot)
    plot.yaxis.formatter = NumeralTickFormatter(format=_FORMS[unit])
    plot.y_range.start = 0
    plot.y_range.min_interval = _LEAST[unit]


def _dates(plot: Any) -> None:
    plot.xaxis.formatter = _DATES
    plot.xaxis.ticker.desired_num_ticks = 5


def _hover(plot: Any, form: str, unit: Unit) -> None:
    shown = "" if unit in ("share", "count") else f" {unit}"
    plot.add_tools(
        HoverTool(
            tooltips=[("", "@name"), ("", f"@value{{{form}}}{shown}"), ("", "@at{%F %H:%M}")],
            formatters={"@at": "datetime"},
        )
    )


def _local(at: float) -> float:
    """Bokeh's milliseconds, which it shows as they are: so that they read as this machine's time."""
    return (at + time.localtime(at).tm_gmtoff) * 1000


def _range(span: Span) -> tuple[float, float]:
    return _local(span[0]), _local(span[1])


def _broken(points: Sequence[tuple[float, float]], step: float) -> tuple[list[float], list[float]]:
    """Milliseconds and values, with a NaN where more than a step has no value."""
    xs: list[float] = []
    ys: list[float] = []
    before = None
    for at, value in points:
        if before is not None and at - before > step * 1.5:
            xs.append(_local(at - step))
            ys.append(math.nan)
        xs.append(_local(at))
        ys.append(value)
        before = at
    return xs, ys
