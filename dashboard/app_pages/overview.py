"""The first page: is the cluster well, and how much does it do."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import attention, units, view
from dashboard.live import REFRESH, Sources
from dashboard.served import Served

_TILES = 60  # of workers; more are only counted
_STATES = {  # a worker's state -> colour and sign of its tile; what isn't well comes first
    "down": ("red", "cancel"),
    "draining": ("orange", "pause_circle"),
    "joining": ("blue", "hourglass_top"),
    "active": ("green", "check_circle"),
    "asleep": ("gray", "bedtime"),
}


def draw(sources: Sources) -> None:
    seconds, slot = view.heading("Overview")
    _now(sources, seconds, slot)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources, seconds: int, slot: DeltaGenerator) -> None:
    reading = sources.overview(seconds)
    served = view.begin(sources, reading, slot)
    now = reading.value
    if now is None:
        return
    if now.newest is None:
        view.empty(
            "Prometheus has no values of this cluster yet.",
            "They come within a minute of the start; if they don't, `cluster-ai status` says what does not run.",
        )
        return
    quiet = reading.problem is None and served.problem is None
    _notices(attention.notices(now, served.value), attention.well(now, served.value) if served.value and quiet else "")
    if served.value is not None:
        _tiles(served.value)
    everyone, share = now.workers_up + len(now.workers_down), now.failed / now.finished if now.finished else 0.0
    lately = "over the last minute"
    view.metrics(
        ("Workers up", f"{now.workers_up} of {everyone}", None),
        ("Requests", units.rate(now.requests), f"Answered per second, {lately}."),
        ("Tokens", units.rate(now.tokens), f"Generated per second by all workers together, {lately}."),
        ("Typical answer", units.seconds(now.p50), f"Half of the answers were complete in less than this, {lately}."),
        ("95 % within", units.seconds(now.p95), f"95 % of the answers were complete in less than this, {lately}."),
        (
            "Failed",
            units.share(share),
            f"Requests that failed in the time shown: {units.count(now.failed)} of {units.count(now.finished)}.",
        ),
        *(
            [("Energy", f"{units.significant(now.energy)} kWh", "What GPUs drew in the time shown.")]
            if now.energy
            else []
        ),
    )
    idle = "No requests in this time. Send one from the Playground."
    left, right = st.columns(2)
    with left:
        view.chart("Requests", "per second", now.charts["requests"], "per_second", key="requests", nothing=idle)
        view.chart("Time to a whole answer", "seconds", now.charts["response"], "seconds", key="response", nothing=idle)
    with right:
        view.chart("Tokens", "per second, by model", now.charts["tokens"], "per_second", key="tokens", nothing=idle)
        view.chart(
            "Requests in work", "all together, mean", now.charts["in_flight"], "count", key="in_flight", nothing=idle
        )


def _tiles(served: Served) -> None:
    """Each worker and model by colour and sign, so that the odd one is seen among many."""
    order = {state: place for place, state in enumerate(_STATES)}
    workers = sorted(served.workers, key=lambda w: (order.get(w.state, 0), w.name))
    tiles = [_tile(w.name, *_STATES.get(w.state, ("gray", "help"))) for w in workers[:_TILES]]
    if len(workers) > _TILES:
        tiles.append(f":gray-badge[and {len(workers) - _TILES} more]")
    models = [
        _tile(f"{m.name} {len(m.present)}/{max(m.replicas, len(m.present))}", *_of_model(len(m.present), m.replicas))
        for m in served.models
    ]
    st.markdown(" ".join([*tiles, *models]))


def _of_model(present: int, replicas: int) -> tuple[str, str]:
    if not present:
        return ("red", "cancel") if replicas else ("gray", "help")
    return ("green", "neurology") if present >= replicas else ("orange", "warning")


def _tile(name: str, colour: str, sign: str) -> str:
    return f":{colour}-badge[:material/{sign}: {name}]"


def _notices(found: list[attention.Notice], well: str) -> None:
    if not found:
        if well:
            st.success(well, icon=":material/check_circle:")
        return
    worst = found[0].level == "error"
    show, icon = (st.error, ":material/error:") if worst else (st.warning, ":material/warning:")
    text = (
        "\n".join(f"- {n.what} {n.remedy}" for n in found) if len(found) > 1 else f"{found[0].what} {found[0].remedy}"
    )
    show(text, icon=icon)
