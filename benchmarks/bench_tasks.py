"""`make bench-tasks`: tiny tasks through the journal and Dask against Dask alone, and batches against the engine alone.

The tiny task is a real one, an inference, at an engine that answers at once; Dask alone is given the same function.
Each pair takes turns, so that whatever else the machine does befalls both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from tests.rig.batches import CHAT, Served
from tests.rig.processes import free_port, running, until
from tests.rig.tasks import Site, site

TASKS, ROUNDS, BULK = 100_000, 3, 5_000
SLOTS, PROMPTS, TOKENS = 4, 160, 48
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


def question(number: int) -> dict[str, Any]:
    return {
        "model": rig.MODEL,
        "messages": [{"role": "user", "content": f"Write a long story about the number {number}."}],
        **{"max_tokens": TOKENS, "temperature": 0, "seed": number},
    }


def engine_alone(url: str, first: int, count: int) -> float:
    """Tokens in a second, with as many at a time as it has slots."""

    def one(number: int) -> int:
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(f"{url}{CHAT}", json.dumps(question(number)).encode(), headers)  # noqa: S310
        return int(json.loads(rig.fetch(asked, timeout=600)[1])["usage"]["completion_tokens"])

    began = time.monotonic()
    with ThreadPoolExecutor(SLOTS) as pool:
        tokens = sum(pool.map(one, range(first, first + count)))
    return tokens / (time.monotonic() - began)


def batch(served: Served, first: int, count: int) -> float:
    """Tokens in a second, from the upload to the output file."""
    began = time.monotonic()
    lines = [
        {"custom_id": str(n), "method": "POST", "url": CHAT, "body": question(n)} for n in range(first, first + count)
    ]
    asked = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": served.upload(*lines)}
    made = served.ask("/v1/batches", asked)["id"]
    until(lambda: served.ask(f"/v1/batches/{made}")["status"] == "completed", within=3600)
    answers = served.lines(served.ask(f"/v1/batches/{made}")["output_file_id"])
    assert [it["custom_id"] for it in answers] == [str(n) for n in range(first, first + count)]
    seconds = time.monotonic() - began
    return float(sum(it["response"]["body"]["usage"]["completion_tokens"] for it in answers)) / seconds


def batches(folder: Path, count: int, rounds: int) -> str:
    alone, ours = list[float](), list[float]()
    with (
        rig.ollama_engine(folder / "ollama", parallel=SLOTS) as (url, _),
        site(folder / "site", url) as there,
    ):
        served = Served(there, slots=SLOTS)
        with served.parts():
            engine_alone(url, 0, SLOTS)
            for number in range(rounds):
                first = 1000 * (number + 1)
                alone.append(engine_alone(url, first, count))
                ours.append(batch(served, first, count))
                print(f"bench: round {number + 1}: engine {alone[-1]:.1f}, batch {ours[-1]:.1f} tokens/s", flush=True)
    ratio = median(o / a for o, a in zip(ours, alone, strict=True))
    return (
        f"| | tokens/s |\n|---|---|\n| the engine alone, {SLOTS} requests at a time | {median(alone):.0f} |\n"
        f"| a batch | {median(ours):.0f} |\n| ratio, median of {rounds} rounds | {ratio:.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="in all rounds together")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    told = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # engines must not outlive it
    with tempfile.TemporaryDirectory(prefix="bench-tasks-") as name:
        first = tiny_tasks(Path(name) / "tiny", told.tasks // told.rounds, told.rounds)
        second = batches(Path(name) / "batches", told.prompts, told.rounds)
    intro = (
        f"Measured by `make bench-tasks` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for all, Linux"
        f" {platform.release()}. Tiny tasks: {told.tasks:,} in all rounds together, submitted {BULK:,} at a time; each"
        " is an inference at an engine that answers at once, and Dask alone is given the same function in the same"
        " portions, without a journal. Batches: Ollama 0.17.4 with SmolLM2-135M on one thread,"
        f" {told.prompts} prompts in a round, {TOKENS} tokens each, from the upload to the output file, against the"
        " same prompts put to the engine directly. What is compared takes turns."
    )
    put("tasks", "Tasks", "\n\n".join((intro, first, second)))


if __name__ == "__main__":
    main()
