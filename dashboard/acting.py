"""What a page has the cluster do for the person who looks: only what the gateway says that they may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import streamlit as st

from cluster_ai.errors import ClusterAIError
from dashboard import view
from dashboard.gateway import UnauthorizedError
from dashboard.live import Sources
from dashboard.served import Served

_DONE, _FAILED = "done", "not_done"  # keys of the session: what is to be told when the page is drawn next


def may(served: Served | None, what: str, purpose: str) -> bool:
    """Whether they may do `what` ("steer workers"); says so where they may not. purpose: "drain a worker"."""
    if served is None:
        return False
    person = served.person
    if what in person.may:
        return True
    st.caption(f":material/lock: Your role, **{person.role}**, may not {purpose}. An administrator gives roles.")
    return False


def order(
    sources: Sources, done: str, method: str, path: str, body: Mapping[str, Any] | None = None, *names: str
) -> None:
    """One request that changes something, then the page anew. path: with {} for each of names."""
    where = path.format(*(quote(name, safe="") for name in names))
    run(sources, done, lambda: sources.gateway.send(method, where, sources.caller, body))


def run(sources: Sources, done: str, do: Callable[[], object]) -> None:
    try:
        do()
    except UnauthorizedError:
        pass  # the page asks for a token when it is drawn next
    except ClusterAIError as error:
        st.session_state[_FAILED] = error
    else:
        st.session_state[_DONE] = done
    sources.forget()
    st.rerun()


def outcome() -> None:
    """Tells what became of the last order, once."""
    if _DONE in st.session_state:
        st.toast(st.session_state.pop(_DONE), icon=":material/check_circle:")
    if _FAILED in st.session_state:
        view.problem(st.session_state.pop(_FAILED))
