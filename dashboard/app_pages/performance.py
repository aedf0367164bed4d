"""How fast answers were, over any stretch of time, and beside another one: an hour, a day, another release."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import rollouts, units, view
from dashboard.history import PERCENTILES, Figures
from dashboard.live import Sources
from dashboard.rollouts import Brief

_HOUR, _DAY = 3600.0, 86400.0
RANGES: Mapping[str, float] = {
    "The last hour": _HOUR,
    "The last 6 hours": 6 * _HOUR,
    "The last day": _DAY,
    "The last week": 7 * _DAY,
    "The last month": 30 * _DAY,
}
_CHOSEN = "From … to …"
_NOTHING, _BEFORE, _YESTERDAY, _LAST_WEEK = "nothing", "the time just before", "a day earlier", "a week earlier"
_EVERY = "all models"
_GROWN = 0.1  # share from which a change is worth a sign


@dataclass(frozen=True, slots=True)
class Between:
    begin: float  # seconds since 1970
    end: float

    def earlier(self, seconds: float) -> Between:
        return Between(self.begin - seconds, self.end - seconds)

    def told(self) -> str:
        return f"{view.moment(self.begin)} to {view.moment(self.end)}"


def draw(sources: Sources) -> None:
    st.title("Performance", anchor=False)
    served = view.told(sources, rollouts.listed)
    between, other, model = _choices(sources, [it for it in served.value or () if it.ended])
    now = sources.performance(between.begin, between.end, model)
    view.stale(now)
    if now.value is None:
        return
    before = sources.performance(other.begin, other.end, model) if other else None
    st.caption(between.told() + (f", against {other.told()}" if other else ""))
    figures, charts = now.value
    past = before.value if before else None
    if not figures.requests and not (past and past[0].requests):
        view.empty("No requests in this time.", "Choose another one, or send a prompt from the Playground.")
        return
    _totals(figures, past[0] if past else None)
    _percentiles(figures, past[0] if past else None)
    shift = between.begin - other.begin if other else 0.0
    _charts(charts, past[1] if past else None, shift)


def _choices(sources: Sources, ended: Sequence[Brief]) -> tuple[Between, Between | None, str | None]:
    releases = {f"before and after the rollout of {view.moment(it.started)}": it for it in ended if it.state == "done"}
    time_, against, model = st.columns(3)
    with time_:
        chosen = str(st.selectbox("Time", [*RANGES, _CHOSEN, *releases], key="perf_time", persist_state="session"))
    with model:
        reading = sources.served()
        names = [m.name for m in reading.value.models] if reading.value else []
        asked = str(st.selectbox("Model", [_EVERY, *names], key="perf_model", persist_state="session"))
    of = None if asked == _EVERY else asked
    if chosen in releases:
        with against:
            st.selectbox("Against", ["the release before"], disabled=True)
        after, before = _around(releases[chosen], ended)
        return after, before, of
    between = _from_to() if chosen == _CHOSEN else Between(time.time() - RANGES[chosen], time.time())
    length = between.end - between.begin
    shifts = {_NOTHING: None, _BEFORE: length, _YESTERDAY: _DAY, _LAST_WEEK: 7 * _DAY}
    with against:
        shift = shifts[str(st.selectbox("Against", list(shifts), key="perf_against", persist_state="session"))]
    return between, between.earlier(shift) if shift else None, of


def _from_to() -> Between:
    now = datetime.now().replace(second=0, microsecond=0)
    left, right = st.columns(2)
    begin = left.datetime_input("From", value=now - timedelta(hours=1), max_value=now, key="perf_from")
    end = right.datetime_input("To", value=now, max_value=now + timedelta(minutes=1), key="perf_to")
    if begin is None or end is None or end <= begin:
        st.warning("The end must come after the beginning; the last hour is shown.", icon=":material/warning:")
        return Between(time.time() - _HOUR, time.time())
    return Between(begin.timestamp(), end.timestamp())


def _around(rollout: Brief, ended: Sequence[Brief]) -> tuple[Between, Between]:
    """From its end to the next rollout, a day at most; and as long a time until it began."""
    assert rollout.ended is not None
    later = [it.started for it in ended if it.started > rollout.ended]
    end = min([time.time(), rollout.ended + _DAY, *later])
    length = max(end - rollout.ended, 60.0)
    return Between(rollout.ended, rollout.ended + length), Between(rollout.started - length, rollout.started)


def _totals(now: Figures, before: Figures | None) -> None:
    numbers: Sequence[tuple[str, str, Callable[[float | None], str], Callable[[Figures], float | None], str]] = (
        ("Requests", "off", units.count, lambda f: f.requests, "That ended in this time."),
        ("Failed", "inverse", units.share, lambda f: f.failed, "Through the cluster's fault. Of all models together."),
        ("Tokens", "off", units.count, lambda f: f.tokens, "Generated."),
        ("Speed", "normal", units.rate, lambda f: f.speed, "Tokens per second of one answer, by the engines' clocks."),
        ("Wait", "inverse", units.seconds, lambda f: f.waited, "For a free slot: 95 % of the requests waited less."),
    )
    with view.row():
        for name, better, told, value, meaning in numbers:
            change = _change(value(now), value(before)) if before else None
            colour: Any = better if change is not None and abs(change) >= _GROWN else "off"
            delta = f"{_signed(change)}, from {told(value(before))}" if before and change is not None else None
            st.metric(name, told(value(now)), delta, delta_color=colour, border=True, help=meaning)


def _percentiles(now: Figures, before: Figures | None) -> None:
    """A row for each kind of time, a column for each percentile; beside it what it was, where that is asked for."""
    kinds: Sequence[tuple[str, Callable[[Figures], Sequence[float | None]]]] = (
        ("Whole answer", lambda f: f.response),
        ("First token", lambda f: f.first_token),
        ("Token to token", lambda f: f.inter_token),
    )
    rows = []
    for name, values in kinds:
        row = {"": name}
        for place, q in enumerate(PERCENTILES):
            mine, past = values(now)[place], values(before)[place] if before else None
            row[f"{units.share(q)} within"] = _beside_it(mine, past) if before else units.seconds(mine)
        rows.append(row)
    frame = pd.DataFrame(rows)
    view.table(frame, list(frame.columns), {}, key="perf_percentiles")
    if before:
        st.caption("▲ better, ▼ worse than before, by a tenth and more; what it was in brackets.")


def _beside_it(now: float | None, before: float | None) -> str:
    change = _change(now, before)
    sign = "" if change is None or abs(change) < _GROWN else "▲ " if change < 0 else "▼ "
    return f"{sign}{units.seconds(now)} ({units.seconds(before)})"


def _change(now: float | None, before: float | None) -> float | None:
    """As a share; None where there is nothing to compare with."""
    return now / before - 1 if now is not None and before else None


def _signed(change: float) -> str:
    return f"{100 * change:+.0f} %"


def _charts(now: Mapping[str, pd.DataFrame], before: Mapping[str, pd.DataFrame] | None, shift: float) -> None:
    charts: Sequence[tuple[str, str, str, view.Unit]] = (
        ("response", "Time to a whole answer", "seconds", "seconds"),
        ("first_token", "Time to the first token", "seconds", "seconds"),
        ("speed", "Speed", "tokens per second of an answer", "per_second"),
        ("tokens", "Tokens", "per second, all together", "per_second"),
        ("requests", "Requests", "per second", "per_second"),
        ("waited", "Wait for a free slot", "seconds, 95 % within", "seconds"),
    )
    left, right = st.columns(2)
    for number, (key, title, label, unit) in enumerate(charts):
        frame = now[key]
        if before is not None:
            frame = _beside(frame, before[key], shift)
        with (left, right)[number % 2]:
            view.chart(title, label, frame, unit, key=f"perf-{key}", nothing="No values in this time.")


def _beside(now: pd.DataFrame, before: pd.DataFrame, shift: float) -> pd.DataFrame:
    """Both on the times of now. Of percentiles the median and the 95th are enough to compare."""
    kept = {"50 % within", "95 % within"}
    if now["series"].nunique() > 1:
        now, before = (frame[frame["series"].isin(kept)] for frame in (now, before))
    moved = before.assign(
        time=before["time"] + pd.Timedelta(seconds=shift), series=before["series"].astype(str) + ", before"
    )
    return pd.concat([now, moved], ignore_index=True)
