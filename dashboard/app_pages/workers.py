"""Every worker: is it up, how full is it, what does it do; and the hosts beneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import queries, units, view
from dashboard.live import REFRESH, Sources

CHARTED = 8  # more lines than this can't be told apart by colour


def draw(sources: Sources) -> None:
    seconds = view.heading("Workers")
    _now(sources, seconds)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources, seconds: int) -> None:
    reading = sources.workers(seconds)
    view.stale(reading)
    now = reading.value
    if now is None:
        return
    if not now.workers:
        view.empty(
            "No worker has shown itself yet.",
            "It does within a minute of its start; `cluster-ai status` says what does not run.",
        )
    else:
        _table(now.workers)
        _charts(now)
    if now.hosts:
        st.subheader("Hosts", anchor=False)
        _hosts(now.hosts)
    view.age(reading, now.newest)


def _table(workers: Sequence[queries.Worker]) -> None:
    frame = pd.DataFrame(
        {
            "Worker": [w.name for w in workers],
            "State": ["● up" if w.up else "○ down" for w in workers],
            "CPU": [w.cpu for w in workers],
            "Memory": [_part(w.memory, w.memory_total) for w in workers],
            "Memory of": [units.of_gib(w.memory, w.memory_total) for w in workers],
            "GPU": [_part(w.gpu_memory, w.gpu_memory_total) for w in workers],
            "GPU of": [units.of_gib(w.gpu_memory, w.gpu_memory_total) for w in workers],
            "Tasks": [w.tasks for w in workers],
            "Tokens": [w.tokens for w in workers],
            "Loaded": [", ".join(w.loaded) or None for w in workers],
        }
    )
    config = {
        "CPU": _bar("CPU", "Share of all cores in use."),
        "Memory": _bar("Memory", "Share in use."),
        "Memory of": st.column_config.TextColumn("Used of memory"),
        "GPU": _bar("GPU memory", "Share in use, all cards together."),
        "GPU of": st.column_config.TextColumn("Used of GPU memory"),
        "Tasks": st.column_config.NumberColumn("Tasks now", format="%d", help="Requests and Dask tasks in work."),
        "Tokens": st.column_config.NumberColumn("Tokens per second", format="%.1f"),
        "Loaded": st.column_config.TextColumn("Models in memory"),
    }
    shown = [c for c in frame.columns if c in ("Worker", "State") or frame[c].notna().any()]
    st.dataframe(frame, hide_index=True, column_order=shown, column_config=config, key="workers", height="auto")


def _part(used: float | None, total: float | None) -> float | None:
    return used / total if used is not None and total else None


def _bar(title: str, meaning: str = "") -> Any:
    return st.column_config.ProgressColumn(title, min_value=0, max_value=1, format="percent", help=meaning or None)


def _charts(now: queries.Workers) -> None:
    names = [w.name for w in now.workers]
    if len(names) > CHARTED:
        chosen = st.multiselect(
            "Workers in the charts", names, default=names[:CHARTED], max_selections=CHARTED, key="charted"
        )
    else:
        chosen = names

    def of(key: str, scale: float = 1.0) -> pd.DataFrame:
        frame = now.charts[key]
        worker = frame["series"].str.split(" card ").str[0]
        return frame[worker.isin(chosen)].assign(value=lambda f: f["value"] / scale)

    none = "No values in this time."
    left, right = st.columns(2)
    with left:
        view.chart("CPU", "share of all cores", of("cpu"), "share", key="cpu", nothing=none)
        view.chart("Tasks", "requests and Dask tasks in work", of("tasks"), "count", key="w_tasks", nothing=none)
    with right:
        view.chart("Memory used", "GiB", of("memory", units.GIB), "gib", key="memory", nothing=none)
        view.chart(
            "Tokens", "per second", of("tokens"), "per_second", key="w_tokens", nothing="No tokens in this time."
        )
    cards = of("gpu_memory", units.GIB)
    if not cards.empty:
        view.chart("GPU memory used", "GiB", cards, "gib", key="gpu_memory", nothing=none)


def _hosts(hosts: Sequence[queries.Host]) -> None:
    frame = pd.DataFrame(
        {
            "Host": [h.name for h in hosts],
            "CPU": [h.cpu for h in hosts],
            "Memory": [_part(h.memory_used, h.memory_total) for h in hosts],
            "Memory of": [units.of_gib(h.memory_used, h.memory_total) for h in hosts],
            "Disk": [
                1 - h.disk_free / h.disk_total if h.disk_total and h.disk_free is not None else None for h in hosts
            ],
            "Free": [units.gib(h.disk_free) for h in hosts],
        }
    )
    config = {
        "CPU": _bar("CPU"),
        "Memory": _bar("Memory"),
        "Memory of": st.column_config.TextColumn("Used of memory"),
        "Disk": _bar("Disk"),
        "Free": st.column_config.TextColumn("Disk free"),
    }
    st.dataframe(frame, hide_index=True, column_config=config, key="hosts", height="auto")
