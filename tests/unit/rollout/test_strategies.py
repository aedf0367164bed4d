from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.config.model import Canary, Policy, Strategy
from cluster_ai.rollout.strategies import Group, Serving, order, unavailable
from cluster_ai.rollout.waves import Wave, budget

HOSTS = [f"h{number}" for number in range(10)]  # h0 is the head
WORKERS = HOSTS[1:]
MODELS = ["a", "b", "c"]


def policy(
    strategy: Strategy = "rolling", most: int | float = 1, *, pause: float = 0.0, hosts: Any = 1, bake: float = 60.0
) -> Policy:
    return Policy(strategy, most, pause, Canary(hosts, bake, 0.01, 0.5, 0.2))


def same(**placed: str) -> Serving:
    """Models whose workers stay the same: same(a="h1 h2")."""
    return Serving.of({model: hosts.split() for model, hosts in placed.items()}, {})


def kinds(waves: tuple[Wave, ...]) -> list[tuple[str, str]]:
    return [(wave.kind, " ".join(wave.hosts)) for wave in waves]


def plan(
    changing: list[str],
    own: Policy,
    *,
    new: str = "",
    serving: Serving | None = None,
    down: str = "",
    groups: list[Group] | None = None,
    workers: int = 4,
) -> tuple[Wave, ...]:
    return order(
        changing,
        head="h0",
        new=frozenset(new.split()),
        groups=groups or [(own, WORKERS[:workers])],
        serving=serving or same(),
        down=frozenset(down.split()),
    )


def test_a_head_that_serves_goes_alone_then_the_new_then_the_others() -> None:
    assert kinds(plan(HOSTS[:5], policy(), new="h3 h4")) == [
        ("head", "h0"),
        ("first", "h3 h4"),
        ("rolling", "h1"),
        ("rolling", "h2"),
    ]


def test_a_first_release_is_one_wave() -> None:
    assert kinds(plan(HOSTS[:3], policy("canary"), new="h0 h1 h2")) == [("first", "h0 h1 h2")]


def test_there_is_a_pause_between_waves_of_workers_only() -> None:
    waves = plan(HOSTS[:4], policy(pause=5.0))
    assert [wave.pause for wave in waves] == [0.0, 5.0, 5.0, 0.0]


def test_canaries_go_before_the_others_and_are_judged() -> None:
    waves = plan(WORKERS[:4], policy("canary", 2, bake=30.0))
    assert kinds(waves) == [("canary", "h1"), ("rolling", "h2 h3"), ("rolling", "h4")]
    assert [wave.bake for wave in waves] == [30.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        (2, "h1 h2"),
        (0.5, "h1 h2"),
        (0.1, "h1"),
        (("h3",), "h3"),
        (("h3", "h2"), "h2 h3"),
        (("h9",), "h1"),
        (9, "h1 h2"),
    ],
)
def test_canaries_are_a_number_a_share_or_named_and_one_at_least(hosts: Any, first: str) -> None:
    assert kinds(plan(WORKERS[:4], policy("canary", 2, hosts=hosts)))[0] == ("canary", first)


def test_a_worker_that_serves_nothing_tells_nothing_and_is_no_canary_where_others_are() -> None:
    serving = same(a="h3 h4")
    assert kinds(plan(WORKERS[:4], policy("canary"), serving=serving))[0] == ("canary", "h3")
    assert kinds(plan(WORKERS[:2], policy("canary"), serving=serving))[0] == ("canary", "h1")


def test_more_canaries_than_may_be_out_at_once_go_one_after_another_and_each_is_judged() -> None:
    waves = plan(WORKERS[:4], policy("canary", 1, hosts=2))
    assert kinds(waves)[:3] == [("canary", "h1"), ("canary", "h2"), ("rolling", "h3")]
    assert [wave.bake for wave in waves] == [60.0, 60.0, 0.0, 0.0]


def test_blue_green_changes_one_half_judges_it_and_then_the_other() -> None:
    waves = plan(WORKERS[:5], policy("blue-green"), workers=5)
    assert [(wave.kind, len(wave.hosts), wave.bake) for wave in waves] == [("green", 3, 60.0), ("blue", 2, 0.0)]


