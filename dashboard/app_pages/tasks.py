"""Tasks and batches: what waits, what runs and how far it is, what came out; cancel what is not wanted any more."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from cluster_ai.errors import ClusterAIError
from dashboard import acting, dask, served, tasks, units, view
from dashboard.gateway import UnauthorizedError
from dashboard.live import REFRESH, Sources
from dashboard.tasks import Batch, Task

_ALL = "all"
_SIGNS = {
    "queued": "○ queued",
    "sent": "◐ on a worker",
    "done": "● done",
    "failed": "✕ failed",
    "cancelled": "◌ cancelled",
}
_STATES = (_ALL, *_SIGNS)


def draw(sources: Sources) -> None:
    st.title("Tasks", anchor=False)
    _now(sources)


@st.fragment(run_every=REFRESH)
def _now(sources: Sources) -> None:
    known = view.told(sources, served.served).value
    if known is None or not acting.may(known, "use tasks", "see tasks and batches"):
        return
    if "oversee tasks" not in known.person.may:
        st.caption("Your own; an operator sees everybody's.")
    if known.scheduler is not None:
        said = f"Dask's scheduler is away: {known.scheduler}. Tasks wait; none is lost."
        st.warning(said, icon=":material/warning:")
    if "oversee tasks" in known.person.may:
        link = dask.link(st.session_state.setdefault("dask", secrets.token_urlsafe(8)))
        st.link_button("Dask's own pages", link, icon=":material/open_in_new:", help="What each worker does, live.")
    own, many = st.tabs(["Tasks", "Batches"])
    with own:
        _tasks(sources)
    with many:
        _batches(sources)


def _tasks(sources: Sources) -> None:
    state = st.segmented_control("State", _STATES, default=_ALL, required=True, key="task_state")
    reading = view.told(sources, tasks.tasks, None if state == _ALL else state)
    found = reading.value
    if found is None:
        return
    if not found:
        view.empty(
            "No task." if state == _ALL else f"No task is {state}.",
            "`cluster-ai tasks submit`, the Python client or `POST /api/v1/tasks` gives the cluster work that waits "
            "for a free worker and is not lost when one dies.",
        )
        return
    counts = Counter(task.state for task in found)
    st.caption(" · ".join(f"{units.count(n)} {name}" for name, n in counts.items()) + _cut(len(found)))
    _table(found)
    _one(sources, found)


def _cut(number: int) -> str:
    return f" · the newest {tasks.MOST}" if number == tasks.MOST else ""


def _table(found: Sequence[Task]) -> None:
    frame = pd.DataFrame(
        {
            "Task": [t.id for t in found],
            "State": [_SIGNS.get(t.state, t.state) for t in found],
            "Progress": [100 * t.progress if t.progress is not None else None for t in found],
            "Kind": [t.kind for t in found],
            "User": [t.user for t in found],
            "Worker": [t.worker for t in found],
            "Submitted": [datetime.fromtimestamp(t.submitted, UTC) for t in found],
            "Took": [units.duration(t.ended - t.submitted) if t.ended else None for t in found],
            "Attempt": [t.attempt for t in found],
            "Tags": [", ".join(t.tags) or None for t in found],
            "Says": [t.error or t.progress_text for t in found],
        }
    )
    config = {
        "Progress": st.column_config.ProgressColumn(min_value=0, max_value=100, format="%.0f %%"),
        "Submitted": st.column_config.DatetimeColumn(format="D MMM, HH:mm:ss"),
        "Took": st.column_config.TextColumn(help="From being submitted to the end, with waiting."),
        "Says": st.column_config.TextColumn(width="large"),
    }
    view.table(frame, [c for c in frame.columns if frame[c].notna().any()], config, key="tasks")


def _one(sources: Sources, found: Sequence[Task]) -> None:
    by_id = {t.id: t for t in found}
    name = st.selectbox("Look at one", list(by_id), index=None, key="task", placeholder="a task's id")
    if name is None or name not in by_id:
        return
    task = by_id[name]
    if task.error:
        st.error(task.error, icon=":material/error:")
    if task.state == "done":
        _result(sources, task)
    if task.state in tasks.OPEN and st.button("Cancel it", key="cancel_task", icon=":material/cancel:"):
        acting.order(sources, f"{name} is cancelled.", "POST", tasks.TASKS + "/{}/cancel", None, name)


def _result(sources: Sources, task: Task) -> None:
    try:
        said = tasks.result(sources.gateway, sources.caller, task.id)
    except UnauthorizedError:
        st.rerun()
    except ClusterAIError as error:
        view.problem(error)
        return
    value = said["result"]
    text = value.get("response") if isinstance(value, dict) else None
    with st.container(border=True):
        if said.get("file"):
            st.markdown(f"It is large: `GET /v1/files/{said['file']['id']}/content` has it.")
        elif isinstance(text, str):
            st.markdown(text)
        else:
            st.json(value, expanded=1)


def _batches(sources: Sources) -> None:
    found = view.told(sources, tasks.batches).value
    if found is None:
        return
    if not found:
        view.empty(
            "No batch.", "`cluster-ai batch run prompts.jsonl` answers a file of prompts; so does OpenAI's batch API."
        )
        return
    frame = pd.DataFrame(
        {
            "Batch": [b.id for b in found],
            "State": [b.status for b in found],
            "Done": [100 * b.share for b in found],
            "Requests": [b.total for b in found],
            "Failed": [b.failed for b in found],
            "Of": [b.endpoint for b in found],
            "Made": [datetime.fromtimestamp(b.created, UTC) for b in found],
            "Took": [units.duration(b.ended - b.created) if b.ended else None for b in found],
            "Problem": [b.problem for b in found],
        }
    )
    config = {
        "Done": st.column_config.ProgressColumn(min_value=0, max_value=100, format="%.0f %%"),
        "Made": st.column_config.DatetimeColumn(format="D MMM, HH:mm:ss"),
        "Problem": st.column_config.TextColumn(width="large"),
    }
    view.table(frame, [c for c in frame.columns if frame[c].notna().any()], config, key="batches")
    _cancel(sources, [b for b in found if b.status not in tasks.ENDED])


def _cancel(sources: Sources, going: Sequence[Batch]) -> None:
    if not going:
        return
    with st.popover("Cancel a batch", icon=":material/cancel:"):
        name = str(st.selectbox("Batch", [b.id for b in going], key="batch"))
        st.caption("What has been answered is kept; the rest is not asked any more.")
        if st.button("Cancel it", key="cancel_batch"):
            acting.order(sources, f"{name} is cancelled.", "POST", tasks.BATCHES + "/{}/cancel", None, name)
