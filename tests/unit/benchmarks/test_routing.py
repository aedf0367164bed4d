"""The simulator does as Ollama does, and the same each time."""

from __future__ import annotations

import pytest

from benchmarks.bench_routing import simulate
from benchmarks.routing.conversations import Conversation, Habits, Turn, conversations
from benchmarks.routing.simulator import Machine, Outcome, Simulation, Worker
from cluster_ai.gateway.balancing import POLICIES, RoundRobin

MACHINE = Machine(slots=2, reads=100, writes=10, load=0)


def talk(starts: float, *turns: tuple[int, int], think: float = 1.0, system: int = 7) -> Conversation:
    """Turns: tokens of a message and of its answer. Begins with 100 tokens that all of the same `system` share."""
    made: list[Turn] = []
    links, ends = [system], [100]
    for message, answer in turns:
        for size in (message, answer):
            links.append(hash((links[-1], starts, size)))
            ends.append(ends[-1] + size)
        made.append(Turn(len(links) - 1, answer, think if made else 0.0))
    return Conversation(starts, tuple(links), tuple(ends), tuple(made))


def run(*told: Conversation, workers: int = 1) -> Outcome:
    made = [Worker(f"w{n}", MACHINE) for n in range(workers)]
    return Simulation(made, RoundRobin()).run(told)


def test_reading_a_prompt_takes_its_time_and_a_later_turn_reads_only_what_is_new() -> None:
    found = run(talk(0, (100, 20), (50, 20)))
    assert found.first_tokens == pytest.approx([2.0, 0.5])
    assert found.cached == 220


def test_two_at_once_are_slower_than_one_and_faster_than_one_after_the_other() -> None:
    alone, together = run(talk(0, (100, 20))), run(talk(0, (100, 20)), talk(0, (100, 20), system=8))
    assert alone.first_tokens[0] < together.first_tokens[-1] < 2 * alone.first_tokens[0]


def test_a_conversation_that_begins_meanwhile_overwrites_another_though_a_slot_is_empty() -> None:
    one, two = talk(0, (100, 20), (50, 20), think=100), talk(50, (100, 20))
    assert run(one).cached == 220
    assert run(one, two).cached == 100 + 100  # no more than what all of them begin with


def test_two_that_run_at_once_keep_a_slot_each() -> None:
    one, two = talk(0, (100, 20), (50, 20), think=100), talk(1, (100, 20), (50, 20), think=100)
    assert run(one, two).cached == 220 + 220


def test_who_waits_longer_than_the_patience_is_refused() -> None:
    found = run(*(talk(0, (100, 3000), system=n) for n in range(5)))
    assert (found.refused, len(found.first_tokens)) == (3, 2)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_same_seed_gives_the_same_numbers_and_nothing_is_lost(policy: str) -> None:
    assert simulate(8, 0.5, policy) == simulate(8, 0.5, policy)
    assert simulate(8, 0.5, policy) != simulate(8, 0.5, policy, seed=2)


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_affinity_halves_the_time_to_the_first_token_and_refuses_no_more(load: float) -> None:
    affinity, in_turn, least = (simulate(16, load, p) for p in ("affinity", "round_robin", "least_loaded"))
    assert affinity.quantile(0.5) * 2 < in_turn.quantile(0.5)
    assert affinity.quantile(0.5) < least.quantile(0.5)
    assert affinity.quantile(0.95) < least.quantile(0.95)
    assert affinity.refused <= min(in_turn.refused, least.refused)


def test_conversations_fit_their_context_and_grow() -> None:
    for one in conversations(Habits(), 200, 1.0, seed=3):
        assert one.ends[-1] <= 8192
        assert list(one.ends) == sorted(one.ends)
        assert [t.prompt for t in one.turns] == list(range(2, 2 * len(one.turns) + 1, 2))
