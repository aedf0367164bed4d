"""`make bench-models`: what the cluster leaves of an engine's speed, and how a model comes to hosts (root).

Batches and single answers against the engine alone, with a real Ollama and SmolLM2; then a model's way to one lab host
and to several. What is compared takes turns, so that whatever else the machine does befalls both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import bench_distribution as lab  # noqa: E402
from benchmarks.page import put  # noqa: E402
from cluster_ai import layout  # noqa: E402
from tests.rig import cluster as rig  # noqa: E402
from tests.rig.batches import CHAT, Served  # noqa: E402
from tests.rig.processes import until  # noqa: E402
from tests.rig.tasks import site  # noqa: E402

SLOTS, PROMPTS, TOKENS, ROUNDS = 4, 160, 48, 3
ANSWERS, LONG = 5, 128  # single answers in a round, and their tokens
AT_LEAST, AT_MOST = 0.95, 1.5  # what is wanted: of the engine's tokens/s; times one host's time for several


# --- batches ----------------------------------------------------------------------------------------------------------


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


def batches(engine: str, served: Served, count: int, rounds: int) -> str:
    alone, ours = list[float](), list[float]()
    engine_alone(engine, 0, SLOTS)
    for number in range(rounds):
        first = 1000 * (number + 1)
        alone.append(engine_alone(engine, first, count))
        ours.append(batch(served, first, count))
        print(f"bench: round {number + 1}: engine {alone[-1]:.1f}, batch {ours[-1]:.1f} tokens/s", flush=True)
    ratio = median(o / a for o, a in zip(ours, alone, strict=True))
    return (
        f"| all {SLOTS} slots full | tokens/s |\n|---|---|\n| the engine alone | {median(alone):.0f} |\n"
        f"| a batch | {median(ours):.0f} |\n"
        f"| ratio, median of {rounds} rounds (wanted: {AT_LEAST} at least) | {ratio:.3f} |"
    )


# --- single answers ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """To the engine: through the gateway, or at once. Both speak Ollama's API. engine: its own URL."""

    url: str
    token: str
    engine: str

    def lines(self, **body: Any) -> list[tuple[float, dict[str, Any]]]:
        """Of one answer: seconds since it was asked for, and the line."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        asked = urllib.request.Request(  # noqa: S310
            f"{self.url}/api/generate", json.dumps({"model": rig.MODEL, **body}).encode(), headers
        )
        began = time.monotonic()
        with urllib.request.urlopen(asked, timeout=600) as answer:  # noqa: S310
            return [(time.monotonic() - began, json.loads(line)) for line in answer]

    def warm_up(self) -> float:
        """Seconds to load the model, which was not in memory."""
        self.lines(keep_alive=0)
        until(lambda: not self.loaded(), within=60)
        return self.lines()[-1][0]

    def loaded(self) -> list[dict[str, Any]]:
        """What the engine has in memory; the gateway sees it a moment later."""
        found: list[dict[str, Any]] = rig.get(f"{self.engine}/api/ps")["models"]
        return found

    def answer(self, number: int) -> tuple[float, float]:
        """Seconds to the first token, and tokens in a second from the question to the last."""
        options = {"temperature": 0, "seed": number, "num_predict": LONG}
        lines = self.lines(prompt=f"Write a long story about the number {number}.", options=options)
        return lines[0][0], lines[-1][1]["eval_count"] / lines[-1][0]


def answers(ways: Mapping[str, Way], rounds: int) -> str:
    firsts, speeds, loads = ({name: list[float]() for name in ways} for _ in range(3))
    memory = dict[str, int]()
    for number in range(rounds):
        for name, way in ways.items():
            loads[name].append(way.warm_up())
            memory[name] = max(it["size"] for it in way.loaded())
            way.answer(0)
        for at in range(ANSWERS):
            for turn, (name, way) in enumerate(ways.items()):
                # Each is asked what was never asked before: who comes second must not find the prompt read already.
                first, speed = way.answer(100 + turn + len(ways) * (at + number * ANSWERS))
                firsts[name].append(first)
                speeds[name].append(speed)
        told = ", ".join(f"{name} {median(all_):.1f}" for name, all_ in speeds.items())
        print(f"bench: answers, round {number + 1}: {told} tokens/s", flush=True)
    rows = "\n".join(
        f"| {name} | {median(speeds[name]):.1f} | {median(firsts[name]) * 1000:.0f} | {median(loads[name]):.2f} |"
        f" {memory[name] / 1e6:.0f} |"
        for name in ways
    )
    one, other = speeds.values()
    ratio = median(a / b for a, b in zip(one, other, strict=True))
    return (
        "| SmolLM2-135M, one answer at a time | tokens/s | first token, ms | warm-up, s | memory, MB |\n"
        f"|---|---|---|---|---|\n{rows}\n\n"
        f"Of the engine's tokens/s {ratio:.3f} are left behind the gateway: the median of {len(one)} pairs of answers"
        f" of {LONG} tokens."
    )


# --- a model's way to hosts -------------------------------------------------------------------------------------------


def distribution(rounds: int) -> str:
    with lab.hosts() as (config, to):
        lab.pushed(config, to)  # releases: what follows is about the model alone
        ways: dict[str, Callable[[], None]] = {
            "1 host": lambda: lab.pushed(config, to[:1]),
            f"{len(to)} hosts": lambda: lab.pushed(config, to),
        }
        taken = lab.medians(ways, f"rm -f {layout.BLOBS}/*", rounds)
        size = sum(Path(path).stat().st_size for _, path in to[0].blobs)
    one, several = taken.values()
    rows = "\n".join(f"| {way} | {it.seconds:.1f} | {it.bytes / 1e6:.0f} |" for way, it in taken.items())
    return (
        f"| a model of {size / 1e6:.0f} MB to | s | the controller sends, MB |\n|---|---|---|\n{rows}\n"
        f"| ratio (wanted: {AT_MOST} at most) | {several.seconds / one.seconds:.2f} | {several.bytes / one.bytes:.2f} |"
        "\n\n"
        f"The hosts have their releases already. The controller's uplink is held to {lab.RATE} Mbit/s."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-hosts", action="store_true", help="no lab hosts; prints, and writes nothing")
    told = parser.parse_args(arguments)
    if os.geteuid() and not told.no_hosts:
        raise SystemExit("bench: lab hosts need root; --no-hosts leaves them out")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # engines and hosts must not outlive it
    with (
        tempfile.TemporaryDirectory(prefix="bench-models-") as name,
        rig.ollama_engine(Path(name) / "ollama", parallel=SLOTS) as (engine, _),
        site(Path(name) / "site", engine) as there,
    ):
        served = Served(there, slots=SLOTS)
        with served.parts():
            ways = {
                "through the gateway": Way(served.url, rig.TOKEN, engine),
                "the engine alone": Way(engine, "", engine),
            }
            parts = [batches(engine, served, told.prompts, told.rounds), answers(ways, told.rounds)]
    if told.no_hosts:
        print("\n\n".join(parts))
        return
    parts.append(distribution(told.rounds))
    intro = (
        f"Measured by `make bench-models` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for all, Linux"
        f" {platform.release()}. Ollama 0.17.4 with SmolLM2-135M (Q4_1) on one thread. Batches: {told.prompts} prompts"
        f" in a round, {TOKENS} tokens each, from the upload to the output file, against the same prompts put to the"
        f" engine by {SLOTS} clients at once. Rounds: {told.rounds}; medians. What is compared takes turns."
    )
    put("models", "Models", "\n\n".join((intro, *parts)))


if __name__ == "__main__":
    main()
