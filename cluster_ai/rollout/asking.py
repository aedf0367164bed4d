"""Prompts of a rollout's own, for where people ask a canary too little to judge it: at night, or since it got slow.

The same prompts before the switch and after it, to the canaries and to some of the others: so they are compared as
people's requests are (analysis.py), and no mix of requests comes in between. A worker is asked one thing at a time. All
times are the engine's own, from its answers, since what asks may be far away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol

from cluster_ai.errors import HostError, UnavailableError
from cluster_ai.rollout.analysis import MANY, Measured, Quotient, Trial
from cluster_ai.rollout.traffic import STATUS

PROMPTS = MANY  # for each worker, at most
TOKENS = 24
OTHERS = 3  # workers that stay as they are and are asked beside the canaries
LIMIT = 60.0  # seconds for all of them
_NUMBERS = ("eval_count", "total_duration", "eval_duration")  # of an answer, where they aren't 0: tokens, nanoseconds
_OPTIONS = {"num_predict": TOKENS, "temperature": 0, "seed": 7}


class Ask(Protocol):
    """rollout.gate.Gateway.ask"""

    def __call__(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        timeout: float = LIMIT,
        worker: str | None = None,
    ) -> tuple[int, Any]: ...


def models(ask: Ask, workers: list[str]) -> dict[str, str]:
    """What each of them is to be asked for: a model that is in its memory, so that nothing is loaded for this.

    Who has none is left out; all are, where the gateway doesn't say.
    """
    try:
        status, answer = ask("GET", STATUS)
    except (HostError, UnavailableError):
        return {}
    if status != 200 or not isinstance(answer, dict):
        return {}
    ready = {it["name"]: sorted(it["loaded"]) for it in answer["workers"] if it["state"] == "active" and it["loaded"]}
    return {name: ready[name][0] for name in workers if name in ready}


def asked(ask: Ask, wanted: Mapping[str, str]) -> dict[str, Measured]:
    """wanted: worker -> the model that it is asked for. All of them at once."""
    if not wanted:
        return {}
    end = time.monotonic() + LIMIT
    with ThreadPoolExecutor(len(wanted)) as pool:
        found = {worker: pool.submit(_one, ask, worker, model, end) for worker, model in wanted.items()}
        return {worker: it.result() for worker, it in found.items()}


def trials(before: Mapping[str, Measured], after: Mapping[str, Measured]) -> dict[str, Trial]:
    """To be judged. Who answered nothing before, as a model for embeddings does, says nothing by its silence after."""
    return {name: Trial(then, after[name]) for name, then in before.items() if then.ok and name in after}


def _one(ask: Ask, worker: str, model: str, end: float) -> Measured:
    ok = failed = 0
    response = first = seconds = tokens = 0.0
    for number in count():
        if number == PROMPTS or time.monotonic() >= end:
            break
        body = {"model": model, "prompt": f"Tell me about the number {number}.", "stream": False, "options": _OPTIONS}
        try:
            status, said = ask("POST", "/api/generate", body, timeout=LIMIT, worker=worker)
        except (HostError, UnavailableError):
            break  # that is the gateway's fault, or the way's to it
        if status != 200 or not isinstance(said, dict) or not said.get("done"):
            failed += 1
            continue
        ok += 1
        made, whole, writing = (said.get(name, 0) for name in _NUMBERS)
        response += whole / 1e9
        first += (whole - writing) / 1e9
        tokens += made
        seconds += writing / 1e9
    speed = {model: Quotient(tokens, seconds)} if seconds else {}
    return Measured(ok, failed, Quotient(response, ok), Quotient(first, ok), speed)