def test_each_half_has_a_replica_of_each_model() -> None:
    waves = plan(WORKERS[:4], policy("blue-green"), serving=same(a="h1 h2", b="h3 h4"))
    assert [wave.kind for wave in waves] == ["green", "blue"]
    assert unavailable(waves, same(a="h1 h2", b="h3 h4")) == {}


def test_both_replicas_of_a_model_are_never_out_together() -> None:
    serving = same(a="h1 h2", b="h3 h4")
    waves = plan(WORKERS[:4], policy(most=4), serving=serving)
    assert kinds(waves) == [("rolling", "h1 h3"), ("rolling", "h2 h4")]


def test_what_can_not_be_spared_is_told() -> None:
    serving = same(a="h1 h2", b="h3")
    waves = plan(WORKERS[:4], policy(most=4), serving=serving)
    assert kinds(waves) == [("rolling", "h1 h4"), ("rolling", "h2"), ("rolling", "h3")]
    assert unavailable(waves, serving) == {2: ("b",)}


def test_models_without_a_spare_replica_do_not_make_more_waves_than_needed() -> None:
    assert kinds(plan(WORKERS[:4], policy(most=4), serving=same(a="h1", b="h2"))) == [
        ("rolling", "h3 h4"),
        ("rolling", "h1 h2"),
    ]


def test_a_worker_that_gains_a_model_goes_before_the_one_that_loses_it() -> None:
    serving = Serving.of({"a": ["h2"]}, {"h2": (["a"], []), "h1": ([], ["a"])})
    waves = plan(WORKERS[:2], policy(most=2), serving=serving)
    assert kinds(waves) == [("rolling", "h2"), ("rolling", "h1")]
    assert unavailable(waves, serving) == {}


def test_nobody_misses_a_model_that_is_new_or_no_longer_wanted() -> None:
    serving = Serving.of({"new": ["h1"]}, {"h1": (["new"], ["old"])})
    assert unavailable(plan(["h1"], policy(), serving=serving), serving) == {}


def test_a_worker_that_is_down_serves_nothing_and_counts_as_out() -> None:
    serving = Serving.of({"a": ["h1", "h4"]}, {}, down=["h4"])
    waves = plan(WORKERS[:3], policy(most=2), serving=serving, down="h4")
    assert kinds(waves) == [("rolling", "h2"), ("rolling", "h3"), ("rolling", "h1")]
    assert unavailable(waves, serving) == {2: ("a",)}


def test_a_head_that_is_a_worker_too_is_missed_while_it_changes() -> None:
    assert unavailable(plan(["h0", "h1"], policy(), serving=same(a="h0")), same(a="h0")) == {0: ("a",)}


def test_groups_go_one_after_another_each_in_its_own_way() -> None:
    groups: list[Group] = [(policy("canary", 1), ["h3", "h4"]), (policy("rolling", 2), ["h1", "h2"])]
    assert kinds(plan(WORKERS[:4], policy(), groups=groups)) == [
        ("canary", "h3"),
        ("rolling", "h4"),
        ("rolling", "h1 h2"),
    ]


@dataclass(frozen=True)
class World:
    changing: list[str]
    new: frozenset[str]
    groups: list[Group]
    serving: Serving
    down: frozenset[str]
    stays: bool  # no model moves

    @property
    def waves(self) -> tuple[Wave, ...]:
        return order(self.changing, head="h0", new=self.new, groups=self.groups, serving=self.serving, down=self.down)


