"""`make bench-routing`: how soon the first token comes with each policy, of many simulated workers and a few real."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.routing import simulator  # noqa: E402
from benchmarks.routing.conversations import Habits, conversations, work  # noqa: E402
from benchmarks.routing.engines import CONTEXT, cluster  # noqa: E402
from benchmarks.routing.simulator import MACHINES, TOGETHER, Outcome, Simulation, Worker  # noqa: E402
from benchmarks.routing.talk import OPTIONS, Heard, Load, talk  # noqa: E402
from cluster_ai.gateway.balancing import POLICIES  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.md"
SIMULATED, REAL = "routing-simulated", "routing-real"
SIZES = (4, 32, 250, 1000)
LOADS = {"low": 0.3, "high": 0.75}  # of what the workers can write; reading prompts comes on top
SEED, LEAST, SPAN = 1, 400, 120  # conversations at least; seconds in which they begin

ENGINES, SLOTS, ROUNDS = 4, 1, 3
AGAINST = ("affinity", "round_robin", "least_loaded")
TALKS = (
    Load("low", together=1, conversations=2, turns=4, history=250, pause=0.5),
    Load("high", together=ENGINES * SLOTS, conversations=ENGINES * SLOTS, turns=4, history=250, pause=0.1),
)


def simulate(workers: int, load: float, policy: str, seed: int = SEED) -> Outcome:
    """So many workers of unequal strength, whose conversations begin at a rate that keeps such a share of them busy."""
    made = [Worker(f"w{n}", MACHINES[n % len(MACHINES)]) for n in range(workers)]
    habits = Habits()
    rate = load * sum(w.machine.writes * w.slots**TOGETHER for w in made) / work(habits)
    told = conversations(habits, max(LEAST, round(rate * SPAN)), 1 / rate, seed)
    return Simulation(made, POLICIES[policy]()).run(told)


def simulated() -> str:
    lines = [
        "| workers | load | policy | first token p50, s | p95, s | prompt found in a cache | refused | imbalance |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for workers in SIZES:
        for load, share in LOADS.items():
            for policy in POLICIES:
                begin = time.process_time()
                found = simulate(workers, share, policy)
                spent = time.process_time() - begin
                print(f"bench: simulated {workers} workers, {load} load, {policy}: {spent:.1f} s", flush=True)
                lines.append(
                    f"| {workers} | {load} | {policy} | {found.quantile(0.5):.2f} | {found.quantile(0.95):.2f} |"
                    f" {found.cached / found.read:.0%} | {found.refused} | {found.imbalance:.2f} |"
                )
    kinds = ", ".join(f"{m.slots} x {m.writes:g}" for m in MACHINES)
    habits = Habits()
    low, high = LOADS.values()
    intro = (
        f"Simulated by `make bench-routing`, with the gateway's own policies and queue. Workers of {len(MACHINES)}"
        f" strengths in equal numbers (slots x tokens/s: {kinds}), each slot with one conversation in its cache, as"
        f" Ollama 0.17.4 chooses them. Conversations of {habits.turns:g} turns on average, {habits.message} tokens a"
        f" message, {habits.answer} an answer, {habits.think:g} s between, with {habits.systems} system prompts of"
        f" about {habits.system} tokens. At low load writing the answers alone takes {low:.0%} of what all workers can"
        f" write, at high load {high:.0%}; reading prompts comes on top. Refused: waited {simulator.PATIENCE:g} s for a"
        " slot. Imbalance: how far the use of workers differs, in standard deviations by its mean; who knows that"
        " workers are unequal uses them unequally."
    )
    return "\n".join([intro, "", *lines])


def real(rounds: int) -> str:
    """Policies take turns in each round, so that whatever else the machine does befalls all of them."""
    heard: dict[tuple[str, str], list[Heard]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-routing-") as folder, cluster(Path(folder), ENGINES, SLOTS) as url:
        for number in range(rounds):
            for load in TALKS:
                for policy in (*AGAINST[number % len(AGAINST) :], *AGAINST[: number % len(AGAINST)]):
                    seed = f"{number} {load.name} {policy}"
                    one = asyncio.run(talk(url, load, policy, seed))
                    heard.setdefault((load.name, policy), []).append(one)
                    print(
                        f"bench: round {number + 1}, {load.name} load, {policy}: p50 {_quantile(one, 0.5):.2f} s,"
                        f" p95 {_quantile(one, 0.95):.2f} s, refused {one.refused}, moved {one.moves}",
                        flush=True,
                    )
    return "\n".join([_told(rounds), "", *_table(heard)])


def _table(heard: Mapping[tuple[str, str], Sequence[Heard]]) -> list[str]:
    lines = [
        "| load | policy | first token p50, s | p95, s | times sooner than round robin | refused | turns that moved |",
        "|---|---|---|---|---|---|---|",
    ]
    for load, policy in ((load.name, policy) for load in TALKS for policy in AGAINST):
        rounds = heard[load, policy]
        others = heard[load, "round_robin"]
        ratio = median(_quantile(o, 0.5) / _quantile(r, 0.5) for o, r in zip(others, rounds, strict=True))
        total = Heard()
        for one in rounds:
            total.add(one)
        lines.append(
            f"| {load} | {policy} | {_quantile(total, 0.5):.2f} | {_quantile(total, 0.95):.2f} | {ratio:.1f} |"
            f" {total.refused} | {total.moves} of {total.again} |"
        )
    return lines


def _told(rounds: int) -> str:
    low, high = TALKS
    return (
        f"Measured by `make bench-routing` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for all, Linux"
        f" {platform.release()}. {ENGINES} Ollama 0.17.4 with SmolLM2-135M, {SLOTS} slot each, context {CONTEXT}, one"
        f" thread each, behind the gateway. Conversations that begin with {low.history} words and have {low.turns}"
        f" turns, with answers of {OPTIONS['num_predict']} tokens; the first turn is counted too, which no cache can"
        f" help. Low load: {low.together} at a time; high: {high.together}, one for each slot. {rounds} rounds, in each"
        " of which the policies take turns; the quantiles are of all rounds, the ratio is the median of theirs."
    )


def _quantile(heard: Heard, share: float) -> float:
    ordered = sorted(heard.first_tokens)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def write(name: str, text: str) -> None:
    """Put a part in its place; the rest of the page is others'."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = PAGE.read_text()
    if "\n## Routing\n" not in page:
        page = page.rstrip() + "\n\n## Routing\n"
    if begin not in page:
        page = page.replace("\n## Routing\n", f"\n## Routing\n\n{begin}\n{end}\n", 1)
    before, _, rest = page.partition(begin)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="with real engines; 0: only simulate")
    rounds = parser.parse_args(arguments).rounds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # engines must not outlive it
    write(SIMULATED, simulated())
    if rounds:
        write(REAL, real(rounds))


if __name__ == "__main__":
    main()
