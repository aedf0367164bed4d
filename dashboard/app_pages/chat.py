"""The playground's conversation: each turn goes with all that was said before, and is kept in this session alone."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from dashboard import units, view
from dashboard.answers import Answer, chat
from dashboard.live import Sources


@dataclass(frozen=True, slots=True)
class Turn:
    said: str
    answered: str
    answer: Answer


def draw(sources: Sources, ready: list[str]) -> None:
    turns: list[Turn] = st.session_state.setdefault("turns", [])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = str(st.selectbox("Model", ready, key="chat_model", persist_state="session"))
        if st.button("Begin anew", icon=":material/restart_alt:", disabled=not turns):
            turns.clear()
            st.rerun()
    talk = st.container()
    said = st.chat_input("Say something", key="chat_input")
    with talk:
        for turn in turns:
            _drawn(turn)
        if not turns and not said:
            view.empty("No conversation yet.", "Whatever you say goes to the model with all that was said before it.")
        if said:
            _next(sources, model, said, turns)


def _drawn(turn: Turn) -> None:
    st.chat_message("user").markdown(turn.said)
    with st.chat_message("assistant"):
        st.markdown(turn.answered)
        _measured(turn.answer)


def _next(sources: Sources, model: str, said: str, turns: list[Turn]) -> None:
    st.chat_message("user").markdown(said)
    before = [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn.said}, {"role": "assistant", "content": turn.answered})
    ]
    with st.chat_message("assistant"):
        pieces = chat(sources.gateway, sources.caller, model, [*before, {"role": "user", "content": said}])
        if came := view.streamed(pieces, f"{model} is thinking"):
            _measured(came[1])
            turns.append(Turn(said, *came))


def _measured(answer: Answer) -> None:
    first, speed = units.seconds(answer.time_to_first_token), units.rate(answer.tokens_per_second)
    st.caption(f"{answer.worker} · first token after {first} · {speed} · {units.count(answer.tokens)} tokens")
