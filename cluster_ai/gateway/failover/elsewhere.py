"""Finds another worker for an answer that broke off, and has it go on where the client's text ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from cluster_ai.gateway.api.http import Refusal, encode
from cluster_ai.gateway.balancing import Balancer
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.failover.forms import Counts, Form
from cluster_ai.gateway.failover.lost import LostError
from cluster_ai.gateway.failover.onward import Before, Onward
from cluster_ai.gateway.failover.question import Facts, Question, facts, question
from cluster_ai.gateway.failover.said import Said, UnresumableError, doubtful
from cluster_ai.gateway.fleet import Fleet, Worker
from cluster_ai.gateway.flight import Flight

HEADERS = {"content-type": "application/json"}
BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
_LONGEST = aiohttp.ClientTimeout(total=330, sock_connect=3)  # a model may have to be loaded for what is asked


@dataclass(frozen=True, slots=True)
class Resumed:
    """The answer goes on there. onward None: there was nothing to add but its end, which is rest."""

    worker: Worker
    flight: Flight
    response: aiohttp.ClientResponse | None = None
    onward: Onward | None = None
    rest: bytes = b""


class Elsewhere:
    def __init__(self, fleet: Fleet, balancer: Balancer, client: aiohttp.ClientSession) -> None:
        self._fleet, self._balancer, self._client = fleet, balancer, client
        self._facts: dict[tuple[str, str], Facts] = {}  # by model and its digest

    async def resume(self, call: Call, form: Form, raw: bytes, lost: Worker, seconds: float) -> Resumed:
        """raw: what the client was sent; lost: who sent it; seconds: how long. Raises UnresumableError."""
        said = form.said(raw)
        asked = question(call.path, json.loads(call.body))
        tried: set[str] = set()
        reason = ""
        while worker := self._next(call, lost, tried):
            try:
                return await self._on(worker, call, form, asked, said, seconds)
            except LostError as e:
                reason = f" ({worker.name}: {e.reason})"
                tried.add(worker.name)
                self._fleet.blamed(worker, e.reason, time.monotonic())
                worker.suspect.set()
        raise UnresumableError(f"no other worker could{reason}")

    def _next(self, call: Call, lost: Worker, tried: set[str]) -> Worker | None:
        """Another worker, at last the same one: it may be its model's runner alone that died."""
        try:
            able = self._fleet.asked(call.model, call.wish.worker)
        except Refusal:
            return None
        able = tuple(w for w in able if w.name not in tried)
        candidates: Sequence[Worker] = [w for w in able if w is not lost] or able
        if not candidates:
            return None
        return self._balancer.choose(self._fleet.admitted(candidates, time.monotonic()), call)

    async def _on(self, worker: Worker, call: Call, form: Form, asked: Question, said: Said, seconds: float) -> Resumed:
        task = asyncio.current_task()
        assert task is not None
        started = time.monotonic()
        flight = Flight(task, started, call.model, len(call.body), streams=True)
        worker.flights.add(flight)
        self._fleet.sent(worker, started)
        try:
            prompt, known = await self._prompt(worker, asked), await self._known(worker, call.model, asked.model)
            if known.parsed or (known.thinks and not said.pieces):
                raise UnresumableError("it may think, or call tools")
            resumed = await self._go_on(worker, flight, form, asked, said, prompt, known, seconds)
        except BaseException as e:
            worker.flights.discard(flight)
            if isinstance(e, asyncio.CancelledError) and flight.lost:
                task.uncancel()
                raise LostError(flight.lost) from None
            if isinstance(e, BROKEN):
                raise LostError(str(e) or type(e).__name__) from e
            self._fleet.unsent(worker)
            raise
        self._fleet.proved(worker, time.monotonic())
        return resumed

    async def _go_on(
        self,
        worker: Worker,
        flight: Flight,
        form: Form,
        asked: Question,
        said: Said,
        prompt: str,
        known: Facts,
        seconds: float,
    ) -> Resumed:
        started = time.monotonic()
        limit, tokens, prompt_tokens = asked.limit(known), len(said.pieces), None
        if limit is not None and doubtful(said.pieces, asked.stops(known)):
            prompt_tokens = await self._tokens(worker, asked, prompt)
            tokens = max(tokens, await self._tokens(worker, asked, prompt + said.text) - prompt_tokens)
        left = None if limit is None else limit - tokens
        if said.finish or (left is not None and left <= 0):
            counts = Counts(prompt_tokens or await self._tokens(worker, asked, prompt), tokens, time=int(seconds * 1e9))
            rest = form.last(said, said.finish or "length", counts, usage=asked.usage)
            return Resumed(worker, flight, rest=rest)
        body = encode(asked.onward(prompt, said.text, left))
        response = await self._client.post(
            worker.url("/api/generate"), data=body, headers=HEADERS, allow_redirects=False
        )
        if response.status != 200:
            async with response:
                raise LostError(
                    f"it answered {response.status}: {(await response.read())[:200].decode(errors='replace')}"
                )
        flight.response = response
        before = Before(tokens, seconds, prompt_tokens)
        onward = Onward(form, said, before, lambda: seconds + time.monotonic() - started, usage=asked.usage)
        return Resumed(worker, flight, response, onward)

    async def _prompt(self, worker: Worker, asked: Question) -> str:
        if asked.prompt is not None:
            return asked.prompt
        return asked.rendered(await self._ask(worker, asked.path, asked.render))

    async def _known(self, worker: Worker, model: str, name: str) -> Facts:
        present = worker.present.get(model)
        key = (model, present.digest if present is not None else "")
        found = self._facts.get(key)
        if found is None:
            found = self._facts[key] = facts(await self._ask(worker, "/api/show", {"model": name}))
        return found

    async def _tokens(self, worker: Worker, asked: Question, prompt: str) -> int:
        return int((await self._ask(worker, "/api/generate", asked.count(prompt))).get("prompt_eval_count") or 0)

    async def _ask(self, worker: Worker, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._client.post(
            worker.url(path), data=encode(body), headers=HEADERS, allow_redirects=False, timeout=_LONGEST
        ) as response:
            text = await response.read()
            if response.status != 200:
                raise LostError(f"{path} answered {response.status}")
        try:
            value = json.loads(text)
        except ValueError as e:
            raise LostError(f"{path} answered what is no JSON") from e
        return value if isinstance(value, dict) else {}
