"""Hosts that sleep until they are needed: wakes one when replicas or tasks have no room, lets it sleep when it is idle.

One is woken at a time, and counts again once its engine answers. It is drained before it sleeps, and keeps its cordon
until it is back. Who sleeps outlasts the gateway's restarts: a host that this gateway didn't send to sleep, and that
doesn't answer, is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster_ai.cluster.membership import Membership
from cluster_ai.errors import UnavailableError
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.fleet import Fleet, State, Worker
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.models.decisions import Decided, Decisions
from cluster_ai.gateway.models.reconciler import Reconciler
from cluster_ai.gateway.models.stand_ins import StandIns
from cluster_ai.gateway.power import WakeError, wake
from cluster_ai.gateway.tasks import TaskManager
from cluster_ai.settings import StandbySettings
from cluster_ai.sizes import counted

EVERY = 2.0  # seconds between two looks
WAITS = 10.0  # seconds that tasks must have waited for room before a host is woken for them
WAKES = 900.0  # seconds that a host may take to answer after it was woken
SINKS = 180.0  # seconds that it may take to be gone after it was sent to sleep
RENEWS = 2 * 86400.0  # seconds of sleep; a host renews its certificate at 2/3 of the 7 days that it lives
RENEWING = 1800.0  # seconds that it stays awake for that
AGAIN = 600.0  # seconds until a host is tried again that didn't wake, or didn't sleep
REASON = "standby"  # of the cordon


@dataclass(frozen=True, slots=True)
class _State:
    asleep: bool
    since: float  # seconds since 1970


class Sleepers:
    """Which workers sleep, kept. Its methods block; ask from a thread. They raise Refusal as Database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> dict[str, _State]:
        with self._database.transaction() as db:
            rows = db.execute("SELECT worker, asleep, since FROM standby").fetchall()
        return {row["worker"]: _State(bool(row["asleep"]), row["since"]) for row in rows}

    def write(self, name: str, state: _State) -> None:
        with self._database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO standby VALUES (?, ?, ?)", (name, state.asleep, state.since))


@dataclass(slots=True)
class _Host:
    told: StandbySettings
    quiet: float | None = None  # since when it has nothing to do, while it is awake
    sinking: bool = False  # drained, to be sent to sleep
    sent: float | None = None  # when it was sent to sleep, until it is gone
    woken: float | None = None  # when it was woken, until it answers
    until: float = 0.0  # it isn't tried again before
    dry: str = ""  # what a dry run told last


@dataclass(slots=True)
class _Wish:
    reason: str
    memory: int  # bytes that must fit there
    worker: str = ""  # none other; empty: any


