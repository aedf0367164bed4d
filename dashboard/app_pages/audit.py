"""Who did what: the gateway's audit log, and whether it is as it was written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from dashboard import acting, audit, served, view
from dashboard.audit import Line
from dashboard.live import REFRESH, Sources

_RESULTS = {"done": "● done", "refused": "✕ refused", "failed": "✕ failed"}


def draw(sources: Sources) -> None:
    st.title("Audit", anchor=False)
    _now(sources)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources) -> None:
    known = view.told(sources, served.served).value
    if known is None or not acting.may(known, "see audit", "see the audit log"):
        return
    log = view.told(sources, audit.read).value
    if log is None:
        return
    if log.problem:
        st.error(
            f"**The log is not as it was written**: {log.problem}. `cluster-ai audit verify` tells from where on.",
            icon=":material/gpp_bad:",
        )
    elif log.lines:
        st.success(
            f"The log is whole: each of its lines up to {log.head} carries the hash of the one before. Kept elsewhere, "
            f"the last one's (`{log.hash[:16]}…`) proves it later.",
            icon=":material/verified_user:",
        )
    if not log.lines:
        view.empty(
            "Nothing has been written yet.",
            "What changes something that others feel is: logins, drains, models, users, keys, refusals.",
        )
        return
    _table(_chosen(log.lines))
    st.caption(
        "What a controller did (apply, undo) is in its own log, with a copy on the head: `cluster-ai audit show --here`"
    )


def _chosen(lines: Sequence[Line]) -> list[Line]:
    who, what, result = st.columns(3)
    people = who.multiselect("Who", sorted({it.who for it in lines}), key="audit_who", placeholder="everybody")
    things = what.multiselect("What", sorted({it.what for it in lines}), key="audit_what", placeholder="anything")
    ends = result.multiselect("Result", sorted({it.result for it in lines}), key="audit_result", placeholder="any")
    return [
        it
        for it in lines
        if (not people or it.who in people) and (not things or it.what in things) and (not ends or it.result in ends)
    ]


def _table(lines: Sequence[Line]) -> None:
    frame = pd.DataFrame(
        {
            "At": [datetime.fromtimestamp(it.at, UTC) for it in lines],
            "Who": [it.who for it in lines],
            "Role": [it.role or None for it in lines],
            "What": [it.what for it in lines],
            "On": [it.on or None for it in lines],
            "Result": [_RESULTS.get(it.result, it.result) for it in lines],
            "From": [it.address or None for it in lines],
            "Note": [it.note or None for it in lines],
            "Line": [it.number for it in lines],
        }
    )
    config = {"At": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm:ss")}
    view.table(frame, [c for c in frame.columns if c == "At" or frame[c].notna().any()], config, key="audit")
    name = f"audit-{datetime.now(UTC):%Y%m%d-%H%M}.csv"
    st.download_button("Download", frame.to_csv(index=False), name, "text/csv", icon=":material/download:")
