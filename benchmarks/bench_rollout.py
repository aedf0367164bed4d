"""Full updates of a head and four workers under a steady load, and faults in their midst: `make rollout-test` (root).

Writes both tables into docs/benchmarks.md. Exit code 1 when an update failed a request or broke a stream, or a fault
left the cluster other than it should.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import faults  # noqa: E402
from benchmarks.outcomes import FAULTS, UPDATES, Fault, Update, fault_row, summarize, table, update_row  # noqa: E402
from benchmarks.page import put  # noqa: E402
from benchmarks.rollout_lab import FOLDER, HEAD, WORKERS, Load, Trial  # noqa: E402
from benchmarks.scenarios import SCENARIOS  # noqa: E402

BEFORE, AFTER = 12.0, 6.0  # seconds of load around an update
BY_HAND = "by hand"  # what people do without us
ROLLBACK = "rollback"
KINDS = (BY_HAND, "rolling", "canary", "blue-green", ROLLBACK)
FAULTS_OF = {it.name: it for it in SCENARIOS}
ALL_FAULTS = (*FAULTS_OF, faults.KILLED)


def restart_by_hand(trial: Trial) -> int:
    """One host after another, all its units, as soon as the one before says that it's done."""
    for host in (HEAD, *WORKERS):
        trial.on(host, "systemctl restart 'cluster-ai-*.service'")
    return 0


def updated(trial: Trial, kind: str) -> int:
    """The command's exit code."""
    command = ("rollback", "--yes") if kind == ROLLBACK else ("apply", "--yes", "--strategy", kind)
    done = trial.run(*command)
    (FOLDER / f"update-{kind}.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], flush=True)
    return done.returncode


def measured(trial: Trial, kind: str, token: str) -> Update:
    """One update while the load runs."""
    if kind not in (BY_HAND, ROLLBACK):
        trial.bump()
    with Load(trial, kind, token) as load:
        load.for_a_while(BEFORE)
        begin = time.time()
        code = restart_by_hand(trial) if kind == BY_HAND else updated(trial, kind)
        end = time.time()
        load.for_a_while(AFTER)
    if kind == ROLLBACK and code == 0:
        trial.unbump()
    found = Update(kind, begin, end, code, tuple(load.samples))
    print(f"bench: {kind}: {end - begin:.0f} s, exit {code}, {summarize(found.samples)}", flush=True)
    return found


def disturbed(trial: Trial, name: str, token: str) -> Fault:
    return faults.killed(trial, token) if name == faults.KILLED else faults.run(trial, FAULTS_OF[name], token)


@dataclass
class Rows:
    """What was measured, by name. Kept in a file, so that a part can be measured anew and the rest stays."""

    path: Path = FOLDER / "rows.json"
    updates: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def load(self) -> None:
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            self.updates, self.faults = kept["updates"], kept["faults"]

    def keep(self) -> None:
        self.path.write_text(json.dumps({"updates": self.updates, "faults": self.faults}, indent=2))
        put("rollout", "Updates under load", self.section())

    def section(self) -> str:
        lines = [
            f"Measured by `make rollout-test` on {time.strftime('%Y-%m-%d')}: a head and {len(WORKERS)} workers as lab"
            f" hosts, {os.cpu_count()} cores for controller, load and hosts together, Linux {platform.release()},"
            " Ollama 0.17.4 with SmolLM2-135M on every worker. Each update brings new code and new settings by which"
            " every unit of every host restarts. The load: 4 clients that ask for a few tokens, 4 that stream some tens"
            " over Ollama's and OpenAI's API, none of whom tries again; every answer is compared, whole, with the right"
            " one. Latencies are those of the few tokens.",
            "",
            table(UPDATES, (self.updates[name] for name in KINDS if name in self.updates)),
        ]
        if self.faults:
            lines += [
                "",
                "Faults in the midst of an update of two workers, one after the other, under the same load. Held: every"
                " host is on a whole release, the cluster serves, the journal says what happened.",
                "",
                table(FAULTS, (self.faults[name] for name in ALL_FAULTS if name in self.faults)),
            ]
        return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    names = [*KINDS, *ALL_FAULTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, default=names, help=", ".join(names))
    parser.add_argument("--keep", action="store_true", help="use hosts that are up, and leave them so, for more parts")
    options = parser.parse_args(arguments)
    chosen = options.only
    if os.geteuid():
        raise SystemExit("bench: lab hosts need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the lab is taken down then too
    trial, rows, well = Trial(), Rows(), True
    if chosen != names:
        rows.load()
    try:
        print("bench: booting hosts, and a first apply", flush=True)
        trial.up(kept=options.keep)
        trial.must("apply", "--yes")
        token = trial.must("status", "--token").strip()
        for kind in (it for it in KINDS if it in chosen):
            done = measured(trial, kind, token)
            rows.updates[kind] = update_row(done)
            well &= kind == BY_HAND or (done.code == 0 and summarize(done.samples).clean)
            rows.keep()
        for name in (it for it in ALL_FAULTS if it in chosen):
            fault = disturbed(trial, name, token)
            print(f"bench: {fault}", flush=True)
            rows.faults[name] = fault_row(fault)
            well &= fault.held
            rows.keep()
    finally:
        if not options.keep:
            trial.down()
    print(rows.section())
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
