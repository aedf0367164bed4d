"""Conversations, made from a seed: they come back, and each time with all that was said before.

A message is a link of a hash chain and a number of tokens; neither simulator nor policies need its words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from cluster_ai.gateway.balancing import Chain

CHARACTERS = 4  # a token
CONTEXT = 8192  # tokens; a conversation ends before


@dataclass(frozen=True, slots=True)
class Turn:
    """prompt: links of the conversation that are asked with; its answer is the link after them."""

    prompt: int
    tokens: int  # of the answer
    think: float  # seconds before it is asked


@dataclass(frozen=True, slots=True)
class Conversation:
    """links and ends: system prompt, then message and answer in turn; ends in tokens."""

    starts: float
    links: tuple[int, ...]
    ends: tuple[int, ...]
    turns: tuple[Turn, ...]

    def chain(self, links: int) -> Chain:
        """As a gateway sees the first so many."""
        return Chain(self.links[:links], tuple(CHARACTERS * end for end in self.ends[:links]))


@dataclass(frozen=True, slots=True)
class Habits:
    """What conversations are like. Means; lengths vary as those of people do, by a factor of some e either way."""

    systems: int = 12  # system prompts, of which a few are used by most
    system: int = 400  # tokens
    message: int = 120
    answer: int = 180
    turns: float = 6
    think: float = 20  # seconds


def work(habits: Habits) -> float:
    """Tokens of answers in a conversation, on average."""
    return habits.turns * habits.answer


def conversations(habits: Habits, count: int, every: float, seed: int) -> list[Conversation]:
    """So many, one beginning every so many seconds on average."""
    random = Random(seed)  # noqa: S311 (no secret)
    systems = [_length(random, habits.system) for _ in range(habits.systems)]
    weights = [1 / (n + 1) for n in range(habits.systems)]
    found, now = [], 0.0
    for number in range(count):
        now += random.expovariate(1 / every)
        (kind,) = random.choices(range(habits.systems), weights)
        found.append(_one(random, habits, now, (kind, systems[kind]), number))
    return found


def _one(random: Random, habits: Habits, starts: float, system: tuple[int, int], number: int) -> Conversation:
    links, ends, turns = [hash((-1, system[0]))], [system[1]], []
    wanted = 1 + int(random.expovariate(1 / (habits.turns - 0.5)))
    for n in range(wanted):
        message, answer = _length(random, habits.message), _length(random, habits.answer)
        if ends[-1] + message + answer > CONTEXT:
            break
        for kind, size in ((0, message), (1, answer)):
            links.append(hash((links[-1], number, n, kind)))
            ends.append(ends[-1] + size)
        think = random.expovariate(1 / habits.think) if n else 0.0
        turns.append(Turn(len(links) - 1, answer, think))
    return Conversation(starts, tuple(links), tuple(ends), tuple(turns))


def _length(random: Random, mean: int) -> int:
    spread = 0.8
    return max(1, round(random.lognormvariate(math.log(mean) - spread * spread / 2, spread)))
