"""How the pages draw: charts, ages, notices and empty places, the same everywhere."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal, TypeVar

import altair as alt
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cluster_ai.errors import ClusterAIError
from dashboard import units
from dashboard.answers import Answer, Pieces
from dashboard.gateway import UnauthorizedError
from dashboard.live import SPANS, Reading, Sources
from dashboard.served import Served

T = TypeVar("T")
Unit = Literal["per_second", "seconds", "share", "small_share", "gib", "count"]

# How each unit's axis and tooltip write a number (d3's formats), and the least top of the axis: an idle cluster's line
# lies at the bottom, instead of noise filling the height.
_UNITS: dict[Unit, tuple[str, str, float]] = {
    "per_second": ("~r", ".3~r", 0.1),
    "seconds": ("~r", ".3~r", 0.1),
    "share": (".0%", ".1%", 1),
    "small_share": (".0%", ".1%", 0.05),
    "gib": (".3~r", ".2f", 1),
    "count": ("~r", ".2~r", 2),
}
CHART_HEIGHT = 180
DATA = alt.NamedData("shown")  # of a chart
# Vega writes hours as 11:55 before midnight and before noon; people of a cluster work by 23:55.
_HOURS = "timeFormat(datum.value, hours(datum.value) + minutes(datum.value) == 0 ? '%b %d' : '%H:%M')"


def heading(title: str) -> tuple[int, DeltaGenerator]:
    """The page's title with the choice of time beside it; returns the chosen seconds, and where `age` writes."""
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    left.title(title, anchor=False)
    with right.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        slot = st.container(width="content")
        chosen = st.segmented_control(
            "Time shown",
            list(SPANS),
            default=next(iter(SPANS)),
            required=True,
            key="span",
            label_visibility="collapsed",
            persist_state="session",
        )
    return SPANS[str(chosen)], slot


def age(slot: DeltaGenerator, newest: float | None) -> None:
    """How old what is shown is. newest: the last scrape that it rests on."""
    if newest is None:
        slot.empty()  # a fragment may write later only where it wrote in the whole page's run
    else:
        slot.caption(f"Data {units.age(time.time() - newest)}", width="content")


def problem(error: ClusterAIError) -> None:
    where = f" at `{error.where}`" if error.where else ""
    what = error.what[:1].upper() + error.what[1:]
    st.error(f"**{what}**{where}\n\n{error.remedy[:1].upper()}{error.remedy[1:]}", icon=":material/cloud_off:")


def stale(reading: Reading[Any]) -> None:
    """Says what is wrong with where the data comes from, and how old that is which is still shown."""
    if reading.problem is None:
        return
    problem(reading.problem)
    if reading.value is not None:
        st.caption(f"What follows is {units.age(time.time() - reading.at)}.")


def told(sources: Sources, read: Callable[..., T], *asked: Any) -> Reading[T]:
    """What the gateway tells, for a page that has no other source; says what is wrong with it."""
    try:
        reading = sources.told(read, *asked)
    except UnauthorizedError:
        st.rerun()
    stale(reading)
    return reading


def moment(at: float) -> str:
    """A time of the head host's clock, as people write it."""
    return time.strftime("%d %b %Y, %H:%M", time.localtime(at))


def empty(what: str, remedy: str) -> None:
    with st.container(border=True):
        st.markdown(f"**{what}**")
        st.caption(remedy)


def begin(sources: Sources, reading: Reading[Any], slot: DeltaGenerator) -> Reading[Served]:
    """How every page of numbers begins: their age, and what is wrong at their sources. Returns the gateway's word."""
    try:
        served = sources.served()
    except UnauthorizedError:
        st.rerun()
    age(slot, reading.value.newest if reading.value else None)
    stale(reading)
    if served.problem is not None:
        problem(served.problem)
    return served


def streamed(pieces: Pieces, waiting: str) -> tuple[str, Answer] | None:
    """Writes an answer as it comes; None where none came, which is said. Leaving the page hangs up."""
    ends: list[Answer] = []

    def text() -> Iterator[str]:
        for piece in pieces:
            if isinstance(piece, Answer):
                ends.append(piece)
            else:
                yield piece

    try:
        with st.spinner(waiting, show_time=True):
            first = next(text(), "")
        said = st.write_stream(chain([first], text()))
    except UnauthorizedError:
        st.rerun()
    except ClusterAIError as error:
        problem(error)
        return None
    finally:
        pieces.close()
    return str(said), ends[0]