@dataclass(slots=True)
class Standby:
    fleet: Fleet
    cordons: Cordons
    membership: Membership
    tasks: TaskManager
    stand_ins: StandIns
    reconciler: Reconciler
    decisions: Decisions
    sleepers: Sleepers
    log: Log
    clock: Callable[[], float] = time.monotonic
    _hosts: dict[str, _Host] = field(init=False)
    _known: dict[str, _State] = field(init=False, default_factory=dict)
    _wish: _Wish | None = field(init=False, default=None)
    _waiting: float | None = field(init=False, default=None)  # since when tasks wait for room

    def __post_init__(self) -> None:
        upstreams = (it.upstream for it in self.fleet.workers.values())
        self._hosts = {it.name: _Host(it.standby) for it in upstreams if it.standby is not None}

    def want(self, memory: int, reason: str) -> None:
        """A replica of so many bytes has no room on those who are awake."""
        self._wish = self._wish or _Wish(reason, memory)

    async def run(self) -> None:
        """Until it is cancelled; at once where no host may sleep."""
        if not self._hosts:
            return
        await self._begin()
        while True:
            try:
                if not self.reconciler.paused():
                    await self._turn()
            except Exception as e:  # a fault of ours must not end it
                self.log.write("fault", exception="".join(traceback.format_exception(e)))
            await asyncio.sleep(EVERY)

    async def _begin(self) -> None:
        try:
            self._known = await asyncio.to_thread(self.sleepers.read)
        except Refusal as e:
            self.log.write("storage", error=e.message)
        for name in self._hosts:
            self.fleet.workers[name].asleep = name in self._known and self._known[name].asleep

    async def _turn(self) -> None:
        wish = self._wish or await self._by_tasks()
        self._wish = None
        for name, host in self._hosts.items():
            worker = self.fleet.workers[name]
            if worker.asleep:
                await self._look_at_sleeper(worker, host)
            elif name not in self._known:
                await self._first_look(worker)
            elif host.sinking:
                await self._sink(worker, host, wish)
            else:
                await self._rest(worker, host, wish)
        wish = wish or self._by_certificate()
        if wish is not None and not any(it.woken is not None for it in self._hosts.values()):
            await self._wake(wish)

    async def _first_look(self, worker: Worker) -> None:
        """Nobody knows of it yet: one that doesn't answer sleeps."""
        if worker.state is not State.JOINING:
            await self._keep(worker, asleep=worker.state is State.DOWN)

    async def _look_at_sleeper(self, worker: Worker, host: _Host) -> None:
        now, answers = self.clock(), bool(worker.health.answered)
        if host.sent is not None:
            if not answers:
                host.sent = None
            elif now - host.sent > SINKS:
                host.until = now + AGAIN
                self.log.write("standby", worker=worker.name, error=f"it was to sleep, and answers after {SINKS:.0f} s")
                await self._awake(worker, host)
        elif answers:
            self.log.write("standby", worker=worker.name, state="awake")
            await self._awake(worker, host)
        elif host.woken is not None and now - host.woken > WAKES:
            host.woken, host.until = None, now + AGAIN
            self.log.write("standby", worker=worker.name, error=f"it was woken, and doesn't answer after {WAKES:.0f} s")

    async def _awake(self, worker: Worker, host: _Host) -> None:
        host.woken = host.sent = host.quiet = None
        await self._keep(worker, asleep=False)
        if worker.cordon is not None and worker.cordon.reason == REASON:
            await self.cordons.resume(worker)

    async def _rest(self, worker: Worker, host: _Host, wish: _Wish | None) -> None:
        """Awake: let it sleep once it had nothing to do for long enough."""
        now = self.clock()
        if worker.state is not State.ACTIVE or wish is not None or self._busy(worker):
            host.quiet, host.dry = None, ""
        elif host.quiet is None:
            host.quiet = now
        elif now - host.quiet >= host.told.idle and now >= host.until:
            host.sinking = await self._decide(worker, host, 1, 0, f"nothing to do for {now - host.quiet:.0f} s")
            if host.sinking:
                await self.cordons.cordon(worker, REASON, drain=True)

    async def _sink(self, worker: Worker, host: _Host, wish: _Wish | None) -> None:
        """Drained: send it to sleep once it is empty, unless it is needed after all, or somebody else took over."""
        if worker.cordon is None or worker.cordon.reason != REASON or worker.state is State.DOWN:
            host.sinking, host.quiet = False, None
            return
        left = self.cordons.left(worker)
        if wish is not None:
            await self._stay(worker, host)
        elif not worker.in_flight and (left is None or not (left.tasks or left.results)):
            view = self.membership.view
            member = view.members.get(worker.name) if view is not None else None
            try:
                if member is None:
                    raise UnavailableError("its Dask worker is away, which would send it to sleep", where=worker.name)
                if left is None:
                    raise UnavailableError("Dask doesn't tell whether it still has tasks", where=worker.name)
                await self._keep(worker, asleep=True)  # before: a gateway that ends now must know
                await self.membership.sleep(member.address)
                host.sinking, host.sent = False, self.clock()
            except UnavailableError as e:
                self.log.write("standby", worker=worker.name, error=f"it can't be sent to sleep: {e.what}")
                host.until = self.clock() + AGAIN
                await self._stay(worker, host)

    async def _stay(self, worker: Worker, host: _Host) -> None:
        host.sinking = False
        await self._awake(worker, host)

    async def _wake(self, wish: _Wish) -> None:
        now = self.clock()
        for name, host in self._hosts.items():
            worker = self.fleet.workers[name]
            sleeps = worker.asleep and host.sent is None and now >= host.until and wish.worker in ("", name)
            if not sleeps or wish.memory > max(worker.upstream.gpu_room, worker.upstream.ram_room or 0):
                continue
            if await self._decide(worker, host, 0, 1, wish.reason):
                host.woken, host.until = now, now + RENEWING if wish.worker else host.until
                try:
                    await wake(host.told)
                except WakeError as e:
                    host.woken, host.until = None, now + AGAIN
                    self.log.write("standby", worker=name, error=f"it can't be woken: {e}")
                    continue
            return

    async def _decide(self, worker: Worker, host: _Host, before: int, after: int, reason: str) -> bool:
        """Whether it is to be done; a dry run tells once."""
        dry = host.told.dry_run
        if not dry or host.dry != f"{before}{after}":
            host.dry = f"{before}{after}"
            await self.decisions.add(Decided(time.time(), "power", worker.name, before, after, reason, dry))
        return not dry

    def _by_certificate(self) -> _Wish | None:
        """One that slept so long that its certificate would end."""
        due = time.time() - RENEWS
        names = (it for it, state in self._known.items() if it in self._hosts and state.asleep and state.since < due)
        name = next((it for it in names if self._hosts[it].until <= self.clock()), None)
        return _Wish("it has slept for two days: to renew its certificate", 0, name) if name is not None else None

    async def _by_tasks(self) -> _Wish | None:
        """Tasks that none of those who are awake has room for, for a while."""
        view = self.membership.view
        waiting = view.waiting if view is not None and self.membership.connected else 0
        if self.tasks.there:
            with contextlib.suppress(Refusal):  # it is away, and sends nothing
                waiting += int((await self.tasks.ask("GET", "/counts", {})).get("held", 0))
        if not waiting:
            self._waiting = None
            return None
        self._waiting = self._waiting if self._waiting is not None else self.clock()
        if self.clock() - self._waiting < WAITS:
            return None
        return _Wish(f"no worker has room for {counted(waiting, 'task')}", 0)

    def _busy(self, worker: Worker) -> bool:
        view = self.membership.view
        member = view.members.get(worker.name) if view is not None else None
        mine = any(it.worker == worker.name for it in self.stand_ins)
        return bool(worker.flights or mine or self.reconciler.works_on(worker.name) or (member and member.executing))

    async def _keep(self, worker: Worker, *, asleep: bool) -> None:
        worker.asleep, self._known[worker.name] = asleep, _State(asleep, time.time())
        try:
            await asyncio.to_thread(self.sleepers.write, worker.name, self._known[worker.name])
        except Refusal as e:
            self.log.write("storage", error=e.message)
