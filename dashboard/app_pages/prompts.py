"""The playground's test prompts: kept at the gateway, asked of a model after a rollout, and compared with before."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from cluster_ai.errors import ClusterAIError
from dashboard import acting, testset, units, view
from dashboard.gateway import UnauthorizedError
from dashboard.live import Sources
from dashboard.served import Served
from dashboard.testset import Outcome, TestPrompt


def draw(sources: Sources, served: Served, ready: list[str]) -> None:
    st.caption(
        "Prompts with what their answers must contain. They are kept at the gateway under your name; run them after a "
        "rollout, or before you change a model. Nothing is left to chance: temperature 0, seed 0."
    )
    reading = sources.told(testset.read)
    view.stale(reading)
    saved = reading.value or ()
    if not saved:
        if reading.problem is None:
            view.empty("No test prompt yet.", "Add the first one below, such as: What is 2 + 2? must contain 4.")
    else:
        _run(sources, saved, ready)
    _change(sources, served, saved)


def _run(sources: Sources, saved: tuple[TestPrompt, ...], ready: list[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = str(st.selectbox("Model", ready, key="tested_model", persist_state="session"))
        label = f"Run {units.counted(len(saved), 'prompt')}"
        pressed = st.button(label, type="primary", icon=":material/play_arrow:", key="run_tests")
    runs: dict[str, list[list[Outcome]]] = st.session_state.setdefault("test_runs", {})
    if pressed and (outcomes := _asked(sources, model, saved)) is not None:
        runs[model] = [outcomes, *runs.get(model, [])][:2]
    last = runs.get(model)
    if not last:
        view.table(
            pd.DataFrame({"Name": [p.name for p in saved], "Prompt": [p.text for p in saved], **_expected(saved)}),
            ["Name", "Prompt", "Must contain"],
            {"Prompt": st.column_config.TextColumn(width="large")},
            key="test_prompts",
        )
        return
    _result(last[0], {p.name: p for p in saved}, {o.prompt: o for o in last[1]} if len(last) > 1 else {})


def _expected(saved: tuple[TestPrompt, ...]) -> dict[str, list[str]]:
    return {"Must contain": [p.expects for p in saved]}


def _asked(sources: Sources, model: str, saved: tuple[TestPrompt, ...]) -> list[Outcome] | None:
    found: list[Outcome] = []
    bar = st.progress(0.0)
    try:
        for number, prompt in enumerate(saved):
            bar.progress(number / len(saved), f"{model}: {prompt.name}")
            found.append(testset.ask(sources.gateway, sources.caller, model, prompt))
    except UnauthorizedError:
        st.rerun()
    except ClusterAIError as error:
        view.problem(error)
        return None
    finally:
        bar.empty()
    return found


def _result(outcomes: list[Outcome], saved: dict[str, TestPrompt], before: dict[str, Outcome]) -> None:
    wrong = [o.prompt for o in outcomes if not o.passed]
    if wrong:
        st.error(f"{len(wrong)} of {len(outcomes)} fail: {', '.join(wrong)}.", icon=":material/error:")
    else:
        st.success(f"All {len(outcomes)} pass.", icon=":material/check_circle:")
    rows = [
        {
            "Name": o.prompt,
            "Result": "● pass" if o.passed else "✕ fail",
            "Must contain": saved[o.prompt].expects if o.prompt in saved else None,
            "Answer": o.text,
            "Changed": _changed(o, before.get(o.prompt)),
            "Worker": o.answer.worker,
            "First": o.answer.time_to_first_token,
            "Speed": o.answer.tokens_per_second,
        }
        for o in outcomes
    ]
    config = {
        "Answer": st.column_config.TextColumn(width="large"),
        "Changed": st.column_config.TextColumn("Since the last run", help="Of this session, with the same model."),
        "First": st.column_config.NumberColumn("First token", format="%.3f s"),
        "Speed": st.column_config.NumberColumn("Tokens per second", format="%.1f"),
    }
    frame = pd.DataFrame(rows)
    view.table(frame, [c for c in frame.columns if frame[c].notna().any()], config, key="test_results")
    name = time.strftime("test-prompts-%Y%m%d-%H%M%S.csv")
    st.download_button("Download", frame.to_csv(index=False), name, "text/csv", icon=":material/download:")


def _changed(now: Outcome, before: Outcome | None) -> str | None:
    if before is None:
        return None
    return "the same answer" if now.text == before.text else "another answer"


def _change(sources: Sources, served: Served, saved: tuple[TestPrompt, ...]) -> None:
    with st.container(horizontal=True):
        with (
            st.popover("Add or replace", icon=":material/add:"),
            st.form("test_prompt", border=False, clear_on_submit=True),
        ):
            name = testset.slug(st.text_input("Name", placeholder="sums", max_chars=90))
            text = st.text_area("Prompt", placeholder="What is 2 + 2?").strip()
            expects = st.text_input("Its answer must contain", placeholder="4", max_chars=1000).strip()
            shared = "share templates" in served.person.may and st.checkbox("For everyone")
            if st.form_submit_button("Save", type="primary") and name and text:
                made = TestPrompt(name, text, expects, shared)
                acting.run(sources, f"{name} is saved.", lambda: testset.save(sources.gateway, sources.caller, made))
        mine = {p.name: p for p in saved if not p.shared or "share templates" in served.person.may}
        if mine:
            with st.popover("Delete", icon=":material/delete:"):
                gone = mine[str(st.selectbox("Test prompt", list(mine), key="gone_prompt"))]
                if st.button("Delete", key="delete_prompt"):
                    acting.run(
                        sources, f"{gone.name} is gone.", lambda: testset.delete(sources.gateway, sources.caller, gone)
                    )
