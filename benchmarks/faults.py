"""Faults in the midst of an update, on real hosts under load; and what must hold after each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from subprocess import Popen, TimeoutExpired
from typing import Any

from benchmarks.outcomes import Fault, summarize
from benchmarks.rollout_lab import FOLDER, HEAD, WORKERS, Load, Trial
from benchmarks.scenarios import FIRST, LIMIT, SECOND, Scenario, release, until
from cluster_ai.rollout.journal import Journal

HOSTS = (HEAD, *WORKERS)
APPLY = ("apply", "--yes", "--limit", f"{FIRST},{SECOND}")
BEFORE, AFTER = 3.0, 8.0  # seconds of load before the update, and when all is well again
KILLED = "controller killed"
KILLED_HOW = "SIGKILL at each step of the journal; then, at once, resume and undo by turns"


# --- what must hold ---------------------------------------------------------------------------------------------------


def releases(trial: Trial) -> dict[str, str]:
    return {host: release(trial, host) for host in HOSTS}


def whole(trial: Trial) -> bool:
    """Every worker serves; every host answers, and is as its release says, whichever release that is."""
    gateway = trial.json("status").get("gateway") or {"active_workers": 0}
    if gateway["active_workers"] != len(WORKERS):
        return False
    told = trial.json("verify")
    drift = [it for host in told.get("hosts", ()) for it in host["drift"] if it["kind"] != "release"]
    return len(told.get("hosts", ())) == len(HOSTS) and not drift and not told["errors"]


def journal(trial: Trial) -> dict[str, Any]:
    """The newest rollout, as the product tells it; one without an id where there has been none."""
    told = trial.json("rollouts", "list")
    return dict(told[0]) if told else {"id": "", "state": "empty", "reason": "", "steps": []}


def tells(record: Mapping[str, Any], state: str) -> bool:
    """Whether a record says how it ended, and which host's step, or which analysis, was the cause."""
    causes = [it for it in record["steps"] if it["status"] in ("failed", "fail") and it["detail"]]
    return record["state"] == state and any(it["host"] in (FIRST, SECOND) or it["step"] == "analysis" for it in causes)


class Findings:
    """What is seen of one fault: in words, and whether it is as it must be."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.held = True

    def must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.told.append(otherwise)
            self.held = False

    @contextmanager
    def within_limits(self) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, TimeoutExpired) as e:
            self.must(False, f"the bench gave up: {e}")


def served(found: Findings, load: Load, since: float) -> None:
    late = summarize(it for it in load.samples if it.start > since)
    found.must(late.clean and late.requests > 0, f"the cluster doesn't serve as it should: {late.reasons}")


# --- faults -----------------------------------------------------------------------------------------------------------


def run(trial: Trial, scenario: Scenario, token: str) -> Fault:
    """One fault. Afterwards the cluster is as cluster.yaml said before it."""
    before, last = releases(trial), journal(trial)["id"]
    found, begin = Findings(), time.time()
    trial.bump(**scenario.change)
    scenario.prepare(trial)
    with Load(trial, f"fault-{scenario.name}", token) as load:
        load.for_a_while(BEFORE)
        process = trial.start(*APPLY, *scenario.arguments)
        out = err = ""
        try:
            with found.within_limits():
                scenario.disturb(trial, process)
            with found.within_limits():
                out, err = process.communicate(timeout=LIMIT)
        finally:
            Trial.kill(process)
            process.wait()
            scenario.heal(trial)
        (FOLDER / f"fault-{scenario.name}.log").write_text(out + err)
        found.told.append(f"exit {process.returncode}: {first_line(err)}")
        found.must(process.returncode > 0, "no failure is told")
        with found.within_limits():
            if found.held:
                until(lambda: whole(trial) and releases(trial) == before, "every host whole, on what it ran before")
        record = journal(trial)
        found.must(record["id"] != last and tells(record, scenario.state), "the journal doesn't tell it")
        found.told.append(f"journal: {record['state']}")
        well = time.time()
        found.told.append(where(before, releases(trial)))
        load.for_a_while(AFTER)
    served(found, load, well)
    trial.unbump()
    if not found.held:
        trial.run("apply", "--yes")  # so that the next one begins with a cluster that is well
    return Fault(scenario.name, scenario.done, "; ".join(found.told), found.held, well - begin, summarize(load.samples))


def killed(trial: Trial, token: str) -> Fault:
    """The controller's death at each step of the journal, from the first to the last.

    What was killed is resumed or undone at once, though a host may still wait for a confirmation that won't come.
    """
    found, begin = Findings(), time.time()
    kept = Journal(FOLDER / ".cluster-ai/rollouts.sqlite")
    points: list[str] = []
    new = True  # whether cluster.yaml asks for the newer of the two releases that are brought by turns
    trial.bump()
    with Load(trial, "fault-killed", token) as load:
        load.for_a_while(BEFORE)
        while found.held:
            before, last = releases(trial), kept.all(1)[0].id
            process = trial.start(*APPLY)
            with found.within_limits():
                dies_at(len(points), process, kept, last)
            process.communicate()
            if process.returncode == 0:
                break  # there is no such step any more: it came to its end
            found.must(process.returncode < 0, f"exit {process.returncode} before step {len(points)}")
            record = journal(trial)
            point = f"{len(record['steps'])} steps, the last: {kept.get().at}"
            found.must(record["state"] == "interrupted", f"{point}: the journal says {record['state']}")
            what = "undo" if len(points) % 2 else "resume"
            done = trial.run("rollouts", what, "--yes")
            (FOLDER / f"fault-killed-{len(points)}.log").write_text(f"{point}\n{done.stdout}{done.stderr}")
            found.must(done.returncode == 0, f"{point}: {what}: exit {done.returncode}: {first_line(done.stderr)}")
            with found.within_limits():
                until(lambda: whole(trial), "every host on a whole release")
            now, wanted = releases(trial), {host: it["wanted"] for host, it in record["intent"]["hosts"].items()}
            right = before if what == "undo" else before | wanted
            found.must(now == right, f"{point}: {what}: {where(right, now)}")
            state = journal(trial)["state"]
            found.must(state == ("undone" if what == "undo" else "done"), f"{point}: {what}: the journal says {state}")
            print(f"bench: killed at {point}; {what}; held: {found.held}", flush=True)
            points.append(point)
            if what == "resume":  # the next one brings the other release
                (trial.unbump if new else trial.bump)()
                new = not new
        well = time.time()
        load.for_a_while(AFTER)
    served(found, load, well)
    if new:
        trial.unbump()
    trial.run("apply", "--yes")
    found.told.append(f"{len(points)} times, at each step; each time interrupted, then done, or undone")
    return Fault(KILLED, KILLED_HOW, "; ".join(found.told), found.held, well - begin, summarize(load.samples))


def dies_at(step: int, process: Popen[str], kept: Journal, last: str) -> None:
    """SIGKILL to a controller, and to all that it runs, as soon as its rollout has come so far; or it ends before."""

    def there() -> bool:
        newest = kept.all(1)[0]
        return process.poll() is not None or (newest.id != last and len(newest.steps) >= step)

    try:
        until(there, f"step {step} of the journal", every=0.005)
    finally:
        Trial.kill(process)


def first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("Error") or ": " in line]
    return lines[0][:160] if lines else ""


def where(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    new = [host for host in before if now[host] != before[host]]
    return f"another release on {', '.join(new)}" if new else "all on the old release"
