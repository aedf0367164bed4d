"""The data behind the pages: read once in a few seconds, however many people look.

The last good value is kept, so that a page goes on showing something (and says how old it is) while Prometheus is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, Generic, TypeVar

import pandas as pd
import streamlit as st

from cluster_ai.errors import ClusterAIError, UnavailableError
from cluster_ai.settings import DashboardSettings
from dashboard import history, prometheus, queries
from dashboard.gateway import Caller, Gateway, Login, UnauthorizedError
from dashboard.served import Served, served

T = TypeVar("T")

REFRESH = 5  # seconds between two readings
EARLY = 60  # seconds before a token's end in which the next one is got
KEEP = REFRESH - 1  # a refresh must find the last one's reading gone
SPANS = {"15 min": 900, "1 h": 3600, "6 h": 21600, "24 h": 86400}


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    value: T | None
    at: float  # when the value was read
    problem: ClusterAIError | None


@dataclass(frozen=True, slots=True)
class Sources:
    """What a page draws from."""

    settings: DashboardSettings

    @property
    def caller(self) -> Caller:
        """The viewer. Their token lives in this browser session's memory and nowhere else."""
        login = st.session_state.get("login")
        if isinstance(login, Login) and time.time() > login.ends - EARLY:
            self._renew(login)
        token = st.session_state.get("token")
        return Caller(str(token) if token else None, st.context.ip_address)

    def _renew(self, login: Login) -> None:
        """A gateway that is away for a moment is asked again with the next reading."""
        try:
            new = self.gateway.renew(login.refresh, Caller(address=st.context.ip_address))
        except UnauthorizedError:
            del st.session_state["login"]  # its token is refused soon, and then one signs in anew
        except UnavailableError:
            pass
        else:
            st.session_state["login"], st.session_state["token"] = new, new.token

    @property
    def gateway(self) -> Gateway:
        return Gateway(self.settings.gateway_url)

    def overview(self, seconds: int) -> Reading[queries.Overview]:
        return _remembering("overview", self.settings.prometheus_url, seconds)

    def workers(self, seconds: int) -> Reading[queries.Workers]:
        return _remembering("workers", self.settings.prometheus_url, seconds)

    def charts_of_workers(self, seconds: int, names: Sequence[str]) -> Reading[dict[str, pd.DataFrame]]:
        """What these workers did; while Prometheus is away, perhaps of others."""
        return _remembering("charts_of_workers", self.settings.prometheus_url, seconds, tuple(names))

    def models(self, seconds: int) -> Reading[queries.Models]:
        return _remembering("models", self.settings.prometheus_url, seconds)

    def canary(self, begin: float, end: float, judged: tuple[str, ...]) -> Reading[dict[str, pd.DataFrame]]:
        """How the judged workers did beside the others, from begin to end (seconds since 1970)."""
        return _measured(history.canary, self.settings.prometheus_url, _span(begin, end), judged)

    def performance(
        self, begin: float, end: float, model: str | None
    ) -> Reading[tuple[history.Figures, dict[str, pd.DataFrame]]]:
        """How fast answers were from begin to end; of one model, or of all."""
        return _measured(history.performance, self.settings.prometheus_url, _span(begin, end), model)

    def served(self) -> Reading[Served]:
        """What the gateway knows. Raises UnauthorizedError."""
        return self.told(served)

    def told(self, read: Callable[..., T], *asked: Any) -> Reading[T]:
        """What one of the functions that ask the gateway returns, read(gateway, caller, *asked).

        Raises UnauthorizedError.
        """
        reading: Reading[T] = _told(read, self.settings.gateway_url, self.caller, asked)
        return reading

    def forget(self) -> None:
        """Reads anew what the gateway told, since something was changed."""
        _told.clear()


_ASK: dict[str, Callable[..., Any]] = {
    "overview": queries.overview,
    "workers": queries.workers,
    "charts_of_workers": queries.charts_of_workers,
    "models": queries.models,
}


def _name(read: Callable[..., Any]) -> str:
    return f"{read.__module__}.{read.__qualname__}"


@st.cache_resource(show_spinner=False)
def _prometheus(url: str) -> prometheus.Prometheus:
    return prometheus.Prometheus(url)


@st.cache_resource(show_spinner=False)
def _last_good() -> dict[tuple[str, str, int], Reading[Any]]:
    return {}


@st.cache_data(ttl=60, show_spinner=False)
def _scrape_interval(url: str) -> float:
    return _prometheus(url).scrape_interval()


@st.cache_data(ttl=KEEP, show_spinner=False, max_entries=200)
def _read(what: str, url: str, seconds: int, asked: tuple[Any, ...]) -> Reading[Any]:
    try:
        span = prometheus.Span(seconds, _scrape_interval(url))
        return Reading(_ASK[what](_prometheus(url), span, *asked), time.time(), None)
    except ClusterAIError as problem:
        return Reading(None, time.time(), problem)


def _span(begin: float, end: float) -> tuple[int, int]:
    """Begin and end, as whole refreshes: what is asked again within one finds the last answer."""
    return int(begin) // REFRESH * REFRESH, int(end) // REFRESH * REFRESH


@st.cache_data(ttl=60, show_spinner=False, max_entries=200, hash_funcs={FunctionType: _name})
def _measured(ask: Callable[..., T], url: str, between: tuple[int, int], *asked: Any) -> Reading[T]:
    begin, end = between
    try:
        span = prometheus.Span(end - begin, _scrape_interval(url), end)
        return Reading(ask(_prometheus(url), span, *asked), time.time(), None)
    except ClusterAIError as problem:
        return Reading(None, time.time(), problem)


def _remembering(what: str, url: str, seconds: int, *asked: Any) -> Reading[Any]:
    reading = _read(what, url, seconds, asked)
    known = _last_good()
    if reading.problem is None:
        known[what, url, seconds] = reading
        return reading
    last = known.get((what, url, seconds))
    return replace(last, problem=reading.problem) if last else reading


@st.cache_data(ttl=KEEP, show_spinner=False, max_entries=1000, hash_funcs={FunctionType: _name})
def _told(read: Callable[..., Any], url: str, caller: Caller, asked: tuple[Any, ...]) -> Reading[Any]:
    try:
        return Reading(read(Gateway(url), caller, *asked), time.time(), None)
    except UnauthorizedError:
        raise
    except ClusterAIError as problem:
        return Reading(None, time.time(), problem)
