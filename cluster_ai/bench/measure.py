"""Asks a model on one worker, through the gateway and on the worker itself, and takes the time."""

from __future__ import annotations

import json
import shlex
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cluster_ai import layout
from cluster_ai.bench.results import Result
from cluster_ai.errors import HostError
from cluster_ai.provision import ssh

PROMPT = "Explain to a curious child, in plain words and with examples, how the moon moves the water of the sea. " * 8
ROUNDS = 3  # the median of them counts
LONGEST = 600.0  # seconds for one answer on the worker itself

# Runs on the worker: the same request, to the engine at once.
_DIRECTLY = """
import json, sys, urllib.request
url, body, rounds = sys.argv[1:]
for _ in range(int(rounds)):
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        said = json.load(reply)
    print(json.dumps({name: said.get(name) for name in ("eval_count", "eval_duration")}))
"""

Ask = Callable[..., Any]  # method, path, body -> what the gateway answers
Stream = Callable[[str, Mapping[str, Any], str], Any]  # path, body, worker -> the pieces of an answer


@dataclass(frozen=True)
class Bench:
    """ask, stream: to the gateway. tokens: how many to generate each time."""

    ask: Ask
    stream: Stream
    tokens: int

    def measure(self, model: str, worker: str, engine: str, direct: Callable[[str], float | None]) -> Result:
        """Raises UnavailableError, UsageError: what the gateway says against it."""
        warm_up = self._loaded_anew(model, worker)
        rounds = [self._round(model, worker) for _ in range(ROUNDS)]
        memory, on_card = self._memory(model, worker)
        prompts = [it.prompt for it in rounds if it.prompt is not None]
        return Result(
            at=time.time(),
            model=model,
            worker=worker,
            engine=engine,
            tokens_per_second=statistics.median(it.speed for it in rounds),
            direct=direct(request(model, self.tokens)),
            prompt_per_second=max(prompts, default=None),  # the first: later ones find the prompt in the cache
            first_token=statistics.median(it.first for it in rounds),
            warm_up=warm_up,
            memory=memory,
            on_card=on_card,
        )

    def _loaded_anew(self, model: str, worker: str) -> float:
        path = f"/api/v1/models/{quote(model)}"
        self.ask("POST", f"{path}/unload", {"worker": worker})
        begin = time.monotonic()
        self.ask("POST", f"{path}/load", {"worker": worker})
        return time.monotonic() - begin

    def _round(self, model: str, worker: str) -> _Round:
        begin, first, last = time.monotonic(), 0.0, {}
        for piece in self.stream("/api/generate", json.loads(request(model, self.tokens, stream=True)), worker):
            first = first or time.monotonic() - begin
            last = piece
        seconds = last.get("eval_duration", 0) / 1e9
        count = last.get("eval_count", 0)
        prompt, prompt_seconds = last.get("prompt_eval_count"), last.get("prompt_eval_duration", 0) / 1e9
        return _Round(
            first=first,
            speed=count / (seconds or time.monotonic() - begin),
            prompt=prompt / prompt_seconds if prompt and prompt_seconds else None,
        )

    def _memory(self, model: str, worker: str) -> tuple[int | None, int | None]:
        for it in self.ask("GET", "/api/ps")["models"]:
            if (it.get("name"), it.get("worker")) == (model, worker):
                return it.get("size"), it.get("size_vram")
        return None, None


@dataclass(frozen=True, slots=True)
class _Round:
    first: float
    speed: float
    prompt: float | None


def request(model: str, tokens: int, *, stream: bool = False) -> str:
    """As many tokens each time, and always the same ones."""
    options = {"temperature": 0, "seed": 1, "num_predict": tokens}
    return json.dumps({"model": model, "prompt": PROMPT, "raw": True, "stream": stream, "options": options})


def directly(worker: str, argv: tuple[str, ...], sudo_password: str | None) -> Callable[[str], float | None]:
    """Asks the engine of a worker, on it, through SSH: tokens per second. Raises HostError."""

    def ask(body: str) -> float | None:
        url = f"http://127.0.0.1:{layout.ENGINE_PORT}/api/generate"
        script = shlex.join(("python3", "-c", _DIRECTLY, url, body, str(ROUNDS)))
        call = ssh.Call(worker, argv, script)
        reply = ssh.run([call], sudo_password=sudo_password, timeout=LONGEST)[worker]
        if isinstance(reply, HostError):
            raise reply
        told = [json.loads(line) for line in reply.text.splitlines()]
        speeds = [it["eval_count"] / (it["eval_duration"] / 1e9) for it in told if it["eval_duration"]]
        if not speeds:
            raise HostError(
                reply.stderr.strip().splitlines()[-1] if reply.stderr.strip() else "the engine gave no answer",
                where=worker,
                remedy=f"cluster-ai logs {worker} engine",
            )
        return float(statistics.median(speeds))

    return ask
