"""A steady load on a gateway, every answer of which is compared with the one that is known to be right.

    python benchmarks/load.py --url http://HEAD:11435 --token TOKEN --model smollm2:135m --duration 60

A fixed number of clients each ask, wait for the whole answer, and ask again, not oftener than --rate allows. None asks
twice for the same answer: what fails has failed, a 503 too. At temperature 0 and with a seed the engine's answer to a
prompt is one text: tried with Ollama 0.17.4 and SmolLM2 on a CPU, it doesn't depend on the worker, on what the prompt
cache holds, nor on what is generated beside. So the right answers are asked for once, before the load.

Without --duration it goes on until SIGTERM or SIGINT; what is under way then is waited for. Exit code 1: not every
answer was right; 2: there was nobody to learn the right answers from.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import aiohttp

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.outcomes import Outcome, Sample, summarize  # noqa: E402

SHORT_TOKENS, STREAM_TOKENS = 8, 32
PROMPTS = (
    "Why is the sky blue?",
    "Name three rivers.",
    "Write a poem about rain.",
    "What is a cluster?",
    "Explain gravity in one sentence.",
    "Tell me of the three primary colours.",
    "How is bread made?",
    "Who was the first human on the moon?",
)
LIMIT = 120.0  # seconds that any answer may take


class WrongError(Exception):
    """An answer that isn't one. begun: the client had its first piece already."""

    def __init__(self, detail: str, *, begun: bool = False) -> None:
        super().__init__(detail)
        self.detail, self.begun = detail, begun


@dataclass(slots=True)
class Answer:
    """What is known of an answer so far; it is filled while it comes, so that a broken one can be told of too."""

    worker: str = ""
    text: str = ""
    first: float | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of asking: where, with which body, and what a line of the answer says."""

    name: str
    path: str
    body: Callable[[str, str], dict[str, Any]]
    read: Callable[[bytes], tuple[str, bool]]  # a line -> its text, whether it is the end


def _options(tokens: int) -> dict[str, Any]:
    return {"temperature": 0, "seed": 7, "num_predict": tokens}


def _short(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "stream": False, "options": _options(SHORT_TOKENS)}


def _chat(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "messages": _messages(prompt), "stream": True, "options": _options(STREAM_TOKENS)}


def _openai(model: str, prompt: str) -> dict[str, Any]:
    asked = {"temperature": 0, "seed": 7, "max_tokens": STREAM_TOKENS}
    return {"model": model, "messages": _messages(prompt), "stream": True, **asked}


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def read_ollama(line: bytes) -> tuple[str, bool]:
    said = _parsed(line)
    return said.get("response") or said.get("message", {}).get("content", ""), said.get("done") is True


def read_openai(line: bytes) -> tuple[str, bool]:
    data = line.removeprefix(b"data:").strip()
    if data == b"[DONE]":
        return "", True
    choices = _parsed(data).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or "", False


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except ValueError:
        raise WrongError(f"not JSON: {data[:60]!r}", begun=True) from None
    if not isinstance(said, dict):
        raise WrongError(f"not an object: {data[:60]!r}", begun=True)
    if "error" in said:
        raise WrongError(f"an error line: {_told(said['error'])}", begun=True)
    return said


def _told(error: object) -> str:
    return str(error.get("message", error) if isinstance(error, Mapping) else error)[:160]


SHORT = Kind("short", "/api/generate", _short, read_ollama)
STREAMS = (
    Kind("chat", "/api/chat", _chat, read_ollama),
    Kind("openai", "/v1/chat/completions", _openai, read_openai),
)


async def pieces(kind: Kind, response: aiohttp.ClientResponse, answer: Answer, begin: float) -> AsyncIterator[str]:
    """The answer's texts as they come. Raises WrongError when it ends before its end."""
    async for line in response.content:
        if not line.strip():
            continue
        text, end = kind.read(line.strip())
        if answer.first is None:
            answer.first = time.monotonic() - begin
        yield text
        if end:
            return
    raise WrongError("it ended before its end", begun=True)


