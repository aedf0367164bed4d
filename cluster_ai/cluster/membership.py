"""Who is in the cluster, as the Dask scheduler knows it, kept fresh by a task that survives the scheduler's absence.

It speaks Dask's protocol with one connection of its own rather than as a Client: a Client that loses its scheduler
for long gives up, this asks again for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distributed.comm import connect
from distributed.core import send_recv

from cluster_ai.cluster import report
from cluster_ai.errors import UnavailableError
from cluster_ai.tls.dask import security

INTERVAL = 2.0
TIMEOUT = 5.0
SLOWEST = 10.0
STALE = 30.0
NOT_ASKED = "not asked yet"
_PLAIN = ["msgpack"]  # data only: nothing that a peer sends is unpickled


@dataclass(frozen=True, slots=True)
class Member:
    """A Dask worker, with all its processes; address and status are those of its first. executing is the number of Dask
    tasks it runs. silent: it hasn't been heard of for some seconds. report is None then, or where our plugin isn't
    loaded."""

    name: str
    address: str
    status: str  # running, paused, closing_gracefully, ...
    executing: int
    report: report.Report | None
    processes: int = 1
    silent: bool = False


@dataclass(frozen=True, slots=True)
class TaskCounts:
    total: int
    failed: int


@dataclass(frozen=True, slots=True)
class Left:
    """What a cordoned worker still has in Dask: tasks, and results that would be lost with it."""

    tasks: int
    results: int


@dataclass(frozen=True, slots=True)
class Resized:
    """The scheduler decided so on how many processes a worker has. at: seconds since 1970."""

    at: float
    name: str
    before: int
    after: int
    reason: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class View:
    """What the scheduler said last. at is the monotonic clock's; tasks is None where the scheduler counts none.

    cordoned: by name, those that the scheduler was told to give nothing.
    """

    members: Mapping[str, Member]
    tasks: TaskCounts | None
    at: float
    cordoned: Mapping[str, Left] = field(default_factory=dict)
    decided: tuple[Resized, ...] = ()  # the latest, the oldest first
    waiting: int = 0  # tasks that no worker has room for now


@dataclass(frozen=True, slots=True)
class Tls:
    ca: Path
    cert: Path
    key: Path


def parse_members(identity: Any) -> dict[str, Member]:
    """From the scheduler's identity: one member a worker's name; the freshest report where it has several processes."""
    workers = identity.get("workers") if isinstance(identity, Mapping) else None
    members: dict[str, Member] = {}
    for address, said in workers.items() if isinstance(workers, Mapping) else ():
        metrics = said.get("metrics") or {}
        own = report.parse(metrics.get(report.METRIC))
        name = own.worker if own else str(said.get("name") or address)
        executing = int((metrics.get("task_counts") or {}).get("executing") or 0)
        found = Member(name, str(address), str(said.get("status") or ""), executing, own)
        before = members.get(name)
        members[name] = found if before is None else _together(before, found, first=str(said.get("name")) == name)
    return members


def _together(before: Member, found: Member, *, first: bool) -> Member:
    """Of one worker. first: found is its first process."""
    told = [it for it in (before.report, found.report) if it is not None]
    return replace(
        found if first else before,
        executing=before.executing + found.executing,
        report=max(told, key=lambda it: it.at, default=None),
        processes=before.processes + 1,
    )


def parse_decided(said: Any) -> tuple[Resized, ...]:
    """Empty where the scheduler adapts no processes."""
    if not isinstance(said, Sequence):
        return ()
    return tuple(
        Resized(float(it["at"]), str(it["name"]), int(it["before"]), int(it["after"]), str(it["reason"]), it["dry_run"])
        for it in said
    )


def without(members: Mapping[str, Member], silent: Any) -> dict[str, Member]:
    """What silent ones said of themselves may be true no more. silent: names, as a scheduler of ours tells them."""
    names = frozenset(silent) if isinstance(silent, list | tuple) else frozenset()
    return {name: replace(m, report=None, silent=True) if name in names else m for name, m in members.items()}


def parse_left(said: Any) -> Mapping[str, Left]:
    """Empty where the scheduler knows no cordons."""
    if not isinstance(said, Mapping):
        return MappingProxyType({})
    return MappingProxyType({str(name): Left(int(it["tasks"]), int(it["results"])) for name, it in said.items()})


class Membership:
    """`async with` starts and ends it. view stays at the last that was known; connected says whether it is fresh."""

    def __init__(
        self, scheduler: str, tls: Tls | None, on_change: Callable[[View | None, str], None] | None = None
    ) -> None:
        self._address = scheduler
        self._args = _connection_args(tls)
        self._on_change = on_change or (lambda view, reason: None)
        self._task: asyncio.Task[None] | None = None
        self._view: View | None = None
        self.reason = NOT_ASKED  # why it isn't connected; empty when it is

    @property
    def connected(self) -> bool:
        return not self.reason

    @property
    def view(self) -> View | None:
        """None when nothing is known, or when what is known is older than half a minute."""
        if self._view is None or time.monotonic() - self._view.at > STALE:
            return None
        return self._view

    async def __aenter__(self) -> Membership:
        self._task = asyncio.create_task(self._watch(), name="membership")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def cordon(self, names: Mapping[str, bool]) -> Mapping[str, Left]:
        """Exactly these workers get no Dask tasks from now on; true: what only they hold is moved away too.

        Over a connection of its own, within TIMEOUT seconds. Raises UnavailableError.
        """
        said = await self._once(self._address, "the scheduler", op=report.CORDON, cordoned=dict(names))
        if not isinstance(said, Mapping):
            raise UnavailableError("the scheduler is an older one, which can't be told", where=self._address)
        left = parse_left(said)
        if self._view is not None:
            self._view = replace(self._view, cordoned=left)
        return left

    async def sleep(self, address: str) -> None:
        """The standby host at this address of its Dask worker goes to sleep. As cordon; raises UnavailableError."""
        if await self._once(address, "its Dask worker", op=report.SLEEP) is not True:
            raise UnavailableError("its release knows of no sleep: `cluster-ai apply`", where=address)

    async def _once(self, address: str, who: str, **message: Any) -> Any:
        """What it answers. Raises UnavailableError."""
        try:
            async with asyncio.timeout(TIMEOUT):
                comm = await connect(address, timeout=TIMEOUT, **self._args)
                try:
                    return await send_recv(comm, serializers=_PLAIN, **message)
                finally:
                    comm.abort()
        except TimeoutError:
            raise UnavailableError(f"{who} doesn't answer", where=address) from None
        except Exception as e:  # Dask's comms raise many kinds
            raise UnavailableError(f"{who} is away: {e}", where=address) from e

    async def _watch(self) -> None:
        wait = 1.0
        while True:
            try:
                await self._follow()
            except TimeoutError:
                reason = f"the scheduler at {self._address} doesn't answer"
            except Exception as e:  # Dask's comms raise many kinds; none may end the watching
                reason = f"the scheduler at {self._address} is away: {e}"
            wait = 1.0 if self.connected else min(wait * 2, SLOWEST)
            changed, self.reason = self.connected or self.reason == NOT_ASKED, reason
            if changed:
                self._on_change(None, reason)
            await asyncio.sleep(wait)

    async def _follow(self) -> None:
        """Asks again and again over one connection, until that breaks."""
        comm = await connect(self._address, timeout=TIMEOUT, **self._args)
        try:
            counts = True
            while True:
                identity = await self._ask(comm, "identity")
                said = await self._ask(comm, report.TASKS) if counts else None
                counts = isinstance(said, dict)  # ask a scheduler without our plugin only once: it logs each time
                tasks = TaskCounts(int(said["total"]), int(said["failed"])) if isinstance(said, dict) else None
                more = said if isinstance(said, dict) else {}
                left, decided = parse_left(more.get("cordoned")), parse_decided(more.get("decided"))
                members = MappingProxyType(without(parse_members(identity), more.get("silent")))
                self._view = View(members, tasks, time.monotonic(), left, decided, int(more.get("waiting", 0)))
                self.reason = ""
                self._on_change(self._view, "")
                await asyncio.sleep(INTERVAL)
        finally:
            with contextlib.suppress(Exception):
                comm.abort()

    async def _ask(self, comm: Any, what: str) -> Any:
        async with asyncio.timeout(TIMEOUT):
            return await send_recv(comm, op=what, serializers=_PLAIN)


def _connection_args(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    args: dict[str, Any] = security(tls.cert.parent).get_connection_args("client")
    return args
