"""A batch of 2,000 prompts on lab hosts whose power is cut, who are parted, killed and hung: `make chaos` (root).

Each prompt must be answered exactly once, and counted once in the account. Writes what was done and what came of it
into docs/benchmarks.md. Exit code 1 when it didn't hold. The same --seed does the same things in the same order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.chaos import DISTURBANCES, Chaos, Verdict, judge  # noqa: E402
from benchmarks.outcomes import table  # noqa: E402
from benchmarks.page import put  # noqa: E402
from benchmarks.rollout_lab import FOLDER, HEAD, MODEL, WORKERS, Trial, address  # noqa: E402

PROMPTS = 2000
PAUSE = (4.0, 15.0)  # seconds between two disturbances
PATIENCE = 300.0  # seconds in which a head that is away is asked again
LIMIT = 2 * 3600.0  # seconds for the batch
CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")

T = TypeVar("T")


def line(number: int) -> dict[str, Any]:
    text = f"Say a word about the number {number}."
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 6, "temperature": 0}
    return {"custom_id": f"p{number}", "method": "POST", "url": CHAT, "body": body}


@dataclass(frozen=True)
class Gateway:
    """Asked again while it is away: whoever sends a batch does so, too."""

    token: str

    def ask(self, path: str, body: Any = None, **headers: str) -> Any:
        return json.loads(self.read(path, body, **headers))

    def read(self, path: str, body: Any = None, **headers: str) -> bytes:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"http://{address(HEAD)}:11435{path}", data, given)

        def once() -> bytes:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 (ours)
                found: bytes = reply.read()
                return found

        return again(once)

    def upload(self, lines: Sequence[Mapping[str, Any]]) -> str:
        form = (
            '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            '--x\r\nContent-Disposition: form-data; name="file"; filename="chaos.jsonl"\r\n\r\n'
            f"{''.join(json.dumps(it) + chr(10) for it in lines)}\r\n--x--\r\n"
        )
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        return str(self.ask("/v1/files", form.encode(), **kind)["id"])

    def lines(self, file: str | None) -> list[dict[str, Any]]:
        return [json.loads(it) for it in self.read(f"/v1/files/{file}/content").splitlines()] if file else []


def again(do: Callable[[], T]) -> T:
    """Until the gateway answers as it should. Raises the last error after PATIENCE; what no waiting mends, at once."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return do()
        except urllib.error.HTTPError as e:
            if e.code < 500 or time.monotonic() > deadline:
                raise
        except (OSError, HTTPException, ValueError):
            if time.monotonic() > deadline:
                raise
        time.sleep(1)


def batch(gateway: Gateway, count: int, seed: int) -> dict[str, Any]:
    """Its last words, once it has ended or LIMIT is over."""
    file = gateway.upload([line(number) for number in range(count)])
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    key = {"Idempotency-Key": f"chaos-{seed}-{time.time_ns()}"}
    made = gateway.ask("/v1/batches", asked, **key)["id"]
    deadline, shown = time.monotonic() + LIMIT, -1
    while True:
        told: dict[str, Any] = gateway.ask(f"/v1/batches/{made}")
        counts = told["request_counts"]
        if counts["completed"] // 100 != shown:
            shown = counts["completed"] // 100
            print(f"bench: {counts['completed']} of {count} answered, {counts['failed']} failed", flush=True)
        if told["status"] in ENDED or time.monotonic() > deadline:
            return told
        time.sleep(2)


def counted(gateway: Gateway, wanted: int) -> int:
    """Requests of the account, once it has as many as there should be, or after half a minute."""
    deadline = time.monotonic() + 30
    while True:
        found = int(gateway.ask("/api/v1/usage?by=model")["total"]["requests"])
        if found >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(1)


def section(verdict: Verdict, chaos: Chaos, seconds: float, requests: int, seed: int) -> str:
    counts = chaos.counts()
    told = [
        f"Measured by `make chaos` (seed {seed}) on {time.strftime('%Y-%m-%d')}: a batch of {verdict.asked} prompts on"
        f" a head and {len(WORKERS)} workers as lab hosts, {os.cpu_count()} cores in all, Linux {platform.release()};"
        f" every {PAUSE[0]:.0f} to {PAUSE[1]:.0f} seconds one of these, at random, then the host comes back.",
        "",
        table(("disturbance", "times"), [(it.name, str(counts.get(it.name, 0))) for it in DISTURBANCES]),
        "",
        f"{verdict.answered} of {verdict.asked} answered in {seconds:.0f} s, {len(verdict.twice)} twice,"
        f" {len(verdict.missing)} not at all, {len(verdict.failed)} with an error; {requests} requests in the account."
        f" {'It held.' if held(verdict, requests) else '**It did not hold.**'}",
    ]
    return "\n".join(told)


def held(verdict: Verdict, requests: int) -> bool:
    return verdict.held and requests == verdict.asked


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="use hosts that are up, and leave them so")
    options = parser.parse_args(arguments)
    if os.geteuid():
        raise SystemExit("bench: lab hosts need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the lab is taken down then too
    trial = Trial()
    try:
        print("bench: booting hosts, and a first apply", flush=True)
        trial.up(kept=options.keep)
        trial.must("apply", "--yes")
        gateway = Gateway(trial.must("status", "--token").strip())
        before = counted(gateway, 0)
        began = time.monotonic()
        with Chaos(trial, options.seed, PAUSE) as chaos:
            told = batch(gateway, options.prompts, options.seed)
        seconds = time.monotonic() - began
        if chaos.failed is not None:
            raise SystemExit(f"bench: the lab broke, not the cluster: {chaos.failed}")
        answers, errors = (gateway.lines(told[name]) for name in ("output_file_id", "error_file_id"))
        verdict = judge((f"p{number}" for number in range(options.prompts)), answers, errors)
        requests = counted(gateway, before + options.prompts) - before
        (FOLDER / "chaos.json").write_text(json.dumps({"batch": told, "done": chaos.done}, indent=2))
        text = section(verdict, chaos, seconds, requests, options.seed)
        put("chaos", "A batch in a storm", text)
        print(text)
        if not held(verdict, requests):
            print(f"bench: {told['status']}: {verdict}")
        return 0 if held(verdict, requests) else 1
    finally:
        if not options.keep:
            trial.down()


if __name__ == "__main__":
    sys.exit(main())
