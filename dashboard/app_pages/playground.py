"""Send a prompt to a model, or to two side by side; see the answer come, and which worker gave it how fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from dashboard import acting, units, view
from dashboard.answers import Answer, Wish, generate
from dashboard.app_pages import chat, prompts
from dashboard.gateway import UnauthorizedError
from dashboard.live import Sources
from dashboard.served import Served

EXAMPLE = "Explain in three sentences why the sky is blue."
KEPT = 10  # answers to compare
NOBODY = "no other"
ANY = "any"
# The gateway's policies (balancing/), as people choose them.
POLICIES = (ANY, "affinity", "least_loaded", "resource_aware", "round_robin")


@dataclass(frozen=True, slots=True)
class Exchange:
    model: str
    prompt: str
    text: str
    answer: Answer
    seconds: float


def draw(sources: Sources) -> None:
    st.title("Playground", anchor=False)
    try:
        served = sources.served()
    except UnauthorizedError:
        st.rerun()
    if served.problem is not None:
        view.problem(served.problem)
        if st.button("Look again", icon=":material/refresh:"):
            st.rerun()
        return
    if served.value is None or not acting.may(served.value, "use models", "send prompts"):
        return
    ready = _ready(served.value)
    if not ready:
        view.empty(
            "No model is ready to answer.",
            "`cluster-ai status` says what is missing; a model that is being fetched shows here when it is there.",
        )
        return
    one, talk, tests = st.tabs(["Prompt", "Chat", "Test prompts"])
    with one:
        _one(sources, served.value, ready)
    with talk:
        chat.draw(sources, ready)
    with tests:
        prompts.draw(sources, served.value, ready)


def _ready(served: Served) -> list[str]:
    """Those in some worker's memory first."""
    found = [m for m in served.models if m.present]
    return [m.name for m in sorted(found, key=lambda m: (not m.loaded, m.name))]


def _one(sources: Sources, served: Served, ready: list[str]) -> None:
    ask, reply = st.columns([2, 3], gap="medium")
    with ask, st.form("prompt", border=True):
        model = str(st.selectbox("Model", ready, key="model", persist_state="session"))
        other = str(
            st.selectbox(
                "Beside it",
                [NOBODY, *ready],
                key="other_model",
                persist_state="session",
                help="Answers the same prompt, to compare. They are asked one after the other.",
            )
        )
        prompt = st.text_area("Prompt", value=EXAMPLE, height=160, key="prompt_text", persist_state="session")
        wish = _wish(served)
        sent = st.form_submit_button("Send", type="primary", icon=":material/send:", shortcut="Ctrl+Enter")
    history: list[Exchange] = st.session_state.setdefault("history", [])
    asked = [model] if other == NOBODY else [model, other]
    with reply:
        if sent and prompt.strip():
            _answers(sources, asked, prompt.strip(), wish, history)
        elif history:
            _shown(history[: st.session_state.get("beside", 1)])
        else:
            view.empty(
                "The answer will show here.",
                "With the worker that gave it, the time to its first token, and its speed.",
            )
    if history:
        st.subheader("Answers so far", anchor=False)
        _compare(history)


def _wish(served: Served) -> Wish:
    with st.expander("Who answers, and how"):
        worker = str(
            st.selectbox(
                "Worker",
                [ANY, *(w.name for w in served.workers if w.state != "down")],
                key="worker",
                persist_state="session",
                help="This one only, however busy it is.",
            )
        )
        policy = str(
            st.selectbox(
                "Policy",
                POLICIES,
                key="policy",
                persist_state="session",
                help="How the gateway chooses the worker. Any: as cluster.yaml says.",
            )
        )
        temperature = st.slider(
            "Temperature", 0.0, 2.0, 0.8, 0.1, key="temperature", help="0: always the likeliest word."
        )
        most = st.number_input("Tokens at most", 1, 8192, 512, key="most")
    options = {"temperature": temperature, "num_predict": int(most)}
    return Wish(None if worker == ANY else worker, None if policy == ANY else policy, options)


def _answers(sources: Sources, asked: Sequence[str], prompt: str, wish: Wish, history: list[Exchange]) -> None:
    came: list[Exchange] = []
    for model, column in zip(asked, st.columns(len(asked)), strict=True):
        with column:
            if len(asked) > 1:
                st.caption(f"**{model}**")
            exchange = _answer(sources, model, prompt, wish, key=f"answer-{len(came)}")
            if exchange is not None:
                _measured(exchange)
                came.append(exchange)
    history[:0] = came
    del history[KEPT:]
    st.session_state["beside"] = max(1, len(came))


def _answer(sources: Sources, model: str, prompt: str, wish: Wish, *, key: str) -> Exchange | None:
    begin = time.monotonic()
    with st.container(border=True, key=key):
        came = view.streamed(generate(sources.gateway, sources.caller, model, prompt, wish), f"{model} is thinking")
    return Exchange(model, prompt, *came, time.monotonic() - begin) if came else None


def _shown(exchanges: Sequence[Exchange]) -> None:
    for number, (exchange, column) in enumerate(zip(exchanges, st.columns(len(exchanges)), strict=True)):
        with column:
            if len(exchanges) > 1:
                st.caption(f"**{exchange.model}**")
            with st.container(border=True, key=f"answer-{number}"):
                st.markdown(exchange.text)
            _measured(exchange)


def _measured(exchange: Exchange) -> None:
    answer = exchange.answer
    view.metrics(
        ("Worker", answer.worker or units.NOTHING, answer.routing),
        (
            "First token",
            units.seconds(answer.time_to_first_token),
            "From the gateway's taking the request to the first piece of the answer.",
        ),
        ("Speed", units.rate(answer.tokens_per_second), "Tokens generated per second."),
        ("Tokens", units.count(answer.tokens), f"The whole answer took {units.seconds(exchange.seconds)}."),
    )


def _compare(history: list[Exchange]) -> None:
    frame = pd.DataFrame(
        {
            "Prompt": [e.prompt for e in history],
            "Model": [e.model for e in history],
            "Worker": [e.answer.worker for e in history],
            "First token": [e.answer.time_to_first_token for e in history],
            "Speed": [e.answer.tokens_per_second for e in history],
            "Tokens": [e.answer.tokens for e in history],
            "Seconds": [e.seconds for e in history],
        }
    )
    config = {
        "Prompt": st.column_config.TextColumn(width="large"),
        "First token": st.column_config.NumberColumn(format="%.3f s"),
        "Speed": st.column_config.NumberColumn("Tokens per second", format="%.1f"),
        "Seconds": st.column_config.NumberColumn("Whole answer", format="%.2f s"),
    }
    view.table(frame, list(frame.columns), config, key="history")
