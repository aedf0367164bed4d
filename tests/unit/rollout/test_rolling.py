from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import ClusterAIError, RolloutError
from cluster_ai.rollout.rolling import Halt, back, roll
from cluster_ai.rollout.waves import Wave

WAVES = st.lists(st.integers(1, 3), max_size=6).map(
    lambda sizes: [Wave(tuple(f"w{at}-{n}" for n in range(size)), "rolling") for at, size in enumerate(sizes)]
)
FAIL = Halt("fail", "too slow")


@given(WAVES, st.data())
def test_every_host_is_done_or_failed_or_untouched_and_nothing_is_switched_after_a_failure(
    waves: list[Wave], data: st.DataObject
) -> None:
    names = [name for wave in waves for name in wave.hosts]
    bad = data.draw(st.sets(st.sampled_from(names))) if names else set()
    halting = data.draw(st.none() | st.sampled_from(waves)) if waves else None
    switched: list[str] = []

    def switch(wave: Wave) -> dict[str, ClusterAIError | None]:
        switched.extend(wave.hosts)
        return {name: RolloutError("no", where=name) if name in bad else None for name in wave.hosts}

    rolled = roll(waves, switch, lambda wave, last: FAIL if wave is halting else None)
    assert sorted([*rolled.done, *rolled.failed, *rolled.untouched]) == sorted(names)
    assert switched == [name for name in names if name not in rolled.untouched]
    stops = [wave for wave in waves if bad & set(wave.hosts) or wave is halting]
    assert rolled.ok == (not stops)
    if stops:
        assert set(switched[-len(stops[0].hosts) :]) == set(stops[0].hosts)
        assert set(rolled.failed) == bad & set(stops[0].hosts)


def test_what_comes_after_a_wave_is_awaited_only_where_all_of_it_is_healthy() -> None:
    awaited: list[tuple[str, bool]] = []

    def after(wave: Wave, last: bool) -> Halt | None:
        awaited.append((wave.hosts[0], last))
        return None

    waves = [Wave(("a",), "canary"), Wave(("b",), "rolling"), Wave(("c",), "rolling")]
    wrong = RolloutError("no", where="c")
    rolled = roll(waves, lambda wave: {name: wrong if name == "c" else None for name in wave.hosts}, after)
    assert awaited == [("a", False), ("b", False)]
    assert rolled.failed == {"c": wrong}


@given(st.dictionaries(st.text("ab", max_size=5), st.none() | st.just("digest")), st.integers(1, 4))
def test_who_ran_something_before_returns_to_it_the_last_first(befores: dict[str, str | None], size: int) -> None:
    groups = back(befores, size=size)
    assert [name for group in groups for name in group] == [name for name, it in befores.items() if it][::-1]
    assert all(0 < len(group) <= size for group in groups)
