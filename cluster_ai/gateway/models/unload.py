"""Out of memory, on every worker: a client of a cluster can't know which of them has loaded a model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cluster_ai.gateway.api.http import Refusal, Send, send_whole
from cluster_ai.gateway.balancing import Wish
from cluster_ai.gateway.calls import Call
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.relay import LostError, Relay, Reply
from cluster_ai.gateway.trace import Trace

_NOW = frozenset((0, 0.0, "0", "0s", "0m", "0h"))
_SAYING = {"/api/generate": "prompt", "/api/chat": "messages"}  # empty: nothing is to be answered


def unloads(call: Call) -> bool:
    """As Ollama takes it: nothing to answer, and to be kept for no time. `ollama stop` asks so."""
    asked: Mapping[str, Any] = call.value
    saying = _SAYING.get(call.path)
    if saying is None or "keep_alive" not in asked or asked.get(saying):
        return False
    kept = asked["keep_alive"]
    return isinstance(kept, (int, float, str)) and not isinstance(kept, bool) and kept in _NOW


async def unload(call: Call, fleet: Fleet, relay: Relay, send: Send, trace: Trace) -> None:
    """Answers as one engine would. Raises Refusal or LostError when no worker could."""
    holders = fleet.asked(call.model, call.wish.worker)
    calls = [replace(call, whole=True, wish=Wish(worker=w.name)) for w in holders] or [call]
    found = await asyncio.gather(*(relay.open(c) for c in calls), return_exceptions=True)
    replies = [reply for reply in found if isinstance(reply, Reply)]
    try:
        if not replies:
            raise next(e for e in found if isinstance(e, (Refusal, LostError)))
        answer = max(replies, key=lambda reply: reply.status)  # an engine that would not tells why
        trace.worker, trace.status = ",".join(w.name for w in holders), answer.status
        await send_whole(send, answer.status, answer.first, [(b"content-type", answer.content_type)])
    finally:
        for reply in replies:
            reply.close()
    for worker in holders:
        worker.suspect.set()  # so that what is listed as loaded is true at once
