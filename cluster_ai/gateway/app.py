"""The gateway as one ASGI application: lets in, routes, and writes each request's line in the log.

What streams is bare ASGI; what is administration is FastAPI beside it.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from cluster_ai.audit.chain import Event
from cluster_ai.gateway import spending
from cluster_ai.gateway.admission.gate import Gate
from cluster_ai.gateway.admission.users import NOBODY, not_allowed
from cluster_ai.gateway.api.batches import Batches
from cluster_ai.gateway.api.http import (
    JSON,
    ClientGone,
    Receive,
    Refusal,
    Scope,
    Send,
    api_of,
    encode,
    error_body,
    send_whole,
)
from cluster_ai.gateway.api.inference import CLIENT_LEFT, ROUTES, Inference
from cluster_ai.gateway.api.listing import Listing
from cluster_ai.gateway.api.native.api import NativeApi
from cluster_ai.gateway.api.native.figures import Figures
from cluster_ai.gateway.api.native.parts import PREFIX, Parts
from cluster_ai.gateway.auth import KEY_IN_PATH, credentials, key_from_path
from cluster_ai.gateway.balancing import Balancer
from cluster_ai.gateway.calls import Route, wish_of
from cluster_ai.gateway.context import Contexts
from cluster_ai.gateway.exposition import Exposition
from cluster_ai.gateway.identity.roles import OPEN, Need, need_of
from cluster_ai.gateway.metering import Meter
from cluster_ai.gateway.models.actuator import Actuator
from cluster_ai.gateway.models.autoscaler import Autoscaler
from cluster_ai.gateway.models.changes import Changes
from cluster_ai.gateway.models.decisions import Decisions
from cluster_ai.gateway.models.history import History
from cluster_ai.gateway.models.lease import holder
from cluster_ai.gateway.models.memory import Memory
from cluster_ai.gateway.models.reconciler import Reconciler
from cluster_ai.gateway.models.registry import Registry
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.gateway.models.standby import Sleepers, Standby
from cluster_ai.gateway.relay import Failover, LostError, Relay
from cluster_ai.gateway.routing import Handler, Table
from cluster_ai.gateway.surroundings import Surroundings
from cluster_ai.gateway.trace import Trace
from cluster_ai.gateway.yielding import tell

_DOCS = f"{PREFIX}/docs"
_JWKS = "/.well-known/jwks.json"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BUSY_WAIT = (b"retry-after", b"2")
_UNLOGGED = frozenset(("/health", "/metrics"))  # asked every few seconds


class Gateway:
    """Its parts are given; it owns none of their lifetimes."""

    def __init__(self, around: Surroundings) -> None:
        fleet, settings = around.fleet, around.settings
        self._tasks, self._account = around.tasks, around.books.account
        self._audit, self._logins = around.audit, around.logins
        self._fleet, self._guard, self._log, self._tracing = fleet, around.guard, around.log, around.tracing
        self.ending = False  # set when this process is to end
        self._registry = CollectorRegistry()
        self._meter = meter = Meter(self._registry)
        for worker in fleet.workers.values():
            meter.expect(worker.name, worker.placed)
        gate = Gate(settings.limits, fleet.able, fleet.awaited, around.books.account, meter)
        fleet.changed = gate.changed
        self._registry.register(Exposition(fleet, around.membership, meter, gate))
        relay = Relay(fleet, Balancer(settings.policy), around.client, self._failed_over, meter.faulted, around.wire)
        contexts = Contexts(fleet, relay, settings.context, meter.too_long)
        self._changes = Changes(fleet, around.client, around.blobs)
        memory, stand_ins = Memory(fleet, relay), StandIns(around.database)
        known = Registry(settings, fleet, memory, stand_ins)
        files, lease = (Path(it) if it else None for it in (settings.blobs, settings.lease))
        actuator = Actuator(fleet, around.client, memory, files)

        def paused() -> str:
            return "another gateway takes over" if self.ending else holder(lease)

        self._reconciler = Reconciler(fleet, known, stand_ins, actuator, meter, around.log, paused)
        history = History(around.client, settings.prometheus)
        self._decisions = decisions = Decisions(around.database, around.log)
        self._membership = around.membership
        self._standby = Standby(
            *(fleet, around.cordons, around.membership, around.tasks, stand_ins, self._reconciler),
            *(decisions, Sleepers(around.database), around.log),
        )
        self._autoscaler = Autoscaler(
            *(fleet, gate, known, stand_ins, self._reconciler, history, decisions, self._standby),
            *(meter, self._registry, around.log),
        )
        self._native = NativeApi(
            Parts(
                settings=settings,
                fleet=fleet,
                membership=around.membership,
                cordons=around.cordons,
                health=around.health,
                relay=relay,
                meter=meter,
                registry=self._registry,
                figures=Figures(self._registry),
                database=around.database,
                tasks=around.tasks,
                gate=gate,
                books=around.books,
                contexts=contexts,
                models=self._changes,
                memory=memory,
                known=known,
                stand_ins=stand_ins,
                decisions=decisions,
                logins=around.logins,
                audit=around.audit,
            )
        )
        self._routes = self._table(Inference(fleet, relay, contexts, meter, gate, settings.limits))
        for method, path in self.routes():
            if path not in OPEN and need_of(method, path) is None:
                self._log.write("no_role", method=method, path=path)  # nobody reaches it: roles.py has no entry

    def _table(self, inference: Inference) -> Table:
        table = Table()
        table.add("GET", "/health", self._health)
        table.add("GET", "/", self._root)
        table.add("GET", "/metrics", self._metrics)
        table.add("GET", _JWKS, self._jwks)
        Listing(self._fleet).enter(table)
        self._changes.enter(table)
        Batches(self._tasks).enter(table)
        table.add("GET", _DOCS, self._native.page)
        for path, handler in self._native.streaming.items():
            table.add("POST", path, handler)
        for route in ROUTES:
            table.add("POST", route.path, self._relayed(inference, route))
        return table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        path: str = scope["path"]
        asked = credentials(scope["headers"])
        if path.startswith(KEY_IN_PATH):
            scope, path = key_from_path(scope, asked)
        trace = Trace(_request_id(asked.request_id), time.perf_counter())
        sent = _Sent(send, trace, last=self.ending)
        client = scope["client"][0] if scope["client"] else ""
        span = None
        try:
            if path not in OPEN:
                trace.user = self._guard.check(asked, client)
                trace.service = asked.service
                if self._tracing is not None and path not in _UNLOGGED:
                    span = self._tracing.begin(scope["method"], self._route_name(path), scope["headers"], trace)
            if asked.policy or asked.worker:
                trace.wish = wish_of(asked.policy, asked.worker)
            handler = self._handler(scope["method"], path)
            if path not in OPEN:
                self._permit(scope, path, sent, trace, client)
            await handler(scope, receive, sent, trace)
        except Refusal as refusal:
            trace.error = refusal.message
            if refusal.status in (401, 403) and trace.user is NOBODY and asked.authorization:
                await self._audit.stranger(client, trace.id, path, refusal.message)
            if not sent.status:
                await self._refuse(path, refusal, sent, trace)
        except LostError as e:
            trace.error = trace.error or e.reason
            if not sent.status:
                await self._refuse(path, Refusal(502, "worker_lost", e.reason, [_BUSY_WAIT]), sent, trace)
        except ClientGone:
            trace.error, sent.status = "the client left", CLIENT_LEFT
        except RecursionError:
            trace.error = "the request body is nested too deeply"
            if sent.status:
                raise
            await self._refuse(path, Refusal(400, "invalid_json", trace.error), sent, trace)
        except Exception as e:
            trace.error = f"a fault of ours: {e!r}"
            self._log.write("fault", id=trace.id, exception=traceback.format_exc())
            if sent.status:
                raise  # too late for another answer: the server closes the connection
            await self._refuse(path, Refusal(500, "internal", "a fault of the gateway; its log has it"), sent, trace)
        finally:
            if span is not None and self._tracing is not None:
                self._tracing.end(span, sent.status, trace)
            self._meter.request(self._route_name(path), sent.status)
            if path not in _UNLOGGED or sent.status >= 400:
                self._log.gather(
                    "request",
                    id=trace.id,
                    client=client,
                    method=scope["method"],
                    path=path,
                    status=sent.status,
                    **trace.fields(),
                )

    async def upkeep(self) -> None:
        """What is to be done from time to time, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._native.upkeep(), name="native API")
            group.create_task(self._reconciler.run(), name="reconciler")
            group.create_task(self._autoscaler.run(), name="autoscaler")
            group.create_task(self._standby.run(), name="standby")
            group.create_task(self._decisions.follow(self._membership), name="decisions")
            if self._tasks.there:
                group.create_task(tell(self._fleet, self._tasks), name="people's slots")
                used = spending.keep(self._account, self._tasks, self._autoscaler.used)
                group.create_task(used, name="what tasks used")

    def _handler(self, method: str, path: str) -> Handler:
        if path.startswith(PREFIX + "/") and self._routes.name(path) is None:
            return self._native.administer
        return self._routes.find(method, path)

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of each, gaps as {name}."""
        return [*self._routes.routes(), *self._native.routes()]

    def _permit(self, scope: Scope, path: str, sent: _Sent, trace: Trace, client: str) -> None:
        """Raises Refusal (403). What the table of roles doesn't know is nobody's; what isn't there at all is a 404."""
        method, route, target = scope["method"], path, ""
        need = need_of(method, path)
        if need is None:
            known = self._routes.name(path)
            if known is None:
                found = self._native.route(scope)
                if found is None:
                    return
                known, target = found
            else:
                target = path[known.find("{") :]
            route, need = known, need_of(method, known)
        if need is not None and need.audited:
            sent.note = partial(self._note, need, target, trace, client)
        if need is None:
            raise Refusal(403, "no_role", f"{method} {route} is open to no role: roles.py has no entry for it")
        if not trace.user.may(need.action, need.resource):
            raise not_allowed(trace.user, need.action, need.resource)

    async def _note(self, need: Need, target: str, trace: Trace, client: str, status: int) -> None:
        result = "done" if status < 400 else "refused" if status in (401, 403) else "failed"
        user, on = trace.user, trace.about or target or trace.model
        note = ", ".join(it for it in (trace.note, f"asked by {trace.service}" if trace.service else "") if it)
        event = Event(user.name, need.what, on, client, result, role=user.role, request=trace.id, note=note)
        await self._audit.write(event)

    async def _refuse(self, path: str, refusal: Refusal, send: Send, trace: Trace) -> None:
        body = encode(error_body(api_of(path), refusal, trace.id))
        await send_whole(send, refusal.status, body, [JSON, *refusal.headers])

    async def _health(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        workers = len(self._fleet.active())
        body = encode({"status": "ok" if workers else "no worker is active", "workers": workers})
        await send_whole(send, 200 if workers else 503, body, [JSON])

    async def _jwks(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """The public halves of the keys that sign login tokens, for whoever else verifies them."""
        await send_whole(send, 200, encode(self._logins.jwks()), [JSON, (b"cache-control", b"max-age=3600")])

    async def _root(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        await send_whole(send, 200, b"Ollama is running", [_TEXT])

    async def _metrics(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        """With exemplars for whoever reads OpenMetrics."""
        accepted = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        encoder, kind = choose_encoder(accepted.decode("latin-1"))
        await send_whole(send, 200, encoder(self._registry), [(b"content-type", kind.encode())])

    @staticmethod
    def _relayed(inference: Inference, route: Route) -> Handler:
        async def handler(scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
            await inference.handle(route, receive, send, trace)

        return handler

    def _failed_over(self, it: Failover) -> None:
        self._meter.failover(it.before, it.model, it.moment)
        self._log.write("failover", to=it.after, model=it.model, reason=it.reason, moment=it.moment)

    def _route_name(self, path: str) -> str:
        """For the metric's label: never what a client made up."""
        known = self._routes.name(path)
        if known is not None:
            return known
        return self._native.name(path) if path.startswith(PREFIX + "/") else "other"


class _Sent:
    """Sees the status on its way out, and gives every answer its trace's headers. last: of its connection."""

    __slots__ = ("_headers", "_send", "note", "status")

    def __init__(self, send: Send, trace: Trace, *, last: bool) -> None:
        self._send, self._headers = send, trace.headers
        self._headers.append((b"x-request-id", trace.id.encode()))
        if last:
            self._headers.append((b"connection", b"close"))
        self.status = 0
        self.note: Callable[[int], Awaitable[None]] | None = None  # told the status before the client is

    def __call__(self, message: Any) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._headers]
            if self.note is not None:
                return self._noted(self.note, message)
        return self._send(message)

    async def _noted(self, note: Callable[[int], Awaitable[None]], message: Any) -> None:
        await note(self.status)
        await self._send(message)


def _request_id(given: bytes) -> str:
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return f"{random.getrandbits(64):016x}"  # a name, not a secret