@dataclass(frozen=True, slots=True)
class Load:
    """Asks one gateway for one model."""

    session: aiohttp.ClientSession
    model: str
    right: dict[str, str]  # "kind: prompt" -> the whole answer

    async def ask(self, kind: Kind, prompt: str, answer: Answer) -> None:
        """Fills the answer. Raises WrongError."""
        begin = time.monotonic()
        try:
            async with self.session.post(kind.path, json=kind.body(self.model, prompt)) as response:
                answer.worker = response.headers.get("X-Cluster-Worker", "")
                if response.status != 200:
                    raise WrongError(f"status {response.status}: {(await response.text())[:160]}")
                async for text in pieces(kind, response, answer, begin):
                    answer.text += text
        except (aiohttp.ClientError, OSError) as e:
            raise WrongError(f"{type(e).__name__}: {e}", begun=answer.first is not None) from e
        except TimeoutError as e:
            raise WrongError("no answer in time", begun=answer.first is not None) from e

    async def learn(self) -> None:
        """The right answers, which nothing disturbs yet."""
        for kind, prompt in itertools.product((SHORT, *STREAMS), PROMPTS):
            if (key := f"{kind.name}: {prompt}") not in self.right:
                answer = Answer()
                await self.ask(kind, prompt, answer)
                self.right[key] = answer.text

    async def sample(self, kind: Kind, prompt: str) -> Sample:
        start, answer = time.time(), Answer()
        outcome, detail = "ok", ""
        try:
            await self.ask(kind, prompt, answer)
            if answer.text != (right := self.right[f"{kind.name}: {prompt}"]):
                raise WrongError(difference(right, answer.text), begun=True)
        except WrongError as e:
            outcome, detail = ("broken" if e.begun and kind is not SHORT else "failed"), e.detail
        return Sample(start, time.time(), kind.name, answer.worker, _outcome(outcome), detail, answer.first)

    async def client(
        self, number: int, kinds: Sequence[Kind], every: float, stop: asyncio.Event, record: Callable[[Sample], None]
    ) -> None:
        """Asks one thing after another, at most one in `every` seconds, until `stop`.

        By chance, the same on every run: clients in step with the balancer would bring one worker all the streams.
        """
        chance = random.Random(number)  # noqa: S311
        while True:
            begin = time.monotonic()
            record(await self.sample(chance.choice(kinds), chance.choice(PROMPTS)))
            if await happened(stop, begin + every - time.monotonic()):
                return

    async def run(
        self, shorts: int, streams: int, rate: float, stop: asyncio.Event, record: Callable[[Sample], None]
    ) -> None:
        every = (shorts + streams) / rate
        kinds = (SHORT,) * (2 * shorts) + STREAMS * streams  # the two kinds of streams share theirs
        async with asyncio.TaskGroup() as group:
            for number in range(shorts + streams):
                group.create_task(self.client(number, kinds, every, stop, record), name=f"client-{number}")
                if await happened(stop, 1 / rate):  # they don't begin all at once
                    return


def _outcome(word: str) -> Outcome:
    return "ok" if word == "ok" else "broken" if word == "broken" else "failed"


def difference(right: str, text: str) -> str:
    """Where a text leaves the right one."""
    at = next((i for i, (a, b) in enumerate(zip(right, text, strict=False)) if a != b), min(len(right), len(text)))
    return f"differs at {at}: {text[at : at + 20]!r}, not {right[at : at + 20]!r}"


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Whether it did within so many seconds."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, seconds))
    return event.is_set()


async def work(options: argparse.Namespace, right: dict[str, str], out: TextIO | None) -> list[Sample]:
    """The load that the command line asks for; fills `right`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    samples: list[Sample] = []

    def record(sample: Sample) -> None:
        samples.append(sample)
        if out:
            print(sample.line(), file=out, flush=True)

    async with aiohttp.ClientSession(
        options.url,
        headers={"Authorization": f"Bearer {options.token}"},
        timeout=aiohttp.ClientTimeout(total=LIMIT, sock_connect=10),
    ) as session:
        load = Load(session, options.model, right)
        await load.learn()
        print("load: running", flush=True)
        if options.duration:
            loop.call_later(options.duration, stop.set)
        await load.run(options.shorts, options.streams, options.rate, stop, record)
    return samples


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--shorts", type=int, default=4, help="clients that ask for a few tokens, whole")
    parser.add_argument("--streams", type=int, default=4, help="clients that stream some tens of tokens")
    parser.add_argument("--rate", type=float, default=2.2, help="requests a second that all clients together begin")
    parser.add_argument("--duration", type=float, help="seconds; without, until SIGTERM")
    parser.add_argument("--out", type=Path, help="a file that each request is noted in, as a line of JSON")
    parser.add_argument(
        "--answers", type=Path, help="a file of right answers: read, and written where some are missing"
    )
    options = parser.parse_args(arguments)
    known: Path | None = options.answers
    right = json.loads(known.read_text()) if known and known.exists() else {}
    try:
        with options.out.open("w") if options.out else contextlib.nullcontext() as out:
            samples = asyncio.run(work(options, right, out))
    except WrongError as e:
        print(f"load: the right answers can't be had: {e.detail}", file=sys.stderr)
        return 2
    if known:
        known.write_text(json.dumps(right, indent=2))
    it = summarize(samples)
    print(
        f"{it.requests} requests, {it.failed} failed, {it.broken} of {it.streams} streams broken;"
        f" short requests: p50 {it.p50 * 1000:.0f} ms, p99 {it.p99 * 1000:.0f} ms"
    )
    for reason, count in it.reasons:
        print(f"  {count} x {reason}")
    return 0 if it.clean else 1


if __name__ == "__main__":
    sys.exit(main())