POLICIES = st.builds(
    policy,
    st.sampled_from(["rolling", "canary", "blue-green"]),
    st.one_of(st.integers(1, 12), st.sampled_from([0.01, 0.25, 0.5, 1.0])),
    pause=st.sampled_from([0.0, 3.0]),
    hosts=st.one_of(
        st.integers(1, 12), st.sampled_from([0.1, 0.5]), st.lists(st.sampled_from(WORKERS), min_size=1).map(tuple)
    ),
    bake=st.sampled_from([0.0, 60.0]),
)
SOME = st.sets(st.sampled_from(HOSTS))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    down = frozenset(draw(st.sets(st.sampled_from(WORKERS), max_size=3)))
    changing = [name for name in draw(st.lists(st.sampled_from(HOSTS), unique=True)) if name not in down]
    new = frozenset(draw(SOME)).intersection(changing)
    split = draw(st.dictionaries(st.sampled_from(WORKERS), st.integers(0, 2)))
    parts = [[name for name in WORKERS if split.get(name, 0) == number] for number in range(3)]
    placed = {model: draw(SOME) for model in MODELS}
    stays = draw(st.booleans())
    lists = st.lists(st.sampled_from(MODELS), unique=True, max_size=1)
    moves = {} if stays else {name: (draw(lists), draw(lists)) for name in changing if name not in new}
    groups: list[Group] = [(draw(POLICIES), members) for members in parts]
    return World(changing, new, groups, Serving.of(placed, moves, new=new, down=down), down, stays)


@given(worlds())
def test_every_host_that_changes_is_in_exactly_one_wave_and_no_wave_is_empty(world: World) -> None:
    assert sorted(name for wave in world.waves for name in wave.hosts) == sorted(world.changing)
    assert all(wave.hosts for wave in world.waves)


@given(worlds())
def test_no_more_workers_that_serve_are_out_at_once_than_allowed(world: World) -> None:
    for wave in world.waves:
        if wave.kind in ("head", "first"):
            continue
        (it,) = [(own, members) for own, members in world.groups if wave.hosts[0] in members]
        own, members = it
        assert set(wave.hosts) <= set(members)
        away = len(world.down.intersection(members))
        half = max(1, (len(members) + 1) // 2 - away)
        assert len(wave.hosts) <= (
            half if own.strategy == "blue-green" else budget(own.max_unavailable, len(members), away)
        )


@given(worlds())
def test_a_model_with_two_replicas_that_serve_never_loses_all_of_them(world: World) -> None:
    """Where no model moves. What a head takes away by going alone can't be helped."""
    if not world.stays:
        return
    workers_out = [wave for wave in world.waves if wave.kind not in ("head", "first")]
    for model, workers in world.serving.then.items():
        if len(workers) >= 2 and world.serving.now[model]:
            assert all(workers - set(wave.hosts) for wave in workers_out), model


@given(worlds())
def test_a_wave_that_takes_a_model_away_is_one_that_could_not_spare_it(world: World) -> None:
    """Each of its hosts that serves what is missed would take it away alone, too."""
    waves = world.waves
    for index, missed in unavailable(waves, world.serving).items():
        if waves[index].kind in ("head", "first"):
            continue
        alone = [
            unavailable((*waves[:index], Wave((host,), "rolling")), world.serving).get(index, ())
            for host in waves[index].hosts
        ]
        assert set(missed) <= set().union(*map(set, alone))


@given(worlds())
def test_heads_and_new_hosts_come_first_and_groups_are_not_mixed(world: World) -> None:
    kinds = [wave.kind for wave in world.waves]
    assert "head" not in kinds[1:]
    assert "first" not in kinds[1:] or kinds[:2] == ["head", "first"]
    assert kinds.count("first") <= 1
    found = [
        next(number for number, (_, members) in enumerate(world.groups) if wave.hosts[0] in members)
        for wave in world.waves
        if wave.kind not in ("head", "first")
    ]
    assert found == sorted(found)


@given(worlds())
def test_those_who_are_judged_go_before_the_others_of_their_group(world: World) -> None:
    for own, members in world.groups:
        mine = [wave for wave in world.waves if wave.kind not in ("head", "first") and wave.hosts[0] in members]
        trial = [wave.kind in ("canary", "green") for wave in mine]
        assert trial == sorted(trial, reverse=True)
        assert [wave.bake for wave in mine] == [own.canary.bake if it else 0.0 for it in trial]
        assert own.strategy == "rolling" or not mine or trial[0]
    assert not world.waves or world.waves[-1].pause == 0.0
