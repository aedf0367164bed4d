"""What was measured, and what it says beside earlier results. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLOWER = 0.85  # of the speed before: below this it is told
# Of the seed that this project was begun with, for comparison: tokens per second, bytes of memory, seconds to load.
REFERENCES = {
    "llama2:7b": ("llama_7b", 45.2, 4.1e9, 12.3),
    "mistral:7b": ("mistral_7b", 52.1, 4.3e9, 10.8),
    "codellama:13b": ("codellama_13b", 28.7, 7.2e9, 18.9),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one model on one worker. Speeds in tokens per second, times in seconds, memory in bytes; None: not known."""

    at: float  # since 1970
    model: str
    worker: str
    engine: str  # its version
    tokens_per_second: float  # through the gateway, as the engine tells
    direct: float | None  # asked on the worker itself
    prompt_per_second: float | None
    first_token: float  # from the request to the first piece of the answer
    warm_up: float | None  # to load the model
    memory: int | None  # of the model when loaded
    on_card: int | None  # of it on cards


def before(result: Result, earlier: Sequence[Result]) -> Result | None:
    """The last one of the same model on the same worker."""
    return next((it for it in reversed(earlier) if (it.model, it.worker) == (result.model, result.worker)), None)


def slower(result: Result, earlier: Sequence[Result]) -> str:
    """In a sentence; empty where it isn't, or nothing is known."""
    last = before(result, earlier)
    if last is None or result.tokens_per_second >= SLOWER * last.tokens_per_second:
        return ""
    share = 1 - result.tokens_per_second / last.tokens_per_second
    since = "" if last.engine == result.engine else f" (engine {last.engine} then, {result.engine} now)"
    return (
        f"{result.model} on {result.worker} is {share:.0%} slower than when it was last measured:"
        f" {result.tokens_per_second:.1f} tokens/s, before {last.tokens_per_second:.1f}{since}"
    )


def row(result: Result, earlier: Sequence[Result]) -> dict[str, str]:
    """For people."""
    last = before(result, earlier)
    change = "" if last is None else f"{result.tokens_per_second / last.tokens_per_second - 1:+.0%}"
    return {
        "model": result.model,
        "worker": result.worker,
        "tokens/s": f"{result.tokens_per_second:.1f}",
        "directly": _number(result.direct),
        "before": change,
        "prompt/s": _number(result.prompt_per_second),
        "first token": f"{result.first_token:.2f} s",
        "warm-up": "" if result.warm_up is None else f"{result.warm_up:.1f} s",
        "memory": "" if result.memory is None else f"{result.memory / 1e9:.1f} GB",
        "on card": _share(result),
    }


def reference(model: str) -> dict[str, str] | None:
    """The seed's figures for a model, as a row beside `row`'s."""
    found = REFERENCES.get(model.removesuffix(":latest"))
    if found is None:
        return None
    name, speed, memory, warm_up = found
    shown = {"model": name, "worker": "(reference)", "tokens/s": f"{speed:.1f}", "warm-up": f"{warm_up:.1f} s"}
    return {**dict.fromkeys(row(_NOTHING, ()), ""), **shown, "memory": f"{memory / 1e9:.1f} GB"}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _share(result: Result) -> str:
    if not result.memory or result.on_card is None:
        return ""
    return f"{result.on_card / result.memory:.0%}"


_NOTHING = Result(0, "", "", "", 0, None, None, 0, None, None, None)
