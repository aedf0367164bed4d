"""`make bench-tasks`: tiny tasks through the journal and Dask against Dask alone.

A tiny task is a real one, an inference, at an engine that answers at once; Dask alone is given the same function. Both
take turns, so that whatever else the machine does befalls both. Batches are `make bench-models`'.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from distributed import Client
from distributed.security import Security

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import put
from cluster_ai import layout
from cluster_ai.tasks import work
from tests.rig import cluster as rig
from tests.rig.processes import free_port, running, until
from tests.rig.tasks import Site, site

TASKS, ROUNDS, BULK = 100_000, 3, 5_000
SLOTS = 4
_ENGINE = """
import asyncio, sys
BODY = b'{"response":"ok","done":true}'
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
ANSWER = HEAD % len(BODY) + BODY
class Engine(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.said = transport, b""
    def data_received(self, data):
        self.said += data
        if self.said.endswith(b"}"):
            self.said = b""
            self.transport.write(ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def instant(folder: Path) -> Iterator[str]:
    """An engine that answers at once."""
    folder.mkdir(parents=True)
    port = free_port()

    def ready() -> bool:
        return bool(rig.fetch(urllib.request.Request(f"http://127.0.0.1:{port}", b"{}")))

    with running([sys.executable, "-c", _ENGINE, str(port)], folder / "engine.log", until_ready=ready):
        yield f"http://127.0.0.1:{port}"


def tiny(number: int) -> dict[str, Any]:
    return {"kind": "ai_inference", "payload": {"model": rig.MODEL, "prompt": str(number)}}


async def bare(there: Site, count: int) -> float:
    """Tasks in a second: Dask alone, asked for the same in the same portions."""
    security = Security(
        tls_ca_file=str(there.keys / layout.CA_CERT),
        tls_client_cert=str(there.keys / layout.CERT),
        tls_client_key=str(there.keys / layout.KEY),
        require_encryption=True,
    )
    async with Client(there.scheduler_url, security=security, asynchronous=True, set_as_default=False) as client:
        began = time.monotonic()
        for first in range(0, count, BULK):
            orders = [
                {
                    **{"id": f"bare-{began}-{number}", "attempt": 1, **tiny(number)},
                    **{"timeout": 600.0, "memory": 0, "idempotent": True},
                }
                for number in range(first, min(first + BULK, count))
            ]
            futures = [
                client.submit(work.run, order, key=order["id"], resources={"ENGINE": 1}, pure=False) for order in orders
            ]
            await client.gather(futures)
        return count / (time.monotonic() - began)


def journalled(there: Site, count: int, manager: int) -> tuple[float, list[int]]:
    """Tasks in a second, from the first submitted to the last ended; and the task manager's memory meanwhile."""
    sizes: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            sizes.append(psutil.Process(manager).memory_info().rss)

    watching = threading.Thread(target=watch)
    before = there.ask("GET", "/counts")["counts"]["done"]
    watching.start()
    try:
        began = time.monotonic()
        for first in range(0, count, BULK):
            there.submit(*(tiny(number) for number in range(first, min(first + BULK, count))))
        until(lambda: there.ask("GET", "/counts")["counts"]["done"] == before + count, within=3600)
        return count / (time.monotonic() - began), sizes
    finally:
        over.set()
        watching.join()


def tiny_tasks(folder: Path, count: int, rounds: int) -> str:
    alone, ours, sizes = list[float](), list[float](), list[int]()
    with ExitStack() as stack:
        there = stack.enter_context(site(folder, stack.enter_context(instant(folder))))
        stack.enter_context(there.scheduler())
        stack.enter_context(there.worker("w1", slots=SLOTS))
        manager = stack.enter_context(there.manager("w1"))
        for number in range(rounds):
            alone.append(asyncio.run(bare(there, count)))
            rate, seen = journalled(there, count, manager.popen.pid)
            ours.append(rate)
            sizes += seen
            print(f"bench: round {number + 1}: bare {alone[-1]:.0f}/s, journalled {rate:.0f}/s", flush=True)
    ratio = median(o / a for o, a in zip(ours, alone, strict=True))
    early, late = max(sizes[: max(len(sizes) // 5, 1)]), max(sizes[-max(len(sizes) // 5, 1) :])
    return (
        f"| | tasks/s |\n|---|---|\n| Dask alone | {median(alone):.0f} |\n"
        f"| journalled, through Dask | {median(ours):.0f} |\n| ratio, median of {rounds} rounds | {ratio:.2f} |\n\n"
        f"{count * rounds:,} tasks passed through one task manager; its memory was {early / 2**20:.0f} MiB at most in"
        f" the first fifth of that time, {late / 2**20:.0f} in the last."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="in all rounds together")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    told = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # engines must not outlive it
    with tempfile.TemporaryDirectory(prefix="bench-tasks-") as name:
        table = tiny_tasks(Path(name) / "tiny", told.tasks // told.rounds, told.rounds)
    intro = (
        f"Measured by `make bench-tasks` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for all, Linux"
        f" {platform.release()}. {told.tasks:,} tasks in all rounds together, submitted {BULK:,} at a time; each is an"
        " inference at an engine that answers at once, and Dask alone is given the same function in the same portions,"
        " without a journal. Both take turns."
    )
    put("tasks", "Tasks", f"{intro}\n\n{table}")


if __name__ == "__main__":
    main()
