from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.settings import TaskWorker
from cluster_ai.tasks.floor import Floor
from cluster_ai.tasks.model import Spec, State, Task

GIB = 1 << 30
ONCE = Spec("custom", {"function": "f"})
SMALL, LARGE = TaskWorker("small", 1, GIB, 0, (), False), TaskWorker("large", 4, 8 * GIB, 1, ("m",), False)


def process(name: str, cpu: float, memory: int = GIB, **more: Any) -> dict[str, Any]:
    resources = {"CPU": cpu, "MEMORY": memory, **more.pop("resources", {})}
    return {"name": name, "status": "running", "nthreads": int(cpu) + 1, "resources": resources, **more}


def floor(
    *workers: TaskWorker,
    left: dict[str, dict[str, float]] | None = None,
    late: Collection[str] = (),
    **found: dict[str, Any],
) -> Floor:
    """found: processes by their addresses."""
    made = Floor(workers)
    made.look({"workers": found}, left or {}, late)
    return made


def both(left: dict[str, dict[str, float]] | None = None) -> Floor:
    return floor(SMALL, LARGE, left=left, s=process("small", 1), l=process("large", 4, 8 * GIB))


def given_out(there: Floor, spec: Spec = ONCE) -> list[str]:
    """Tasks that may not move, until nobody takes one."""
    found = list[str]()
    while names := [it.name for it in there.workers if there.takes(it.name)]:
        found.append(there.choose(spec, names))
    return found


def test_each_worker_is_given_what_it_takes_at_once_and_the_one_with_the_least_of_that_first() -> None:
    assert given_out(both()) == ["large", "large", "large", "large", "small"]


def test_what_takes_more_counts_for_more() -> None:
    assert Counter(given_out(both(), replace(ONCE, cpu=2))) == {"large": 2, "small": 1}
    assert Counter(given_out(both(), replace(ONCE, memory=4 * GIB))) == {"large": 2, "small": 1}


def test_what_it_has_of_others_tasks_counts_where_there_is_a_choice_but_keeps_none_out() -> None:
    there = both(left={"l": {"CPU": -8.0, "MEMORY": 8 * GIB}})  # a queue of tasks that may move
    assert given_out(there) == ["small", "large", "large", "large", "large"]


def test_what_is_there_already_leaves_the_less_room() -> None:
    there = both()
    here = Task("t", "ada", ONCE, State.SENT, 1, 0.0, None, "large", None, None)
    there.recount([here, here, here, replace(here, worker=None)])
    assert Counter(given_out(there)) == {"large": 1, "small": 1}
    there.recount([replace(here, worker="gone")])
    assert Counter(given_out(there)) == {"large": 4, "small": 1}


def test_one_that_is_paused_or_gone_takes_none() -> None:
    there = floor(SMALL, LARGE, s=process("small", 1), l=process("large", 4, status="paused"))
    assert given_out(there) == ["small"]
    assert there.there.keys() == {"small", "large"}
    assert given_out(floor(SMALL, s=process("small", 1, status="closed"))) == []


def test_one_whose_heartbeats_are_late_is_there_but_takes_none() -> None:
    there = floor(SMALL, LARGE, late=["l"], s=process("small", 1), l=process("large", 4))
    assert given_out(there) == ["small"]
    assert there.there.keys() == {"small", "large"}
    there = floor(replace(SMALL, processes=2), late=["a"], a=process("small", 1), b=process("small#2", 1))
    assert given_out(there) == ["small"] * 2


def test_processes_of_one_worker_are_one_and_those_that_may_yet_come_count() -> None:
    host = replace(SMALL, processes=3)
    there = floor(host, a=process("small", 1), b=process("small#2", 1))
    assert there.there == {"small": {"a", "b"}}
    assert given_out(there) == ["small"] * 3
    assert given_out(floor(SMALL, a=process("small", 3))) == ["small"] * 3


def test_an_inference_takes_a_slot_and_no_processor() -> None:
    there = floor(LARGE, l=process("large", 4, resources={"ENGINE": 2}))
    assert len(given_out(there, Spec("ai_inference", {"model": "m", "prompt": "Hi"}))) == 2


@pytest.mark.parametrize("cores", [3, 7, 10, 49])
def test_parts_that_do_not_add_up_to_one_exactly_fill_it_all_the_same(cores: int) -> None:
    assert len(given_out(floor(replace(SMALL, cpu=cores), s=process("small", cores)))) == cores


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8), st.integers(1, 4))
def test_none_has_more_than_it_takes_at_once_and_what_fits_into_its_last_part(cores: list[int], cpu: int) -> None:
    workers = [TaskWorker(f"w{n}", it, GIB, 0, (), False) for n, it in enumerate(cores)]
    found = {f"a{n}": process(f"w{n}", it) for n, it in enumerate(cores)}
    counts = Counter(given_out(floor(*workers, **found), replace(ONCE, cpu=cpu)))
    assert all(counts[f"w{n}"] == -(-it // cpu) for n, it in enumerate(cores))
