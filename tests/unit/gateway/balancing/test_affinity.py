"""A conversation goes where its cache is, as long as that is a good place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.balancing import Affinity
from cluster_ai.gateway.balancing.affinity import bound
from tests.unit.gateway.balancing.workers import HOT, Ask, W

LONG, ANSWER = "x" * 8000, "a" * 400


def idle(*names: str, slots: int = 2) -> list[W]:
    return [W(name, 0, slots, HOT) for name in names]


def talk(affinity: Affinity, workers: Sequence[W], who: str, turns: int) -> list[str]:
    """The workers that a conversation's turns went to."""
    said, went = [who + LONG], []
    for n in range(turns):
        went.append(affinity.choose(workers, Ask(tuple(said))).name)
        said += [ANSWER, f"and {n}?"]
    return went


def test_a_conversation_stays_on_its_worker_and_others_go_elsewhere() -> None:
    affinity, workers = Affinity(), idle("a", "b", "c")
    homes = [talk(affinity, workers, who, 4) for who in ("one", "two", "three")]
    assert [len(set(went)) for went in homes] == [1, 1, 1]
    assert {went[0] for went in homes} == {"a", "b", "c"}


def test_short_conversations_stay_too() -> None:
    affinity, workers = Affinity(), idle("a", "b")
    first = affinity.choose(workers, Ask(("hi",)))
    assert affinity.choose(workers, Ask(("hi", "hello!", "how are you?"))) is first


def test_it_moves_when_its_worker_is_full_and_stays_where_it_went() -> None:
    affinity, workers = Affinity(), idle("a", "b")
    said: tuple[str, ...] = ("one" + LONG,)
    home = affinity.choose(workers, Ask(said))
    (other,) = (w for w in workers if w is not home)
    busy = [replace(home, in_flight=2), other]
    said = (*said, ANSWER, "and?")
    assert affinity.choose(busy, Ask(said)).name == other.name
    said = (*said, ANSWER, "and then?")
    assert affinity.choose(workers, Ask(said)).name == other.name


def test_conversations_are_spread_so_that_none_overwrites_another() -> None:
    affinity, workers = Affinity(), idle("a", "b", "c", "d")  # of two slots, but a runner fills one while it is idle
    people = [f"p{n}" for n in range(4)]
    homes = {p: affinity.choose(workers, Ask((p + LONG,))).name for p in people}
    assert sorted(homes.values()) == ["a", "b", "c", "d"]
    later = {p: affinity.choose(workers, Ask((p + LONG, ANSWER, "and?"))).name for p in people}
    assert later == homes


def test_two_that_run_at_once_on_a_worker_keep_a_slot_each() -> None:
    affinity = Affinity()
    idle_one, busy_one = W("a", 0, 2, HOT), W("a", 1, 2, HOT)
    affinity.choose([idle_one], Ask(("one" + LONG,)))
    affinity.choose([busy_one], Ask(("two" + LONG,)))
    assert affinity.caches.held() == 2
    workers = [idle_one, W("b", 0, 2, HOT)]
    for who in ("one", "two"):
        assert affinity.choose(workers, Ask((who + LONG, ANSWER, "and?"))).name == "a"


def test_a_cache_in_which_another_request_runs_is_of_no_use() -> None:
    affinity = Affinity()
    affinity.choose([W("a", 0, 2, HOT)], Ask((LONG, "question 1")))
    workers = [W("a", 1, 2, HOT), W("b", 0, 2, HOT)]
    assert affinity.choose(workers, Ask((LONG, "question 2"))).name == "b"


def test_a_new_conversation_drives_out_the_one_that_was_idle_longest() -> None:
    affinity, workers = Affinity(), idle("a", "b", slots=1)
    first, second = (talk(affinity, workers, who, 1)[0] for who in ("one", "two"))
    for n in range(6):
        affinity.choose(workers, Ask(("two" + LONG, *[ANSWER, "and?"] * (n + 1))))
    assert talk(affinity, workers, "three", 1) == [first]
    assert first != second


def test_a_shared_system_prompt_is_no_reason_to_drive_out_a_conversation() -> None:
    affinity, workers = Affinity(), idle("a", "b", slots=1)
    system = "s" * 1200
    home = affinity.choose(workers, Ask((system, "one" + LONG)))
    assert affinity.choose(workers, Ask((system, "two"))) is not home


def test_a_long_document_that_many_ask_about_stays_where_it_is() -> None:
    affinity, workers = Affinity(), idle("a", "b", slots=4)
    went = {affinity.choose(workers, Ask((LONG * 4, f"question {n}"))).name for n in range(4)}
    assert len(went) == 1


def test_a_cache_that_went_with_its_model_counts_for_nothing() -> None:
    affinity, workers = Affinity(), idle("a", "b")
    home = affinity.choose(workers, Ask(("one" + LONG,)))
    after = [replace(w, loaded=frozenset()) if w is home else w for w in workers]
    assert affinity.choose(after, Ask(("one" + LONG, ANSWER, "and?"))).name != home.name


def test_a_slow_worker_loses_its_conversation_to_one_that_reads_it_anew_sooner() -> None:
    affinity, workers = Affinity(), [W("slow", 0, 2, HOT, rate=5.0)]
    affinity.choose(workers, Ask(("one" + LONG,)))
    workers.append(W("quick", 0, 2, HOT, rate=200.0))
    assert affinity.choose(workers, Ask(("one" + LONG, ANSWER, "and?"))).name == "quick"


NAMES = "abcdef"
MESSAGES = st.lists(st.sampled_from(["", "hi", "x" * 500, "y" * 5000]), min_size=1, max_size=5)


@given(data=st.data(), leaver=st.sampled_from(NAMES))
def test_when_a_worker_leaves_only_its_own_conversations_move(data: st.DataObject, leaver: str) -> None:
    affinity, workers = Affinity(), idle(*NAMES, slots=4)
    people = [f"p{n}" for n in range(data.draw(st.integers(1, len(NAMES))))]
    homes = {p: affinity.choose(workers, Ask((p + LONG,))).name for p in people}
    left = [w for w in workers if w.name != leaver]
    order = data.draw(st.permutations([p for p in people if homes[p] != leaver]))
    assert {p: affinity.choose(left, Ask((p + LONG, ANSWER, "and?"))).name for p in order} == {
        p: home for p, home in homes.items() if home != leaver
    }


@given(data=st.data())
def test_no_worker_is_filled_beyond_its_bound(data: st.DataObject) -> None:
    affinity = Affinity()
    for _ in range(8):
        numbers = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), min_size=2, max_size=5))
        workers = [W(NAMES[i], n, slots, HOT) for i, (n, slots) in enumerate(numbers)]
        chosen = affinity.choose(workers, Ask(tuple(data.draw(MESSAGES))))
        requests, slots = sum(w.in_flight for w in workers) + 1, sum(w.slots for w in workers)
        assert chosen.in_flight < chosen.slots or requests > slots
        assert chosen.in_flight < bound(workers)(chosen)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from("mn"), MESSAGES)))
def test_what_it_remembers_is_bounded_by_the_slots_there_are(requests: list[tuple[str, str, list[str]]]) -> None:
    affinity = Affinity()
    for name, model, said in requests:
        affinity.choose(idle(name), Ask(tuple(said), model))
    assert affinity.caches.held() <= 2 * len(NAMES) * 2
