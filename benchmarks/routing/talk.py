"""Conversations with the real thing: each has a long history, and goes on with every answer it gets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import aiohttp

from tests.rig.cluster import MODEL, TOKEN

WORDS = ("river", "stone", "market", "window", "letter", "garden", "winter", "captain", "silver", "engine", "harbour")
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 8, "num_thread": 1}
PATIENCE = 1200  # seconds for one answer, on a machine that is full
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True, slots=True)
class Load:
    """together: conversations at once; pause: seconds between an answer and what is said to it."""

    name: str
    together: int
    conversations: int
    turns: int
    history: int  # words that a conversation begins with
    pause: float


@dataclass(slots=True)
class Heard:
    first_tokens: list[float] = field(default_factory=list)
    refused: int = 0
    again: int = 0  # turns after the first
    moves: int = 0  # of them, those that another worker answered than the turn before

    def add(self, other: Heard) -> None:
        self.first_tokens += other.first_tokens
        self.refused += other.refused
        self.again += other.again
        self.moves += other.moves


async def talk(url: str, load: Load, policy: str, seed: str) -> Heard:
    """One round of all its conversations; a seed's texts are never the beginning of another's."""
    heard = Heard()
    numbers = iter(range(load.conversations))
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(url, connector=connector, headers=HEADERS, timeout=timeout) as session:

        async def person() -> None:
            for number in numbers:
                await _converse(session, load, policy, Random(f"{seed}-{number}"), heard)  # noqa: S311

        async with asyncio.TaskGroup() as people:
            for n in range(load.together):
                people.create_task(person(), name=f"person-{n}")
    return heard


async def _converse(session: aiohttp.ClientSession, load: Load, policy: str, random: Random, heard: Heard) -> None:
    messages = [{"role": "user", "content": f"{_text(random, load.history)}. What is this about?"}]
    before = ""
    for turn in range(load.turns):
        if turn:
            await asyncio.sleep(load.pause * random.uniform(0.5, 1.5))
        answer, worker = await _ask(session, policy, messages, heard)
        heard.again += bool(turn)
        heard.moves += bool(turn) and worker != before
        before = worker
        messages += [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": f"{_text(random, 20)}: what of this?"},
        ]


async def _ask(
    session: aiohttp.ClientSession, policy: str, messages: Sequence[dict[str, str]], heard: Heard
) -> tuple[str, str]:
    begin = time.perf_counter()
    body = {"model": MODEL, "messages": messages, "options": OPTIONS}
    async with session.post("/api/chat", json=body, headers={"x-cluster-policy": policy}) as reply:
        if reply.status != 200:
            await reply.read()
            heard.refused += 1
            return "", ""
        said, first = [], 0.0
        async for line in reply.content:
            first = first or time.perf_counter() - begin
            said.append(json.loads(line)["message"]["content"])
        heard.first_tokens.append(first)
        return "".join(said), reply.headers["x-cluster-worker"]


def _text(random: Random, words: int) -> str:
    return " ".join(random.choices(WORDS, k=words))
