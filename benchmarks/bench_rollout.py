"""Full updates of a head and four workers under a steady load, and faults in their midst: `make rollout-test` (root).

Writes both tables into docs/benchmarks.md. Exit code 1 when an update failed a request or broke a stream, or a fault
left the cluster other than it should.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.outcomes import Fault, Update, faults_table, summarize, updates_table  # noqa: E402
from benchmarks.rollout_lab import FOLDER, HEAD, ROOT, WORKERS, Load, Trial  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- rollout:begin -->", "<!-- rollout:end -->"
BEFORE, AFTER = 12.0, 6.0  # seconds of load around an update
STRATEGIES = ("rolling", "canary", "blue-green")
BY_HAND = "by hand: `systemctl restart` on one host after the other"


def by_hand(trial: Trial) -> int:
    """What people do without us: one host after another, all its units, as soon as the one before is done."""
    for host in (HEAD, *WORKERS):
        trial.on(host, "systemctl restart 'cluster-ai-*.service'", check=False)
    return 0


def applied(*arguments: str) -> Callable[[Trial], int]:
    def update(trial: Trial) -> int:
        done = trial.run("apply", "--yes", *arguments)
        (FOLDER / f"apply-{trial.version}.log").write_text(done.stdout + done.stderr)
        if done.returncode:
            print(done.stdout[-3000:], done.stderr[-3000:], flush=True)
        return done.returncode

    return update


def measured(trial: Trial, name: str, token: str, update: Callable[[Trial], int]) -> Update:
    """One update while the load runs."""
    with Load(trial, name.partition(":")[0], token) as load:
        load.for_a_while(BEFORE)
        begin = time.time()
        code = update(trial)
        end = time.time()
        load.for_a_while(AFTER)
    found = Update(name, begin, end, code, tuple(load.samples))
    told = summarize(found.samples)
    print(f"bench: {name}: {end - begin:.0f} s, exit {code}, {told}", flush=True)
    return found


def section(updates: Sequence[Update], faults: Sequence[Fault]) -> str:
    lines = [
        f"Measured by `make rollout-test` on {time.strftime('%Y-%m-%d')}: a head and {len(WORKERS)} workers as lab"
        f" hosts, {os.cpu_count()} cores for controller, load and hosts together, Linux {platform.release()}, Ollama"
        " 0.17.4 with SmolLM2-135M on every worker. Each update brings new code and new settings by which every unit"
        " of every host restarts. The load: 4 clients that ask for a few tokens, 4 that stream some tens over Ollama's"
        " and OpenAI's API, none of whom tries again; every answer is compared, whole, with the right one. Latencies"
        " are those of the few tokens.",
        "",
        updates_table(updates),
    ]
    if faults:
        lines += ["", "Faults in the midst of an update, under the same load:", "", faults_table(faults)]
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the section in its place; the rest of the page is others'."""
    page = PAGE.read_text()
    if BEGIN not in page:
        page += f"\n## Updates under load\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


def main(arguments: Sequence[str] | None = None) -> int:
    updates: dict[str, Callable[[Trial], int]] = {BY_HAND: by_hand}
    updates |= {strategy: applied("--strategy", strategy) for strategy in STRATEGIES}
    updates["plain"] = applied()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="updates and faults whose name begins so")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    options = parser.parse_args(arguments)
    if os.geteuid():
        raise SystemExit("bench: lab hosts need root")

    def wanted(name: str) -> bool:
        return not options.only or name.startswith(tuple(options.only))

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the lab is taken down then too
    trial = Trial()
    done: list[Update] = []
    faults: list[Fault] = []
    try:
        print("bench: booting hosts, and a first apply", flush=True)
        trial.up()
        trial.must("apply", "--yes")
        token = trial.must("status", "--token").strip()
        for name, update in updates.items():
            if wanted(name):
                if update is not by_hand:
                    trial.bump()
                done.append(measured(trial, name, token, update))
                write(section(done, faults))
    finally:
        if not options.keep:
            trial.down()
    print(section(done, faults))
    clean = all(it.code == 0 and summarize(it.samples).clean for it in done if it.name != BY_HAND)
    return 0 if clean and all(it.held for it in faults) else 1


if __name__ == "__main__":
    sys.exit(main())
