"""From what the load told of each run to a table, and to what was promised. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Run = Mapping[str, Any]  # as load/report.go writes it
SHORT, LIGHT, STREAMS, SLOW = "short", "light", "streams", "slow"


@dataclass(frozen=True, slots=True)
class Scenario:
    """upstream: how the fake workers behave; load: the load generator's arguments."""

    name: str
    upstream: Mapping[str, str]
    load: tuple[str, ...]


SCENARIOS = (
    Scenario(SHORT, {"first": "0s", "rate": "0", "size": "200"}, ("-clients", "64", "-for", "4s")),
    Scenario(LIGHT, {"first": "1ms", "rate": "0", "size": "200"}, ("-rate", "50", "-for", "4s")),
    Scenario(
        STREAMS,
        {"first": "20ms", "rate": "50", "tokens": "64"},
        ("-stream", "-tokens", "64", "-clients", "128", "-ramp", "1300ms", "-for", "5s"),
    ),
    Scenario(
        SLOW,
        {"first": "200ms", "rate": "2", "tokens": "20"},
        ("-stream", "-tokens", "20", "-clients", "2000", "-times", "1", "-ramp", "5s", "-patience", "120s"),
    ),
)


class Results:
    """All runs, by contestant and scenario."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], list[Run]] = {}

    def add(self, contestant: str, scenario: str, run: Run) -> None:
        self._runs.setdefault((contestant, scenario), []).append(run)

    def has(self, contestant: str, scenario: str) -> bool:
        return (contestant, scenario) in self._runs

    def of(self, contestant: str, scenario: str, key: str) -> float:
        """The median over the rounds."""
        return median(float(run[key]) for run in self._runs[contestant, scenario])

    def worst(self, contestant: str, scenario: str, key: str) -> float:
        return max(float(run[key]) for run in self._runs[contestant, scenario])

    def cpu(self, contestant: str, scenario: str, unit: str) -> float:
        """Seconds of CPU for one of unit: requests or tokens."""
        runs = self._runs[contestant, scenario]
        return median(float(run["cpu_seconds"]) / max(1.0, float(run[unit])) for run in runs)

    def added(self, contestant: str, scenario: str, key: str) -> float:
        """Above the direct way, in milliseconds: each round's difference to the same round's direct run."""
        pairs = zip(self._runs[contestant, scenario], self._runs["direct", scenario], strict=False)
        return median(float(run[key]) - float(direct[key]) for run, direct in pairs)


HEADER = (
    "",
    "requests/s",
    "CPU us/request",
    "light load: added p50 ms",
    "128 streams: added TTFT p50 / p99 ms",
    "CPU ms/1000 tokens",
    "2,000 slow streams: errors",
    "resident MB",
)


def row(results: Results, contestant: str, title: str) -> list[str]:
    """Empty where it wasn't measured, or where there is nobody to measure."""

    def cell(scenario: str, write: Callable[[], str], *, direct: bool = False) -> str:
        return write() if results.has(contestant, scenario) and (direct or contestant != "direct") else ""

    def first(share: str) -> str:
        return f"{results.added(contestant, STREAMS, f'first_{share}'):.2f}"

    return [
        title,
        cell(SHORT, lambda: f"{results.of(contestant, SHORT, 'requests_per_second'):,.0f}", direct=True),
        cell(SHORT, lambda: f"{results.cpu(contestant, SHORT, 'requests') * 1e6:,.0f}"),
        cell(LIGHT, lambda: f"{results.added(contestant, LIGHT, 'latency_p50'):.2f}"),
        cell(STREAMS, lambda: f"{first('p50')} / {first('p99')}"),
        cell(STREAMS, lambda: f"{results.cpu(contestant, STREAMS, 'tokens') * 1e6:.1f}"),
        cell(SLOW, lambda: f"{results.worst(contestant, SLOW, 'failed'):.0f}", direct=True),
        cell(SLOW, lambda: f"{results.worst(contestant, SLOW, 'resident_mb'):.0f}"),
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True, slots=True)
class Promise:
    """What issue and design ask of us, beside what was measured. at_least: else at most."""

    text: str
    limit: float
    found: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def __str__(self) -> str:
        which = "at least" if self.at_least else "at most"
        return f"{self.text}: {self.found:.2f} ({which} {self.limit:g}{'' if self.kept else '; MISSED'})"


def promises(results: Results, ours: str) -> list[Promise]:
    """Those that can be told from what was measured."""
    r, found = results, []

    def measured(scenario: str, *who: str) -> bool:
        return all(r.has(name, scenario) for name in (ours, *who))

    if measured(SHORT, "litellm"):
        ratio = r.of(ours, SHORT, "requests_per_second") / r.of("litellm", SHORT, "requests_per_second")
        found.append(Promise("times LiteLLM's requests/s", 25, ratio, at_least=True))
    if measured(SHORT, "go"):
        ratio = r.cpu(ours, SHORT, "requests") / r.cpu("go", SHORT, "requests")
        found.append(Promise("times the Go proxy's CPU per short request", 3, ratio))
    if measured(STREAMS, "go"):
        ratio = r.cpu(ours, STREAMS, "tokens") / r.cpu("go", STREAMS, "tokens")
        found.append(Promise("times the Go proxy's CPU per relayed token", 2, ratio))
        for share, limit in (("p50", 1.0), ("p99", 5.0)):
            more = r.added(ours, STREAMS, f"first_{share}") - r.added("go", STREAMS, f"first_{share}")
            found.append(Promise(f"ms of TTFT {share} above the Go proxy's at 128 streams", limit, more))
    if measured(SLOW):
        found.append(Promise("errors of 2,000 slow streams", 0, r.worst(ours, SLOW, "failed")))
        found.append(Promise("MB resident with 2,000 slow streams", 300, r.worst(ours, SLOW, "resident_mb")))
    return found
