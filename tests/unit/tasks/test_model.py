from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.settings import TaskWorker
from cluster_ai.tasks import placing
from cluster_ai.tasks.model import Spec, State, Task, WrongError, spec_of
from cluster_ai.tasks.outcomes import outcome

INFER = {"kind": "ai_inference", "payload": {"model": "smollm2", "prompt": "Hi"}}
WORKERS = (TaskWorker("a", 4, 100, 1, ("smollm2:latest",), False), TaskWorker("b", 8, 200, 0, (), True))


def test_an_inference_may_run_twice_and_a_custom_function_not_unless_said() -> None:
    assert spec_of(INFER).idempotent
    assert not spec_of({"kind": "custom", "payload": {"function": "f"}}).idempotent
    assert not spec_of({**INFER, "idempotent": False}).idempotent


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(WrongError) as caught:
        spec_of({"kind": "magic", "cpu": 0, "timeout": -1, "retries": True, "colour": "red", "tags": "x"})
    told = str(caught.value)
    for part in ("kind: 'magic'", "cpu: ", "timeout: ", "retries: ", "colour: there is no such field", "tags: "):
        assert part in told


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"prompt": "Hi"}, "payload.model"),
        ({"model": "m"}, "exactly one of prompt"),
        ({"model": "m", "prompt": "a", "messages": []}, "exactly one of prompt"),
        ({"model": "m", "prompt": "a", "options": {"x": [float("inf")]}}, "isn't finite"),
    ],
)
def test_an_inference_must_say_what_of_which_model(payload: dict[str, Any], why: str) -> None:
    with pytest.raises(WrongError, match=why):
        spec_of({"kind": "ai_inference", "payload": payload})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda it: st.lists(it) | st.dictionaries(st.text(), it),
)
_FIELDS = st.sampled_from([*(f for f in Spec.__dataclass_fields__), "other"])


@given(st.dictionaries(_FIELDS, _JSON) | _JSON)
def test_whatever_is_said_it_is_a_task_or_is_refused(said: Any) -> None:
    try:
        found = spec_of(said)
    except WrongError:
        return
    assert Spec(**{**json.loads(json.dumps(asdict(found))), "tags": found.tags}) == found


def test_a_task_goes_where_its_model_its_card_and_its_memory_are() -> None:
    assert placing.able(spec_of(INFER), WORKERS) == ("a",)
    assert placing.able(Spec("custom", {}, cpu=6), WORKERS) == ("b",)
    assert placing.able(Spec("custom", {}), WORKERS) == ("a", "b")
    assert placing.nowhere(Spec("custom", {}, gpu=1, cpu=5), WORKERS) == (
        "no worker can run it: a lacks cpu 4 of 5; b lacks gpu 0 of 1"
    )


@pytest.mark.parametrize(
    ("said", "attempt", "retries", "state"),
    [
        ({"result": 1, "worker": "a"}, 1, 0, State.DONE),
        ({"error": "x", "final": False}, 1, 0, State.FAILED),
        ({"error": "x", "final": False}, 1, 1, State.QUEUED),
        ({"error": "x", "final": False}, 2, 1, State.FAILED),
        ({"error": "x", "final": True}, 1, 5, State.FAILED),
    ],
)
def test_what_failed_is_tried_again_as_often_as_was_asked(
    said: dict[str, Any], attempt: int, retries: int, state: State
) -> None:
    task = Task("t", "ada", Spec("custom", {}, retries=retries), State.SENT, attempt, 0.0, None, None, None, None)
    assert outcome(task, said).state is state


def test_a_worker_has_no_more_than_its_host_lets_it() -> None:
    worker = TaskWorker("a", 8, 64, 1, (), data=False)
    assert placing.limited(worker, {"CPU": 4, "MEMORY": 32}) == TaskWorker("a", 4, 32, 1, (), data=False)
    assert placing.limited(worker, {"CPU": 16, "MEMORY": 128}) == worker
    assert placing.limited(worker, {}) == worker
