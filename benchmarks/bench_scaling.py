"""Replays a day of requests against ways of scaling: who waits for how long, and what it costs in replicas.

    python benchmarks/bench_scaling.py                       # a made-up office week, into docs/benchmarks.md
    python benchmarks/bench_scaling.py --trace trace.csv     # seconds since 1970, requests at once: Prometheus' own

The classes that decide are cluster_ai/scaling's. What is simulated is the rest: requests that come, replicas that take
a while to get ready, and a queue before them.
"""

from __future__ import annotations

import argparse
import bisect
import csv
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.page import put  # noqa: E402
from cluster_ai.scaling.forecast import DAY, Forecast, fit  # noqa: E402
from cluster_ai.scaling.policy import Load, Policy, Scaler  # noqa: E402

STEP = 15.0  # seconds between decisions, as in the gateway
SAMPLE = 300.0  # seconds between points of the history
Trace = Callable[[float], float]  # time -> requests that would run at once, if all could


@dataclass(frozen=True)
class Site:
    """slots: requests that a replica runs at once; ready: seconds until a new one answers; answer: seconds of one."""

    slots: int = 4
    ready: float = 120.0
    answer: float = 10.0


@dataclass
class Outcome:
    """waited: request-seconds in the queue. late: seconds during which the mean wait was above an answer's time."""

    replica_hours: float = 0.0
    requests: float = 0.0
    waited: float = 0.0
    late: float = 0.0
    changes: list[tuple[float, int, str]] = field(default_factory=list)

    @property
    def mean_wait(self) -> float:
        return self.waited / self.requests if self.requests else 0.0


def replay(trace: Trace, begin: float, policy: Policy, site: Site, forecast: Forecast | None, ahead: float) -> Outcome:
    """One day from `begin`."""
    scaler, outcome = Scaler(policy), Outcome()
    ready, coming, queue, last = max(policy.min, 1), list[float](), 0.0, begin
    for at in (begin + i * STEP for i in range(int(DAY / STEP))):
        ready += sum(it <= at for it in coming)
        coming = [it for it in coming if it > at]
        arriving = trace(at) / site.answer * STEP
        queue += arriving
        running = min(queue, ready * site.slots * STEP / site.answer)
        queue -= running
        wait = queue * site.answer / max(1, ready * site.slots)
        last = at if arriving > 0.01 else last
        load = Load(
            replicas=ready + len(coming),
            in_flight=trace(at) + queue,
            queue_time=wait,
            idle=at - last,
            forecast=forecast.most(at, ahead) if forecast is not None else None,
        )
        decision = scaler.decide(load, datetime.fromtimestamp(at, UTC))
        if decision.replicas != load.replicas:
            outcome.changes.append((at, decision.replicas, decision.reason))
        if decision.replicas > load.replicas:
            coming += [at + site.ready] * (decision.replicas - load.replicas)
        else:
            ready = min(ready, decision.replicas)
        outcome.replica_hours += (ready + len(coming)) * STEP / 3600
        outcome.requests += arriving
        outcome.waited += queue * STEP
        outcome.late += STEP if wait > site.answer else 0.0
    return outcome


def office(seed: int = 1, peak: float = 14.0) -> Trace:
    """Nobody at night, most between nine and five, few at the weekend; each day a little different."""
    moods = [random.Random(f"{seed} {day}").uniform(0.8, 1.2) for day in range(7 * 8)]  # noqa: S311

    def asked(at: float) -> float:
        hour, day = at % DAY / 3600, int(at // DAY)
        share = 1 / (1 + math.exp(-6 * (hour - 8.9))) / (1 + math.exp(4 * (hour - 17.2)))
        weekend = 0.15 if datetime.fromtimestamp(at, UTC).weekday() >= 5 else 1.0
        return peak * share * weekend * moods[day % len(moods)]

    return asked


def made_up(seed: int = 1) -> tuple[Trace, list[float], list[float]]:
    """As recorded, of 18 days from a Monday on."""
    start, trace = datetime(2026, 11, 2, tzinfo=UTC).timestamp(), office(seed)
    times = [start + i * SAMPLE for i in range(int(18 * DAY / SAMPLE))]
    return trace, times, [trace(t) for t in times]


def recorded(path: Path) -> tuple[Trace, list[float], list[float]]:
    """From a CSV file of times and requests at once, in rising order."""
    with path.open() as file:
        rows = [(float(a), float(b)) for a, b in csv.reader(file)]
    times, values = [t for t, _ in rows], [v for _, v in rows]

    def asked(at: float) -> float:
        return values[max(0, bisect.bisect_right(times, at) - 1)]

    return asked, times, values


def compare(
    trace: Trace, times: Sequence[float], values: Sequence[float], begin: float, site: Site
) -> dict[str, Outcome]:
    """What is known before `begin` makes the forecast."""
    known = [(t, v) for t, v in zip(times, values, strict=True) if t < begin]
    forecast = fit([t for t, _ in known], [v for _, v in known])
    scaled = Policy(min=1, max=6, in_flight=site.slots, cool_down=600.0)
    ahead = 2 * site.ready + 900
    return {
        "1 replica": replay(trace, begin, Policy(1, 1, site.slots), site, None, ahead),
        "6 replicas": replay(trace, begin, Policy(6, 6, site.slots), site, None, ahead),
        "by load": replay(trace, begin, scaled, site, None, ahead),
        "by load and forecast": replay(trace, begin, scaled, site, forecast, ahead),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="CSV: seconds since 1970, requests at once; the last day counts")
    parser.add_argument("--ready", type=float, default=Site.ready, help="seconds until a new replica answers")
    asked = parser.parse_args()
    site = Site(ready=asked.ready)
    if asked.trace:
        trace, times, values = recorded(asked.trace)
        begin = times[-1] - DAY
    else:
        trace, times, values = made_up()
        begin = times[0] + 17 * DAY
    lines = ["| way | replica-hours | mean wait, s | minutes of long waits | first up |", "|---|---|---|---|---|"]
    for way, it in compare(trace, times, values, begin, site).items():
        up = f"{datetime.fromtimestamp(it.changes[0][0], UTC):%H:%M}" if it.changes else "-"
        lines.append(f"| {way} | {it.replica_hours:.1f} | {it.mean_wait:.2f} | {it.late / 60:.1f} | {up} |")
    table = "\n".join(lines)
    print(table)
    if not asked.trace:
        intro = "Simulated, by `make bench-scaling`: the last day of a made-up office week; a new replica answers after"
        put("scaling", "Scaling", f"{intro} {site.ready:.0f} s. docs/scaling.md says what the ways are.\n\n{table}")


if __name__ == "__main__":
    main()
