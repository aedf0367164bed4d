"""Why a model is where it is: each reason is one that the numbers bear out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.placement.explain import Reason, explain
from cluster_ai.placement.memory import Need
from cluster_ai.placement.room import Budget, Held, Seat, Wanted, affinity

GB = 10**9
MODEL = Wanted("m", Need(8 * GB, "as its resources say"), 1)
HERE = {"m": Held("cpu", 8 * GB)}


def seat(name: str, ram: int = 64, gpu: int = 0, **more: object) -> Seat:
    return dataclasses.replace(Seat(name, Budget(gpu * GB, ram * GB)), **more)  # type: ignore[arg-type]


def why(*seats: Seat, placed: str = "a", stand_ins: Mapping[str, str] | None = None) -> dict[str, Reason]:
    return {it.worker: it for it in explain(MODEL, seats, frozenset(placed.split()), stand_ins or {})}


def test_a_gpu_comes_before_ram() -> None:
    found = why(seat("a", gpu=12, held={"m": Held("gpu", 8 * GB)}), seat("b"))
    assert found["a"].why == "placed on GPU, 8 GB: its replica"
    assert (found["a"].processor, found["a"].free_gpu) == ("gpu", 12 * GB)
    assert found["b"].why == (
        "would fit, but one replica is wanted, and a has it on GPU, where here it would run in RAM"
    )


def test_what_does_not_fit_is_told_with_the_numbers() -> None:
    found = why(seat("a", held=HERE), seat("b", ram=10, gpu=4, held={"n": Held("cpu", 6 * GB)}))
    assert found["b"].why == "needs 8 GB; free beside 1 other model: 4 GB on GPU, 4 GB in RAM"
    assert found["b"].processor is None


def test_a_worker_with_more_models_comes_later() -> None:
    found = why(seat("a", held=HERE), seat("b", held={"n": Held("cpu", GB)}))
    assert found["b"].why.endswith("a has fewer other models (0 against 1)")


def test_a_measured_speed_counts_before_the_number_of_models() -> None:
    crowded = {**HERE, "n": Held("cpu", GB)}
    found = why(seat("a", held=crowded, speeds={"m": 40.0}), seat("b", speeds={"m": 12.5}))
    assert found["b"].why.endswith("a was measured to be quicker with it: 40 tokens/s against 12.5")


def test_speeds_of_cluster_yaml_are_told_with_the_model_that_they_were_measured_with() -> None:
    crowded = {**HERE, "n": Held("cpu", GB)}
    found = why(seat("a", held=crowded, stated={"small": 40.0}), seat("b", stated={"small": 10.0}), seat("c"))
    assert found["b"].why.endswith(
        "by cluster.yaml a is quicker (small: 40 tokens/s against 10), and counts as 4 workers, this one as 1"
    )
    assert "(small: 40 tokens/s against none measured)" in found["c"].why


def test_nothing_moves_for_a_small_gain() -> None:
    found = why(seat("a", held={**HERE, "n": Held("cpu", GB)}), seat("b"))
    assert found["b"].why.endswith("it stays on a, for models aren't moved without need")


def test_a_drained_worker_is_not_chosen_and_an_unknown_one_neither() -> None:
    found = why(seat("a", held=HERE), seat("b", closed="the worker is drained"), Seat("c", None))
    assert found["b"].why == "the worker is drained"
    assert found["c"].why == "nobody said how much memory it has"
    assert found["c"].free_ram is None


def test_a_stand_in_says_for_whom() -> None:
    found = why(seat("a", closed="the worker is down: gone"), seat("b", held=HERE), stand_ins={"b": "a"})
    assert found["b"].why == "stands in for a: in RAM, 8 GB"
    assert found["a"].why == "placed there: its replica; now: the worker is down: gone"
    assert [it.holds for it in found.values()] == [True, True]


@given(st.permutations(["a", "b", "c", "d"]), st.sets(st.sampled_from(["a", "b", "c", "d"]), min_size=1))
def test_every_worker_has_its_reason_whatever_the_order(order: list[str], placed: set[str]) -> None:
    seats = [seat(name, held=HERE if name in placed else {}) for name in order]
    found = explain(MODEL, seats, frozenset(placed), {})
    assert found == explain(MODEL, sorted(seats, key=lambda s: s.worker), frozenset(placed), {})
    assert {it.worker for it in found if it.holds} == placed
    for it in found:
        if not it.holds:
            first = [name for name in placed if affinity("m", name) > affinity("m", it.worker)]
            assert ("own order" in it.why) == bool(first)
