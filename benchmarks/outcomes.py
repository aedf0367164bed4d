"""What became of each request of a load, and the tables made of it. Pure: load.py asks, bench_rollout.py updates."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Outcome = Literal["ok", "failed", "broken"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds since the epoch, so that several processes' notes can be laid side by side."""

    start: float
    end: float
    kind: str  # "short", or which stream
    worker: str  # that the gateway named; empty when there was no answer
    outcome: Outcome  # failed: no whole answer to a short request, or a stream that never began; broken: one that did
    detail: str = ""  # what was wrong
    first: float | None = None  # seconds until a stream's first piece

    def line(self) -> str:
        return json.dumps(asdict(self))


def parse(lines: Iterable[str]) -> list[Sample]:
    return [Sample(**json.loads(line)) for line in lines if line.strip()]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all doesn't exceed; nan when there are none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Summary:
    """A load, as a row tells of it. Latencies are those of short requests that went well, whole."""

    requests: int
    failed: int
    streams: int
    broken: int
    p50: float
    p99: float
    reasons: tuple[tuple[str, int], ...]  # the most frequent first

    @property
    def clean(self) -> bool:
        return not self.failed and not self.broken


def summarize(samples: Iterable[Sample]) -> Summary:
    samples = list(samples)
    taken = [it.end - it.start for it in samples if it.kind == "short" and it.outcome == "ok"]
    wrong = [it for it in samples if it.outcome != "ok"]
    return Summary(
        requests=len(samples),
        failed=sum(it.outcome == "failed" for it in samples),
        streams=sum(it.kind != "short" for it in samples),
        broken=sum(it.outcome == "broken" for it in samples),
        p50=percentile(taken, 0.5),
        p99=percentile(taken, 0.99),
        reasons=tuple(Counter(f"{it.outcome}: {it.detail}" for it in wrong).most_common(8)),
    )


def between(samples: Iterable[Sample], begin: float, end: float) -> list[Sample]:
    """Those that were under way at some moment from begin to end."""
    return [it for it in samples if it.end >= begin and it.start <= end]


@dataclass(frozen=True, slots=True)
class Update:
    """One update under load: what was done, when, how it ended."""

    name: str
    begin: float
    end: float
    code: int  # of the command; 0: it went well
    samples: tuple[Sample, ...]  # of the load that ran before, during and after it


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault under load: what was done, and what was seen afterwards."""

    name: str
    done: str
    outcome: str  # what the product did
    held: bool  # every host on a complete release, the cluster serving, what had to be told was told
    seconds: float
    load: Summary


def milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.0f}"


LATENCIES = ("p50 / p99 before, ms", "during, ms")
UPDATES = ("update of all hosts", "requests", "failed", "streams", "broken", "duration", *LATENCIES)
FAULTS = ("fault", "what was done", "outcome", "requests", "failed", "broken", "until all was well", "held")


def update_row(it: Update) -> list[str]:
    whole = summarize(it.samples)
    before = summarize(sample for sample in it.samples if sample.end < it.begin)
    during = summarize(between(it.samples, it.begin, it.end))
    return [
        it.name if it.code == 0 else f"{it.name} (exit {it.code})",
        *map(str, (whole.requests, whole.failed, whole.streams, whole.broken)),
        f"{it.end - it.begin:.0f} s",
        *(f"{milliseconds(part.p50)} / {milliseconds(part.p99)}" for part in (before, during)),
    ]


def fault_row(it: Fault) -> list[str]:
    numbers = map(str, (it.load.requests, it.load.failed, it.load.broken))
    return [it.name, it.done, it.outcome, *numbers, f"{it.seconds:.0f} s", "yes" if it.held else "**no**"]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Text that a table's cell can hold."""
    return " ".join(text.split()).replace("|", "\\|")
