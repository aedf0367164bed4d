"""The report as one HTML file. Nothing in it is fetched from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import jinja2

from cluster_ai import __version__
from cluster_ai.bench import results as bench
from cluster_ai.bench.results import Result
from cluster_ai.report import figures, measurements
from cluster_ai.report.figures import COLOURS, Bars
from cluster_ai.report.measurements import Drawn, Measurements
from cluster_ai.rollout.journal import STATES, Rollout
from cluster_ai.rollout.prometheus import Span
from cluster_ai.sizes import counted

MOST_PARTS = 7  # of a bar; the rest is put together


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of. None: it could not be asked, and `missing` tells why, in sentences.

    usage: the gateway's answer, kept apart by day, user and model.
    """

    cluster: str
    span: Span
    measured: Measurements | None
    usage: Mapping[str, Any] | None
    bench: Sequence[Result]
    rollouts: Sequence[Rollout]
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class Figure:
    """plot None: there is nothing to draw, and `empty` says so."""

    title: str
    says: str
    plot: Any = None
    legend: Sequence[str] = ()  # in the order of COLOURS
    empty: str = ""
    rows: Sequence[Mapping[str, str]] = ()
    note: str = ""


def html(material: Material) -> str:
    sections = {
        "Use": _use(material),
        **_measured(material),
        "Alerts": _alerts(material),
        "Rollouts": [_rollouts(material)],
        "Benchmarks": [_bench(material)],
    }
    plots = {f"{name}: {it.title}": it.plot for name, section in sections.items() for it in section if it.plot}
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        files(__package__).joinpath("page.html").read_text()
    )
    return template.render(
        cluster=material.cluster,
        first=day(material.span[0]),
        last=day(material.span[1]),
        made=moment(material.span[1]),
        version=__version__,
        since=_since(material),
        missing=material.missing,
        tiles=tiles(material),
        sections=sections,
        colours=COLOURS,
        plots=figures.embedded(plots),
    )


def _since(material: Material) -> str:
    measured = material.measured
    return moment(measured.span[0]) if measured and measured.span[0] - material.span[0] > 2 * measured.step else ""


def tiles(material: Material) -> dict[str, str]:
    """The figures at the top of the page; what isn't known isn't among them."""
    found: dict[str, str] = {}
    if material.usage is not None:
        total = material.usage["total"]
        found["requests answered"] = f"{total['requests']:,}"
        found["tokens written"] = f"{total['completion_tokens']:,}"
        found["people and programs"] = str(len({line["user"] for line in material.usage["lines"]}))
    if (measured := material.measured) is not None:
        requests, failed, first, speed = (
            measured.figures[name]
            for name in (measurements.REQUESTS, measurements.FAILED, measurements.FIRST_TOKEN, measurements.SPEED)
        )
        if requests:
            found["of the requests failed"] = f"{(failed or 0) / requests:.2%}"
        if first is not None:
            found["95 % of answers begin within"] = f"{first:.2g} s"
        if speed is not None:
            found["tokens per second of an answer"] = f"{speed:.1f}"
        found["alerts fired"] = str(sum(len(it.times) for it in measured.fired))
    found["rollouts"] = str(len(_recent(material)))
    return found


def _use(material: Material) -> list[Figure]:
    if material.usage is None:
        return [Figure("Tokens", "", empty="The gateway could not be asked what was used.")]
    lines = material.usage["lines"]
    if not lines:
        return [Figure("Tokens", "", empty="Nobody used anything in this time.")]
    first, last = material.usage["first"], material.usage["last"]
    found = []
    for key, title in (("model", "Tokens by model"), ("user", "Tokens by user")):
        bars = by_day(lines, key, days(first, last))
        says = "Of prompts and answers together; days are of UTC."
        found.append(Figure(title, says, figures.stacked(bars, "tokens"), tuple(bars.parts), rows=_totals(lines, key)))
    return found


def by_day(lines: Sequence[Mapping[str, Any]], key: str, wanted: Sequence[str]) -> Bars:
    """The parts that are most first; those beyond MOST_PARTS as one."""
    sums: dict[str, float] = {}
    for line in lines:
        sums[line[key]] = sums.get(line[key], 0) + _tokens(line)
    order = sorted(sums, key=lambda name: -sums[name])
    shown = set(order[:MOST_PARTS])
    others = counted(len(order) - MOST_PARTS, "other")
    parts = {name: dict.fromkeys(wanted, 0.0) for name in order[:MOST_PARTS]}
    if len(order) > MOST_PARTS:
        parts[others] = dict.fromkeys(wanted, 0.0)
    for line in lines:
        part = parts[line[key] if line[key] in shown else others]
        if line["day"] in part:
            part[line["day"]] += _tokens(line)
    return Bars(tuple(wanted), {name: tuple(values.values()) for name, values in parts.items()})


