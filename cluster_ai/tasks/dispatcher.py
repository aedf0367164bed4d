"""Keeps Dask supplied with tasks from the journal, and the journal with what came out.

Whatever is lost on the way, connection, scheduler, or this process, the journal knows which tasks were sent: they are
sent again, as the same attempt. A worker that has begun one which may run only once doesn't begin it again (ledger.py),
and such a task goes to the same worker as before. It is given a worker no sooner than one has room for it (floor.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from distributed import Client, Future
from distributed.client import FutureCancelledError, FuturesCancelledError, wait
from distributed.scheduler import KilledWorker
from distributed.security import Security

from cluster_ai.cluster import silence, spreading
from cluster_ai.settings import TaskWorker
from cluster_ai.tasks import placing, work
from cluster_ai.tasks.floor import Floor
from cluster_ai.tasks.journal import Journal, Outcome
from cluster_ai.tasks.model import State, Task
from cluster_ai.tasks.outcomes import outcome
from cluster_ai.tasks.progress import TOPIC, Progress
from cluster_ai.tasks.results import NoRoomError, Results, large
from cluster_ai.tasks.sent import Sent
from cluster_ai.tasks.waiting import Waiting

TICK = 1.0  # seconds between looks at who is there
SLOWEST = 5.0  # seconds between tries to find a scheduler
WINDOW = 64  # tasks that Dask has at least, so that no thread waits for the next
PER_THREAD = 4
HELD = 50_000  # tasks that are remembered while nobody takes them, so that those behind them come by
FETCHED = 2  # results at once that may be large: each is whole in this process' memory until it is on the disk
FAULTS = 5  # times that Dask may lose a task, or what came out of it


class LostError(Exception):
    """The scheduler, or the connection to it, is not the one that was sent tasks."""


class Dispatcher:
    """`run` until cancelled; `drain` before. on_change is told why no scheduler is there, and "" when one is."""

    def __init__(
        self,
        scheduler: str,
        security: Security | None,
        workers: Sequence[TaskWorker],
        journal: Journal,
        results: Results,
        on_change: Callable[[str], None],
    ) -> None:
        self._address, self._security = scheduler, security
        self._floor = Floor(workers)
        self._journal, self._results, self._on_change = journal, results, on_change
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._sent: dict[str, Sent] = {}
        self._again: dict[str, None] = {}  # taken, but Dask hasn't them: to be placed now
        self._waiting = Waiting()
        self._outcomes: list[Outcome] = []
        self._faults: list[tuple[str, str]] = []  # task and what Dask says
        self._fetching = asyncio.Semaphore(FETCHED)
        self._broken: sqlite3.Error | None = None  # while an outcome was to be kept
        self._faulted: Counter[str] = Counter()
        self._client: Client | None = None
        self._people: dict[str, int] = {}
        self._lost = False
        self._draining = False
        self.reason = "not asked yet"

    async def journal(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """A call of the journal's, beside the event loop, one at a time."""
        async with self._writing:
            return await asyncio.to_thread(call, *arguments, **named)

    @property
    def workers(self) -> tuple[TaskWorker, ...]:
        """As each says that it is, once it has been there."""
        return self._floor.workers

    @property
    def held(self) -> int:
        """Tasks that no worker takes now: those who could run them are away, or have no room."""
        return len(self._waiting)

    def wake(self) -> None:
        """There is something new in the journal."""
        self._wake.set()

    async def cancel(self, task_id: str) -> bool:
        """Whether it had not ended. What of it runs is stopped, where that can be."""
        if not await self.journal(self._journal.cancel, task_id):
            return False
        self._waiting.drop(task_id)
        self._again.pop(task_id, None)
        sent = self._sent.pop(task_id, None)
        if sent is not None:
            await (sent.stop(self._client) if self._client is not None else sent.abandon())
        return True

    def progress(self, task_id: str) -> Progress | None:
        """What it said last, while it runs."""
        sent = self._sent.get(task_id)
        return sent.progress if sent is not None else None

    def yield_to(self, people: Mapping[str, int]) -> None:
        """So many slots of these workers are people's for now: their tasks are told at the next look."""
        self._people = dict(people)

    async def run(self) -> None:
        wait = 0.2
        while True:
            try:
                async with Client(
                    self._address, security=self._security, asynchronous=True, timeout=5, set_as_default=False
                ) as client:
                    wait = 0.2
                    await self._serve(client)
            except (OSError, TimeoutError, LostError) as e:
                self._told(f"the scheduler at {self._address} is away: {e}")
            finally:
                await self._forget()
            await asyncio.sleep(wait)
            wait = min(wait * 2, SLOWEST)

    async def drain(self, limit: float) -> None:
        """Send nothing more, and wait so long for what runs. What hasn't begun is left to the one who comes after."""
        self._draining = True
        with contextlib.suppress(Exception):  # what is left is sent again
            async with asyncio.timeout(limit):
                while self._client is not None and self._sent:
                    begun = await self._client.run_on_scheduler(_executing)
                    for task_id, sent in list(self._sent.items()):
                        if sent.future.key not in begun and not sent.future.done():
                            await self._sent.pop(task_id).abandon()
                    await self._flush()
                    await asyncio.sleep(0.2)
        await self._flush()

    async def _serve(self, client: Client) -> None:
        self._client, self._lost = client, False
        client.subscribe_topic(TOPIC, self._heard)
        await self._look(client)
        self._told("")
        self._again = dict.fromkeys(await self.journal(self._had))
        looked = time.monotonic()
        while True:
            self._wake.clear()
            await self._flush()
            if self._broken is not None:
                raise self._broken
            if self._lost or client.status != "running":
                raise LostError("the connection broke")
            await self._lost_again()
            if not self._draining:
                await self._send(client)
            left = looked + TICK - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0)):
                    await self._wake.wait()
                    await asyncio.sleep(0)  # what ends in the same moment is written together
            if time.monotonic() < looked + TICK:
                continue
            looked = time.monotonic()
            await self._look(client)
            await self._strayed()
            await self._give_way(client)

    def _had(self) -> list[str]:
        return [task.id for task in self._journal.sent()]

    async def _send(self, client: Client) -> None:
        """As many as there is room for. Those that nobody takes now take none."""
        room = max(WINDOW, PER_THREAD * self._floor.threads) - len(self._sent)
        self._floor.recount(it.task for it in self._sent.values() if not it.task.spec.idempotent)
        while room > 0 and (ids := self._next(room)):
            room -= await self._place(client, await self.journal(self._journal.some, ids))
        while room > 0 and len(self._waiting) < HELD:
            tasks = await self.journal(self._journal.take, room)
            placed = await self._place(client, tasks)
            if not placed:
                if tasks:
                    self._wake.set()  # what ended meanwhile is written before more are taken
                return
            room -= placed

    def _next(self, most: int) -> list[str]:
        ids = list(islice(self._again, most))
        for task_id in ids:
            del self._again[task_id]
        return ids or self._waiting.next(self._floor.there.__contains__, self._floor.takes, most)

    async def _place(self, client: Client, tasks: Sequence[Task]) -> int:
        """How many went to Dask."""
        floor = self._floor
        pins: list[tuple[str, str]] = []
        ready: list[tuple[Task, frozenset[str]]] = []
        for task in tasks:
            able = placing.able(task.spec, floor.workers)
            if not able:
                self._outcomes.append(Outcome(task.id, State.FAILED, error=placing.nowhere(task.spec, floor.workers)))
                self._wake.set()
                continue
            once = not task.spec.idempotent
            if once and task.worker is not None:
                able = (task.worker,)  # it stays with that worker
            to_pin = once and task.worker is None
            there = [name for name in able if (floor.takes(name) if to_pin else name in floor.there)]
            if not there:
                self._waiting.put(task, able, room=to_pin)
                continue
            if to_pin:
                chosen = floor.choose(task.spec, there)
                pins.append((task.id, chosen))
                task, there = replace(task, worker=chosen), [chosen]
            ready.append((task, frozenset().union(*(floor.there[name] for name in there))))
        if pins:
            gone = await self.journal(self._journal.pin, pins)
            ready = [it for it in ready if it[0].id not in gone]
        for task, places in ready:
            self._submit(client, task, places)
        return len(ready)

    def _submit(self, client: Client, task: Task, places: frozenset[str]) -> None:
        spec = task.spec
        order = {
            "id": task.id,
            "attempt": task.attempt,
            "kind": spec.kind,
            "payload": dict(spec.payload),
            "timeout": spec.timeout,
            "memory": spec.memory,
            "cpu": spec.cpu,
            "gpu": spec.gpu,
            "idempotent": spec.idempotent,
        }
        anywhere = spec.idempotent and places == frozenset().union(*self._floor.there.values())
        future = client.submit(
            work.run,
            order,
            key=f"{task.id}-{task.attempt}",
            priority=spec.priority,
            resources=placing.resources(spec),
            workers=None if anywhere else sorted(places),
            pure=False,
        )
        collector = asyncio.create_task(self._collect(task, future), name=f"task:{task.id}")
        self._sent[task.id] = Sent(task, future, places, collector)

    async def _collect(self, task: Task, future: Future) -> None:
        try:
            if task.spec.kind == "ai_inference":
                found = await self._outcome(task, await future)
            else:
                with future.client.as_current():
                    ended = wait([future])
                await ended
                async with self._fetching:
                    found = await self._outcome(task, await future)
        except (FutureCancelledError, FuturesCancelledError):
            self._lost = True
        except KilledWorker as e:
            error = f"its worker died {e.allowed_failures + 1} times while it ran"
            self._outcomes.append(Outcome(task.id, State.FAILED, error=error))
        except sqlite3.Error as e:
            self._broken = e
        except Exception as e:  # a fault of its own, a task tells as data
            self._faults.append((task.id, f"{type(e).__name__}: {e}"))
        else:
            self._outcomes.append(found)
        self._wake.set()

    async def _outcome(self, task: Task, said: dict[str, Any]) -> Outcome:
        found = outcome(task, said)
        if found.state is not State.DONE or not large(said):
            return found
        try:
            result, file = await self.journal(self._results.kept, task, said, self._journal.now)
        except NoRoomError as e:
            return Outcome(task.id, State.FAILED, found.worker, str(e))
        return replace(found, result=result, file=file)

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]
        sent = self._sent.get(said["id"])
        if sent is not None and sent.task.attempt == said["attempt"]:
            sent.progress = Progress(said["share"], said["text"])

    async def _flush(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return
        try:
            await self.journal(self._journal.end, outcomes)
        except BaseException:
            self._outcomes = outcomes + self._outcomes  # a full disk: they are written once there is room
            raise
        for it in outcomes:
            self._sent.pop(it.id, None)
            self._faulted.pop(it.id, None)
        if any(it.state is State.QUEUED for it in outcomes):
            self._wake.set()

    async def _look(self, client: Client) -> None:
        """Who is there, and has how much to do."""
        identity, left, late = await client.scheduler.identity(n_workers=-1), {}, []
        with contextlib.suppress(Exception):  # a scheduler of an older release
            left = await client.run_on_scheduler(_left)
            late = await client.run_on_scheduler(silence.late)
        self._floor.look(identity, left, late)

    async def _give_way(self, client: Client) -> None:
        people, self._people = self._people, {}
        for name, count in people.items():
            if name in self._floor.there:
                with contextlib.suppress(Exception):  # a worker that is away runs nothing
                    async with asyncio.timeout(TICK):
                        await client.run(
                            work.give_way, count, workers=sorted(self._floor.there[name]), on_error="ignore"
                        )

    async def _strayed(self) -> None:
        """Tasks that wait for workers which are gone, or which came back elsewhere: they are placed anew."""
        addresses = frozenset().union(*self._floor.there.values())
        for task_id, sent in list(self._sent.items()):
            if not sent.places & addresses and not sent.future.done():
                del self._sent[task_id]
                await sent.abandon()
                self._again[task_id] = None

    async def _lost_again(self) -> None:
        """Tasks, or results, that Dask has lost, such as with a worker: they are sent again, but not for ever."""
        faults, self._faults = self._faults, []
        for task_id, text in faults:
            sent = self._sent.pop(task_id, None)
            if sent is None:
                continue
            await sent.abandon()
            self._faulted[task_id] += 1
            if self._faulted[task_id] < FAULTS:
                self._again[task_id] = None
            else:
                error = f"Dask lost it {FAULTS} times, at last by {text}"
                self._outcomes.append(Outcome(task_id, State.FAILED, error=error))
                self._wake.set()

    async def _forget(self) -> None:
        """This connection's futures mean nothing any more. What had come is written."""
        collectors = [sent.collector for sent in self._sent.values()]
        for collector in collectors:
            collector.cancel()
        await asyncio.gather(*collectors, return_exceptions=True)
        self._sent.clear()
        self._waiting.clear()
        self._again.clear()
        self._client = None
        await self._flush()

    def _told(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            self._on_change(reason)


def _executing(dask_scheduler: Any) -> list[str]:
    """Runs in the scheduler."""
    return [str(ts.key) for ws in dask_scheduler.workers.values() for ts in ws.executing]


def _left(dask_scheduler: Any) -> dict[str, dict[str, float]]:
    """Runs in the scheduler: of each worker process's resources, by its address."""
    return {ws.address: spreading.left(ws) for ws in dask_scheduler.workers.values()}