def metrics(*shown: tuple[str, str, str | None]) -> None:
    """Numbers beside each other, two in a row on a phone. shown: title, value, what it means."""
    with row():
        for title, value, meaning in shown:
            st.metric(title, value, border=True, help=meaning)


@contextmanager
def row() -> Iterator[None]:
    """For numbers: as many beside each other as fit."""
    with st.container(horizontal=True, gap="small"):
        yield


@contextmanager
def card(title: str, unit: str = "") -> Iterator[None]:
    with st.container(border=True):
        st.markdown(f"**{title}**" + (f" :small[:gray[{unit}]]" if unit else ""))
        yield


def chart(title: str, label: str, frame: pd.DataFrame, unit: Unit, *, key: str, nothing: str) -> None:
    """A card with one line a series over time, or a sentence where there is nothing to draw."""
    with card(title, label):
        if frame["value"].notna().any():
            drawing(_lines(tuple(sorted(frame["series"].unique())), unit), frame, CHART_HEIGHT, key=key)
        else:
            with st.container(
                height=CHART_HEIGHT, border=False, horizontal_alignment="center", vertical_alignment="center"
            ):
                st.caption(nothing)


def described(chart: alt.LayerChart | alt.FacetChart) -> dict[str, Any]:
    """What Altair makes of a chart of DATA; it takes a tenth of a second, so it is to be kept, for any other data."""
    with alt.theme.enable("none"):
        return dict(chart.to_dict())


def drawing(described: dict[str, Any], frame: pd.DataFrame, height: int, *, key: str) -> None:
    """A chart of this data, as `described` has it."""
    spec = copy.deepcopy(described)  # which Streamlit changes
    spec.setdefault("datasets", {})[DATA.name] = frame
    st.vega_lite_chart(spec=spec, width="stretch", height=height, key=key)


@functools.lru_cache(maxsize=500)
def _lines(names: tuple[str, ...], unit: Unit) -> dict[str, Any]:
    """One line a name. Made once: it depends on no value, so new values move the lines and draw no chart anew."""
    axis, exact, least = _UNITS[unit]
    base = alt.Chart(DATA).encode(
        x=alt.X("time:T", title=None, axis=alt.Axis(grid=False, tickCount=6, labelOverlap=True, labelExpr=_HOURS)),
        y=alt.Y("value:Q", title=None, axis=alt.Axis(format=axis, tickCount=4), scale=alt.Scale(domainMin=0)),
        color=alt.Color("series:N", scale=alt.Scale(domain=names), legend=_legend(names), title=None),
    )
    nearest = alt.selection_point(
        "nearest", on="pointerover", nearest=True, fields=["time"], empty=False, clear="pointerout"
    )
    points = (
        base.mark_point(size=40, filled=True)
        .encode(
            opacity=alt.condition(nearest, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("time:T", title="Time", format="%b %d, %H:%M:%S"),
                alt.Tooltip("series:N", title="Of"),
                alt.Tooltip("value:Q", title="Value", format=exact),
            ],
        )
        .add_params(nearest)
    )
    floor = (
        alt.Chart(alt.InlineData([{"value": 0.0}, {"value": float(least)}])).mark_point(opacity=0).encode(y="value:Q")
    )
    drawn = alt.layer(floor, base.mark_line(strokeWidth=2, interpolate="monotone"), points)
    return described(drawn.properties(padding={"left": 0, "right": 8, "top": 4, "bottom": 0}))


def _legend(names: Sequence[str]) -> alt.Legend | None:
    if len(names) < 2:
        return None
    return alt.Legend(orient="top", title=None, columns=4, labelLimit=180, symbolType="stroke", offset=4, padding=0)


def table(frame: pd.DataFrame, columns: Sequence[str], config: Mapping[str, Any], *, key: str) -> None:
    order = list(columns)
    nothing = units.NOTHING
    st.dataframe(
        frame,
        hide_index=True,
        column_order=order,
        column_config=dict(config),
        key=key,
        height="auto",
        placeholder=nothing,
    )
