"""Send a prompt to a model, see the answer come, and which worker gave it how fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from cluster_ai.errors import ClusterAIError
from dashboard import units, view
from dashboard.gateway import Answer, ServedModel, UnauthorizedError
from dashboard.live import Sources

EXAMPLE = "Explain in three sentences why the sky is blue."
KEPT = 10  # answers to compare


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
    models = served.value.models if served.value else ()
    ready = sorted((m.name for m in models if m.present), key=lambda name: not _loaded(models, name))
    if not ready:
        view.empty(
            "No model is ready to answer.",
            "`cluster-ai status` says what is missing; a model that is being fetched shows here when it is there.",
        )
        return
    ask, reply = st.columns([2, 3], gap="medium")
    with ask, st.form("prompt", border=True):
        model = st.selectbox("Model", ready, key="model", persist_state="session")
        prompt = st.text_area("Prompt", value=EXAMPLE, height=160, key="prompt_text", persist_state="session")
        sent = st.form_submit_button("Send", type="primary", icon=":material/send:")
    history: list[Exchange] = st.session_state.setdefault("history", [])
    with reply:
        if sent and prompt.strip():
            exchange = _answer(sources, str(model), prompt.strip())
            if exchange:
                history.insert(0, exchange)
                del history[KEPT:]
                _measured(exchange)
        elif history:
            _shown(history[0])
        else:
            view.empty(
                "The answer will show here.",
                "With the worker that gave it, the time to its first token, and its speed.",
            )
    if history:
        st.subheader("Answers so far", anchor=False)
        _compare(history)


def _loaded(models: tuple[ServedModel, ...], name: str) -> bool:
    return any(m.name == name and m.loaded for m in models)


def _answer(sources: Sources, model: str, prompt: str) -> Exchange | None:
    """Streams the answer onto the page. Leaving the page stops this script, which hangs up and frees the worker."""
    ends: list[Answer] = []
    begin = time.monotonic()
    pieces = sources.gateway.generate(model, prompt, sources.caller)

    def text() -> Iterator[str]:
        for piece in pieces:
            if isinstance(piece, Answer):
                ends.append(piece)
            else:
                yield piece

    with st.container(border=True, key="answer"):
        try:
            with st.spinner(f"{model} is thinking", show_time=True):
                first = next(text(), "")
            said = st.write_stream(_after(first, text()))
        except UnauthorizedError:
            st.rerun()
        except ClusterAIError as error:
            view.problem(error)
            return None
        finally:
            pieces.close()
    return Exchange(model, prompt, str(said), ends[0], time.monotonic() - begin)


def _after(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _shown(exchange: Exchange) -> None:
    with st.container(border=True, key="answer"):
        st.markdown(exchange.text)
    _measured(exchange)


def _measured(exchange: Exchange) -> None:
    worker, first, speed, tokens = st.columns([2, 1.3, 1.3, 1])
    worker.metric("Worker", exchange.answer.worker, border=True)
    first.metric(
        "First token",
        units.seconds(exchange.answer.time_to_first_token),
        border=True,
        help="From the gateway's taking the request to the first piece of the answer.",
    )
    speed.metric(
        "Speed", units.rate(exchange.answer.tokens_per_second), border=True, help="Tokens generated per second."
    )
    tokens.metric(
        "Tokens",
        units.count(exchange.answer.tokens),
        border=True,
        help=f"The whole answer took {units.seconds(exchange.seconds)}.",
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