def _tokens(line: Mapping[str, Any]) -> int:
    return int(line["prompt_tokens"]) + int(line["completion_tokens"])


def _totals(lines: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, str]]:
    sums: dict[str, list[float]] = {}
    for line in lines:
        of = sums.setdefault(line[key], [0, 0, 0, 0])
        for at, name in enumerate(("requests", "prompt_tokens", "completion_tokens", "seconds")):
            of[at] += line[name]
    return [
        {
            key: name,
            "requests": f"{r:,.0f}",
            "tokens in": f"{i:,.0f}",
            "tokens out": f"{o:,.0f}",
            "hours": f"{s / 3600:.1f}",
        }
        for name, (r, i, o, s) in sorted(sums.items(), key=lambda item: -(item[1][1] + item[1][2]))
    ]


def _measured(material: Material) -> dict[str, list[Figure]]:
    measured = material.measured
    if measured is None:
        return {"Speed, failures and hosts": [Figure("Measurements", "", empty="There are no measurements.")]}
    return {
        name: [_over_time(it, measured, material.rollouts) for it in drawn if it.series or it.chart.always]
        for name, drawn in measured.sections.items()
    }


def _over_time(drawn: Drawn, measured: Measurements, rollouts: Sequence[Rollout]) -> Figure:
    chart = drawn.chart
    if not drawn.series:
        return Figure(chart.title, chart.says, empty="None." if chart.unit == "count" else "Nothing was measured.")
    kept = "fell most" if chart.falls else "are highest"
    left_out = (
        f" Drawn are the {len(drawn.series)} that {kept}, {drawn.left_out} more are not." if drawn.left_out else ""
    )
    rows = []
    for series in drawn.series:
        values = [value for _, value in series.points]
        shown = {"lowest": min(values), "mean": sum(values) / len(values), "highest": max(values), "last": values[-1]}
        rows.append({"": series.name, **{name: _value(value, chart.unit) for name, value in shown.items()}})
    plot = figures.over_time(drawn, measured.span, measured.step, rollouts)
    return Figure(chart.title, chart.says + left_out, plot, [it.name for it in drawn.series], rows=rows)


def _value(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value:.1%}"
    return f"{value:.2f} s" if unit == "seconds" else f"{value:.1f}"


def _alerts(material: Material) -> list[Figure]:
    measured = material.measured
    if measured is None:
        return [Figure("Alerts that fired", "", empty="Prometheus could not be asked for them.")]
    if not measured.fired:
        return [Figure("Alerts that fired", "", empty="None fired in this time.")]
    rows = [
        {
            "alert": it.name,
            "of": it.of,
            "severity": it.severity,
            "times": str(len(it.times)),
            "in all": lasting(it.seconds),
            "last": moment(it.times[-1][1]),
        }
        for it in measured.fired
    ]
    says = "What each means and what to do is in docs/alerts.md."
    return [Figure("Alerts that fired", says, figures.fired(measured.fired, measured.span), rows=rows)]


def _recent(material: Material) -> list[Rollout]:
    return [it for it in material.rollouts if material.span[0] <= it.started <= material.span[1]]


def _rollouts(material: Material) -> Figure:
    recent = _recent(material)
    says = "A dashed line in the plots above marks when each began."
    rows = [
        {
            "began": moment(it.started),
            "rollout": it.id,
            "ended": f"{it.state}: {it.reason.splitlines()[0] if it.reason else STATES[it.state]}",
            "hosts": str(len(it.intent.hosts)),
            "strategy": it.intent.strategy,
            "took": lasting(it.ended - it.started) if it.ended else "",
            "by": it.who,
        }
        for it in recent
    ]
    return Figure("Rollouts", says if rows else "", empty="" if rows else "There was none in this time.", rows=rows)


def _bench(material: Material) -> Figure:
    title, says = "Measured by cluster-ai bench", "Every measurement that is kept, also of earlier times."
    if not material.bench:
        return Figure(title, "", empty="Nothing was measured yet. Run `cluster-ai bench` before and after updates.")
    last = {(it.model, it.worker): at for at, it in enumerate(material.bench)}
    latest = [(material.bench[at], material.bench[:at]) for _, at in sorted(last.items())]
    return Figure(
        title,
        says,
        figures.bench(material.bench),
        [figures.of(it) for it, _ in latest],
        rows=[bench.row(it, earlier) for it, earlier in latest],
        note=" ".join(f"{text}." for it, earlier in latest if (text := bench.slower(it, earlier))),
    )


def days(first: str, last: str) -> list[str]:
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(begin + timedelta(days=number)).isoformat() for number in range((end - begin).days + 1)]


def day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def lasting(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
