from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cluster_ai.config import load_text
from cluster_ai.config.model import Config, Model, Resources, Standby, Worker
from cluster_ai.errors import ClusterAIError, ErrorGroup, ExitCode, PlacementError
from cluster_ai.placement.need import budget
from cluster_ai.placement.place import Placement, place
from tests.rig.cluster import weights
from tests.unit.config.test_load import SEED

GB = 10**9
BASE = load_text(SEED, "cluster.yaml")


def worker(name: str, ram: int = 64, gpu_memory: int = 0, speed: float | None = None) -> Worker:
    """ram: GB for models. speed: tokens per second of "small"."""
    resources = Resources(8, ram * GB * 5 // 4, 1 if gpu_memory else 0, gpu_memory * GB if gpu_memory else None)
    return Worker(name, name, resources, {}, {} if speed is None else {"small": speed})


def model(name: str, memory: int, replicas: object = 1) -> Model:
    return Model(name, replicas, memory * GB, None, {})  # type: ignore[arg-type]


def config(workers: Sequence[Worker], models: Sequence[Model]) -> Config:
    return dataclasses.replace(BASE, workers=tuple(workers), models=tuple(models))


def where(placement: Placement) -> set[tuple[str, str]]:
    return {(a.model, a.worker) for a in placement.assignments}


def test_the_seed_example_takes_the_gpu_and_then_ram() -> None:
    placement = place(BASE)
    assert [(a.worker, a.processor, a.memory) for a in placement.assignments] == [
        ("cpu-worker-01", "cpu", 8 * GB),
        ("gpu-worker-01", "gpu", 8 * GB),
    ]
    assert placement.on("gpu-worker-01") == placement.assignments[1:]
    assert placement.of("llama2:13b") == placement.assignments


def test_a_model_too_big_for_the_card_goes_to_ram() -> None:
    placement = place(config([worker("a", 64, 8)], [model("m", 9)]))
    assert placement.assignments[0].processor == "cpu"


def test_what_is_quantized_already_is_refused_before_any_host_tries() -> None:
    again = Model("m", 1, None, weights(), {}, "q8_0")
    with pytest.raises(PlacementError, match="is Q4_1 already, and the engine quantizes only F16, F32") as caught:
        place(config([worker("a")], [again]))
    assert "leave quantize out" in caught.value.remedy


def test_models_spread_over_equal_workers() -> None:
    placement = place(config([worker(f"w{i}") for i in range(4)], [model(f"m{i}", 4, 2) for i in range(4)]))
    assert Counter(Counter(a.worker for a in placement.assignments).values()) == {2: 4}


def test_all_takes_every_worker_where_it_fits_after_the_others() -> None:
    workers = [worker("a", 10), worker("b", 10), worker("c", 2)]
    placement = place(config(workers, [model("wide", 6, "all"), model("big", 6)]))
    assert len(placement.of("wide")) == 1
    assert {a.worker for a in placement.assignments} == {"a", "b"}


def test_the_search_finds_what_the_greedy_way_misses() -> None:
    # Only with the big one on y is there room for both others on x, whichever each of them likes best.
    for name in (f"big{i}" for i in range(8)):
        workers = [worker("x", 1, 10), worker("y", 1, 6)]
        placement = place(config(workers, [model(name, 6), model("m", 5), model("n", 5)]))
        assert [a.model for a in placement.on("y")] == [name]


def test_a_model_that_fits_nowhere_is_told_with_the_numbers() -> None:
    with pytest.raises(PlacementError) as caught:
        place(config([worker("a", 16), worker("b", 8, 12)], [model("m", 24)]))
    assert caught.value.model == "m"
    assert caught.value.exit_code == ExitCode.CONFIG
    text = str(caught.value)
    assert "model 'm' needs 24 GB for its replica (as its resources say) and fits on no worker" in text
    assert "a: free 16 GB in RAM" in text
    assert "b: free 12 GB on GPU, 8 GB in RAM" in text


def test_a_model_that_fits_too_seldom_is_told_how_many_would_do() -> None:
    with pytest.raises(PlacementError, match=r"(?s)each of its 2 replicas.*fits on 1 of 2 workers.*set replicas to 1"):
        place(config([worker("a", 16), worker("b", 8)], [model("m", 10, 2)]))


def test_models_that_fit_alone_and_not_together_are_told_with_what_is_left() -> None:
    with pytest.raises(PlacementError, match=r"(?s)beside the other models.*a: free 2 GB in RAM"):
        place(config([worker("a", 10)], [model("m", 8), model("n", 8)]))


def test_all_models_that_fit_nowhere_are_told_at_once() -> None:
    with pytest.raises(ErrorGroup) as caught:
        place(config([worker("a", 10)], [model("m", 11), model("n", 12), model("ok", 1)]))
    assert sorted(e.model for e in caught.value.errors if isinstance(e, PlacementError)) == ["m", "n"]


def test_no_models_are_no_trouble() -> None:
    assert place(config([worker("a")], [])).assignments == ()


def test_a_search_without_a_way_ends() -> None:
    workers = [worker(f"w{i:02}", 10) for i in range(12)]
    with pytest.raises(PlacementError):
        place(config(workers, [model(f"m{i}", 6, 5) for i in range(3)]))


def test_of_two_cards_the_quicker_one_has_the_model() -> None:
    for name in (f"m{i}" for i in range(8)):  # whichever each of them likes best
        workers = [worker("old", 64, 24, 30.0), worker("new", 64, 24, 180.0)]
        assert where(place(config(workers, [model(name, 8)]))) == {(name, "new")}


def test_a_quick_worker_has_as_many_more_models_as_it_is_quicker() -> None:
    workers = [worker("old", speed=10.0), worker("new", speed=41.0)]
    placement = place(config(workers, [model(f"m{i}", 4) for i in range(10)]))
    assert (len(placement.on("old")), len(placement.on("new"))) == (2, 8)


def test_speeds_of_cards_say_nothing_of_a_model_that_fits_in_ram_only() -> None:
    workers, plain = [worker("a", 64, 8, 300.0), worker("b", speed=10.0)], [worker("a", 64, 8), worker("b")]
    for name in (f"m{i}" for i in range(8)):
        assert place(config(workers, [model(name, 12)])) == place(config(plain, [model(name, 12)]))


def test_a_worker_that_nobody_measured_draws_no_models() -> None:
    workers = [worker("old", speed=10.0), worker("new", speed=40.0)]
    models = [model(f"m{i}", 4) for i in range(3)]
    assert where(place(config([*workers, worker("unknown")], models))) == where(place(config(workers, models)))


speeds_strategy = st.sampled_from([None, 10.0, 10.0, 40.0, 160.0])
workers_strategy = st.lists(
    st.tuples(st.integers(1, 64), st.sampled_from([0, 0, 8, 24]), speeds_strategy), min_size=1, max_size=6
).map(lambda them: [worker(f"w{i}", *it) for i, it in enumerate(them)])
models_strategy = st.lists(
    st.tuples(st.integers(1, 16), st.sampled_from([1, 1, 2, 3, "all"])), min_size=1, max_size=5
).map(lambda them: [model(f"m{i}", int(memory), replicas) for i, (memory, replicas) in enumerate(them)])


def tried(of: Config) -> Placement | None:
    try:
        return place(of)
    except ClusterAIError:
        return None


@settings(deadline=None)
@given(workers_strategy, models_strategy)
def test_a_placement_keeps_every_promise(workers: list[Worker], models: list[Model]) -> None:
    placement = tried(config(workers, models))
    assume(placement is not None)
    assert placement
    for w in workers:
        given_ = budget(w.resources)
        on = placement.on(w.name)
        assert sum(a.memory for a in on if a.processor == "gpu") <= given_.gpu
        assert sum(a.memory for a in on if a.processor == "cpu") <= given_.ram
    for m in models:
        of = placement.of(m.name)
        assert len({a.worker for a in of}) == len(of)
        assert len(of) >= 1 if m.replicas == "all" else len(of) == m.replicas
        assert {a.memory for a in of} == {m.memory}


@settings(deadline=None)
@given(workers_strategy, models_strategy, st.randoms())
def test_the_order_in_the_file_does_not_matter(
    workers: list[Worker], models: list[Model], shuffle: random.Random
) -> None:
    first = tried(config(workers, models))
    shuffle.shuffle(workers)
    shuffle.shuffle(models)
    assert tried(config(workers, models)) == first


@settings(deadline=None)
@given(workers_strategy, models_strategy)
def test_a_worker_without_models_goes_and_nothing_moves(workers: list[Worker], models: list[Model]) -> None:
    workers = [dataclasses.replace(it, speeds={}) for it in workers]  # who is gone may have been what others are by
    before = tried(config(workers, models))
    assume(before is not None)
    assert before
    for idle in (w for w in workers if not before.on(w.name)):
        rest = [w for w in workers if w is not idle]
        assert where(place(config(rest, models))) == where(before)


@settings(deadline=None)
@given(workers_strategy, models_strategy, st.lists(st.floats(0.9, 1.1), min_size=6, max_size=6))
def test_a_small_difference_in_what_is_measured_moves_nothing(
    workers: list[Worker], models: list[Model], errors: list[float]
) -> None:
    again = [
        dataclasses.replace(it, speeds={name: speed * error for name, speed in it.speeds.items()})
        for it, error in zip(workers, errors, strict=False)
    ]
    assert tried(config(again, models)) == tried(config(workers, models))


@settings(deadline=None)
@given(st.lists(st.floats(70, 100), min_size=2, max_size=6), models_strategy)
def test_workers_of_nearly_the_same_speed_are_placed_as_if_nobody_had_measured(
    speeds: list[float], models: list[Model]
) -> None:
    same, plain = (
        [worker(f"w{i}", speed=it) for i, it in enumerate(speeds)],
        [worker(f"w{i}") for i in range(len(speeds))],
    )
    assert tried(config(same, models)) == tried(config(plain, models))


@settings(deadline=None)
@given(st.lists(st.sampled_from([5.0, 10.0, 40.0, 160.0]), min_size=2, max_size=5), st.integers(1, 30))
def test_with_room_for_all_each_worker_has_its_share(speeds: list[float], count: int) -> None:
    workers = [worker(f"w{i}", ram=1000, speed=it) for i, it in enumerate(speeds)]
    placement = place(config(workers, [model(f"m{i}", 1) for i in range(count)]))
    has, slowest = {w.name: len(placement.on(w.name)) for w in workers}, min(speeds)
    for one, its in zip(workers, speeds, strict=True):
        for other, quick in zip(workers, speeds, strict=True):
            assert has[one.name] * slowest / its <= (has[other.name] + 1) * slowest / quick


def moved(before: Placement, after: Placement, gone: str | None = None) -> int:
    """Replicas that are elsewhere than before, of those whose worker is still there."""
    return len({it for it in where(before) if it[1] != gone} - where(after))


def test_a_worker_that_comes_or_goes_moves_little() -> None:
    models = [model(f"model-{i}", 4, 2) for i in range(12)]
    steps = [place(config([worker(f"worker-{i}") for i in range(n)], models)) for n in range(8, 20)]
    coming = [moved(a, b) for a, b in pairwise(steps)]
    going = [moved(b, a, gone=f"worker-{n}") for n, (a, b) in enumerate(pairwise(steps), start=8)]
    assert sum(coming) / len(coming) < 24 / 4
    assert sum(going) / len(going) < 24 / 4


def test_nothing_is_placed_on_a_worker_that_may_sleep() -> None:
    sleeper = dataclasses.replace(worker("b"), standby=Standby("52:54:00:12:34:56", (), None, "suspend", 900.0, False))
    found = place(config([worker("a"), sleeper], [model("everywhere", 1, "all"), model("one", 1)]))
    assert {name for _, name in where(found)} == {"a"}
    with pytest.raises(PlacementError):
        place(config([worker("a", ram=1), sleeper], [model("large", 30)]))
