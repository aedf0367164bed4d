"""Who may look: whoever the gateway answers. It alone knows tokens; here one lives in the session's memory only.

Default deny: while the gateway is away nobody new is let in, unless it is known to answer without a token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

import streamlit as st

from cluster_ai.errors import ClusterAIError, UnavailableError
from dashboard import dask, view
from dashboard.gateway import Caller, UnauthorizedError
from dashboard.live import REFRESH, Sources


@st.cache_resource(show_spinner=False)
def _open_gateways() -> set[str]:
    """Gateways that let people on this machine in without a token, when they were last asked."""
    return set()


def gate(sources: Sources) -> Callable[[Sources], None] | None:
    """The page that stands before all others now; None: this session may see them."""
    state, url, caller = st.session_state, sources.settings.gateway_url, sources.caller
    anonymous = caller == Caller()
    try:
        reading = sources.served()
    except UnauthorizedError:
        if anonymous:
            _open_gateways().discard(url)
        if caller.token:
            state["refused"] = (
                "Your login has ended: sign in anew."
                if "login" in state
                else "The cluster does not know this token. Check that it is whole, or sign in anew."
            )
            del state["token"]
            state.pop("login", None)
        dask.PASSES.end(state.get("dask", ""))
        state.pop("admitted", None)
        if not caller.token and _by_provider(sources):
            st.rerun()
        return _sign_in
    if reading.problem is None:
        state["admitted"] = True
        if anonymous:
            _open_gateways().add(url)
    return None if state.get("admitted") or (anonymous and url in _open_gateways()) else _waiting


def sidebar(sources: Sources) -> None:
    served = sources.served().value  # which the gate has just read
    who = f", as **{served.person.name}** ({served.person.role})" if served else ""
    st.caption(f"Cluster **{sources.settings.cluster}**{who}")
    if sources.caller.token and st.button("Sign out", icon=":material/logout:", type="tertiary"):
        if "login" in st.session_state:
            with contextlib.suppress(ClusterAIError):  # its token ends by itself in some minutes
                sources.gateway.log_out(sources.caller)
        dask.PASSES.end(st.session_state.get("dask", ""))
        st.session_state.clear()
        if sources.settings.oidc and st.user.is_logged_in:
            st.logout()
        st.rerun()


def _sign_in(sources: Sources) -> None:
    _, middle, _ = st.columns([1, 1.2, 1])
    oidc = sources.settings.oidc
    if oidc:
        label = f"Sign in by {urlsplit(oidc.issuer).hostname}"
        middle.button(label, icon=":material/login:", type="primary", width="stretch", on_click=st.login)
    with middle, st.form("sign-in"):
        st.subheader(f"Sign in to {sources.settings.cluster}")
        user = st.text_input("User", help="Empty: what you enter below is a key, or an access token.")
        secret = st.text_input(
            "Password, or access token",
            type="password",
            help="Your own password, or the key that the cluster's operator gave you.",
        )
        refused = st.session_state.pop("refused", "")
        if refused:
            st.error(refused, icon=":material/key_off:")
        if st.form_submit_button("Sign in", type="primary", width="stretch") and secret.strip():
            _enter(sources, user.strip(), secret)
            st.rerun()
        st.caption("It is kept in the memory of this session only, and gone when you close the page.")


def _by_provider(sources: Sources) -> bool:
    """Whoever the OpenID provider sent back here is asked for nothing more; a token of it that has ended counts not."""
    state = st.session_state
    token = st.user.tokens.get("id") if sources.settings.oidc and st.user.is_logged_in else None
    if not token or state.get("offered") == token:
        return False
    state["offered"] = token
    try:
        login = sources.gateway.log_in_by_provider(str(token), Caller(address=sources.caller.address))
    except UnauthorizedError:
        return False
    except ClusterAIError as error:
        state["refused"] = error.what
        return False
    state["login"], state["token"] = login, login.token
    return True


def _enter(sources: Sources, user: str, secret: str) -> None:
    """Keeps a token in the session, or why there is none."""
    state = st.session_state
    if not user:
        state["token"] = secret.strip()
        return
    try:
        login = sources.gateway.log_in(user, secret, Caller(address=sources.caller.address))
    except UnauthorizedError:
        state["refused"] = "This user and password don't belong together."
    except ClusterAIError as error:
        state["refused"] = error.what
    else:
        state["login"], state["token"] = login, login.token


@st.fragment(run_every=REFRESH)
def _waiting(sources: Sources) -> None:
    reading = sources.served()
    if reading.problem is None:
        st.rerun()
    st.subheader(f"Waiting for {sources.settings.cluster}")
    view.problem(reading.problem or UnavailableError("the gateway doesn't answer", where=sources.settings.gateway_url))
    st.caption("Until it answers, nobody can be let in. This page looks again every few seconds.")
