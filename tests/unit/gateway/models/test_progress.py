"""What several engines tell, as one."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.models.progress import APART, Failure, Progress, told


def pulling(completed: int, total: int = 100) -> dict[str, Any]:
    return {"status": "pulling abc", "digest": "sha256:abc", "total": total, "completed": completed}


def test_one_worker_is_told_as_it_tells() -> None:
    progress = Progress(["a"])
    assert progress.said("a", {"status": "pulling manifest"}, 0) == [{"status": "pulling manifest"}]
    assert progress.said("a", pulling(10), 1) == [pulling(10)]
    assert progress.said("a", pulling(100), 1) == [pulling(100)]
    assert progress.said("a", {"status": "writing manifest"}, 2) == [{"status": "writing manifest"}]


def test_a_layer_has_come_as_far_as_the_workers_on_the_whole() -> None:
    progress = Progress(["a", "b"])
    assert progress.said("a", pulling(50), 0) == [pulling(25)]
    assert progress.said("b", pulling(100), 1) == [pulling(75)]
    assert progress.said("a", pulling(100), 2) == [pulling(100)]


def test_a_step_is_told_once_when_the_last_has_come_to_it() -> None:
    progress = Progress(["a", "b"])
    assert progress.said("a", {"status": "writing manifest"}, 0) == []
    assert progress.said("a", {"status": "success"}, 0) == []
    assert progress.finished("a") == []
    assert progress.said("b", {"status": "writing manifest"}, 0) == [{"status": "writing manifest"}]
    assert progress.said("b", {"status": "writing manifest"}, 0) == []


def test_a_worker_that_failed_is_not_waited_for() -> None:
    progress = Progress(["a", "b"])
    assert progress.said("a", {"status": "writing manifest"}, 0) == []
    assert progress.failure("b", Failure(502, "gone")) == [{"status": "writing manifest"}]


def test_a_layer_is_told_now_and_then_and_always_when_it_is_whole() -> None:
    progress = Progress(["a"])
    assert progress.said("a", pulling(1), 0)
    assert progress.said("a", pulling(2), APART / 2) == []
    assert progress.said("a", pulling(100), APART / 2) == [pulling(100)]
    assert progress.said("a", pulling(100), 9) == []


@given(
    lines=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.floats(0, 1)), max_size=60),
    ends=st.permutations("abc"),
)
def test_progress_never_goes_back_nor_beyond_its_end(lines: list[tuple[str, int, float]], ends: list[str]) -> None:
    progress, now = Progress("abc"), 0.0
    seen: list[dict[str, Any]] = []
    for worker, done, passed in lines:
        now += passed
        seen += progress.said(worker, pulling(done), now)
    for worker in ends:
        seen += progress.said(worker, pulling(100), now)
    completed: list[int] = [line["completed"] for line in seen]
    assert all(a < b for a, b in itertools.pairwise(completed))
    assert completed[-1] == 100


@given(
    line=st.dictionaries(
        st.sampled_from(["status", "digest", "total", "completed"]), st.none() | st.text() | st.integers()
    )
)
def test_nothing_that_an_engine_says_is_too_strange(line: dict[str, Any]) -> None:
    Progress(["a", "b"]).said("a", line, 0)


def test_what_failed_is_told_by_worker_and_what_was_done_too() -> None:
    assert told({}, ["a"], "pulled") is None
    all_failed = told({"a": Failure(404, "no such model"), "b": Failure(404, "no such model")}, [], "pulled")
    assert all_failed == Failure(404, "no such model")
    some = told({"b": Failure(500, "disk full")}, ["c", "a"], "pulled")
    assert some == Failure(502, "pulled on a, c, but not on b: disk full")
    differing = told({"b": Failure(500, "x"), "a": Failure(500, "y")}, [], "deleted")
    assert differing == Failure(500, "not deleted on a: y; on b: x")
