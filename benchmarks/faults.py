"""Faults in the midst of an update, on real hosts under load; and what must hold after each of them.

Every update here goes to two workers, one after the other; the fault is on the second.
"""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any, Literal

from benchmarks.outcomes import Fault, summarize
from benchmarks.rollout_lab import FOLDER, HEAD, WORKERS, Load, Trial

FIRST, SECOND = WORKERS[:2]
HOSTS = (HEAD, *WORKERS)
BEFORE, AFTER = 3.0, 8.0  # seconds of load before the update, and when all is well again
LIMIT = 240.0  # seconds that anything here may take

# In the place of Ollama: starts the real one, and holds it for more than half of the time.
HALF_SPEED = """\
#!/bin/sh
"$0.real" "$@" &
real=$!
trap 'kill -CONT $real $held; kill $real; wait $real; exit 0' TERM INT
while kill -0 $real 2>/dev/null; do
    held=$(cat /proc/$real/task/*/children)
    [ -z "$held" ] || kill -STOP $held 2>/dev/null
    sleep 0.06
    [ -z "$held" ] || kill -CONT $held 2>/dev/null
    sleep 0.04
done
wait $real
"""


def nothing(_: Trial) -> None:
    pass


def undisturbed(_: Trial, __: Popen[str]) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    done: str  # what is done, for people
    disturb: Callable[[Trial, Popen[str]], None] = undisturbed  # while the update runs
    prepare: Callable[[Trial], None] = nothing  # before it
    heal: Callable[[Trial], None] = nothing  # when the command has ended
    change: Mapping[str, str] = field(default_factory=dict)  # values of cluster.yaml, beside a new version
    arguments: tuple[str, ...] = ()  # of apply
    after: Literal["old", "resumed"] = "old"  # what runs in the end; resumed: the new, when it was gone on with


# --- waiting ----------------------------------------------------------------------------------------------------------


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {LIMIT:.0f} s")
        time.sleep(0.2)


def release(trial: Trial, host: str) -> str:
    return trial.on(host, "readlink /opt/cluster-ai/current", check=False).strip().rpartition("/")[2]


def releases(trial: Trial) -> dict[str, str]:
    return {host: release(trial, host) for host in HOSTS}


def when_switched(act: Callable[[Trial, Popen[str]], None]) -> Callable[[Trial, Popen[str]], None]:
    """Act as soon as the second worker's current release is the new one."""

    def disturb(trial: Trial, process: Popen[str]) -> None:
        before = release(trial, SECOND)
        until(lambda: process.poll() is not None or release(trial, SECOND) not in ("", before), "the switch")
        if process.poll() is None:
            act(trial, process)

    return disturb


# --- what is done -----------------------------------------------------------------------------------------------------


def cut_power(trial: Trial, _: Popen[str]) -> None:
    trial.lab("kill", SECOND)


def start_again(trial: Trial) -> None:
    trial.lab("start", SECOND)


def cut_off(trial: Trial, _: Popen[str]) -> None:
    trial.lab("partition", SECOND, "on")


def join_again(trial: Trial) -> None:
    trial.lab("partition", SECOND, "off")


def close_ssh(trial: Trial, _: Popen[str]) -> None:
    """As a release would that breaks the firewall: who is connected stays so, nobody else comes in."""
    rules = "table inet fault { chain input { type filter hook input priority -5; tcp dport 22 ct state new drop; }; }"
    trial.on(SECOND, f"echo '{rules}' | nft -f -")


def open_ssh(trial: Trial) -> None:
    trial.on(SECOND, "nft delete table inet fault", check=False)


def kill_controller(_: Trial, process: Popen[str]) -> None:
    Trial.kill(process)


def fill_disk(trial: Trial) -> None:
    for folder in ("/var/lib/cluster-ai/incoming", "/opt/cluster-ai/parts"):
        trial.on(SECOND, f"mount -t tmpfs -o size=60m tmpfs {folder}")


def empty_disk(trial: Trial) -> None:
    for folder in ("/var/lib/cluster-ai/incoming", "/opt/cluster-ai/parts"):
        trial.on(SECOND, f"umount {folder}")


def dead_engine(_: Trial) -> None:
    path = FOLDER / "engine-dead"
    path.write_text("#!/bin/sh\necho 'this engine does not start' >&2\nexit 3\n")
    path.chmod(0o755)


def slow_engine(_: Trial) -> None:
    script = FOLDER / "engine-slow"
    script.write_text(HALF_SPEED)
    script.chmod(0o755)
    with tarfile.open(FOLDER / "engine-slow.tar", "w", dereference=True) as archive:
        archive.add(script, "bin/ollama")
        archive.add(FOLDER / "ollama", "bin/ollama.real")


def built(trial: Trial) -> Path:
    """The part of the second worker's new release that is its own."""
    (plan,) = trial.json("plan", "--limit", SECOND)["hosts"]
    store = FOLDER / ".cluster-ai/store"
    manifest = json.loads((store / "releases" / f"{plan['release_to']}.json").read_text())
    return store / "parts" / f"{manifest['parts']['host']}.tar.gz"


def damage(trial: Trial) -> None:
    path = built(trial)
    path.write_bytes(path.read_bytes() + b"x")


def mend(trial: Trial) -> None:
    path = built(trial)
    path.write_bytes(path.read_bytes()[:-1])


SCENARIOS = (
    Scenario("wrong hash", "one byte too much in a worker's bundle", prepare=damage, heal=mend),
    Scenario("disk full", "hardly any space for what comes", prepare=fill_disk, heal=empty_disk),
    Scenario(
        "engine doesn't start",
        "a release whose Ollama ends at once",
        prepare=dead_engine,
        change={"engine": "./engine-dead"},
    ),
    Scenario("power cut", "one worker's power, in the midst of its switch", when_switched(cut_power), heal=start_again),
    Scenario("partition", "one worker cut off from all, in its switch", when_switched(cut_off), heal=join_again),
    Scenario("sshd blocked", "no new connection to port 22 after a switch", when_switched(close_ssh), heal=open_ssh),
    Scenario("controller killed", "SIGKILL in the midst of a switch", when_switched(kill_controller), after="resumed"),
    Scenario(
        "half the speed",
        "a release whose Ollama is held for half of the time, as a canary",
        prepare=slow_engine,
        change={"engine": "./engine-slow.tar"},
        arguments=("--strategy", "canary"),
    ),
)


# --- what must hold ---------------------------------------------------------------------------------------------------
def whole(trial: Trial) -> bool:
    """Every host answers, and has nothing in it that isn't as its release says; which release is another question."""
    told = trial.json("verify")
    drift = [it for host in told.get("hosts", ()) for it in host["drift"] if it["kind"] != "release"]
    return len(told.get("hosts", ())) == len(HOSTS) and not drift and not told["errors"]


def journal(trial: Trial) -> dict[str, Any]:
    """The newest rollout; one without an id where there has been none."""
    told = trial.json("rollouts", "list")
    return dict(told[0]) if told else {"id": "", "state": "empty"}


def run(trial: Trial, scenario: Scenario, token: str) -> Fault:
    """One fault. Afterwards the cluster is as cluster.yaml said before it."""
    before, last = releases(trial), journal(trial)["id"]
    begin = time.time()
    told: list[str] = []
    held = True
    trial.bump(**scenario.change)
    scenario.prepare(trial)
    with Load(trial, f"fault-{scenario.name}", token) as load:
        load.for_a_while(BEFORE)
        process = trial.start("apply", "--yes", "--limit", f"{FIRST},{SECOND}", *scenario.arguments)
        out = err = ""
        try:
            scenario.disturb(trial, process)
            out, err = process.communicate(timeout=LIMIT)
        except (TimeoutError, TimeoutExpired) as e:
            told.append(f"the bench gave up: {e}")
            held = False
        finally:
            Trial.kill(process)
            process.wait()
            scenario.heal(trial)
        (FOLDER / f"fault-{scenario.name}.log").write_text(out + err)
        killed = process.returncode < 0
        told.append("killed" if killed else f"exit {process.returncode}: {first_line(err)}")
        held &= process.returncode != 0
        try:
            until(
                lambda: whole(trial) and (scenario.after == "resumed" or releases(trial) == before),
                "a whole release on every host, of those that are to run",
            )
        except TimeoutError as e:
            told.append(str(e))
            held = False
        record = journal(trial)
        told.append(f"journal: {record['state'] if record['id'] != last else 'nothing was begun'}")
        held &= record["state"] != "running"
        well = time.time()
        told.append(where(before, releases(trial)))
        load.for_a_while(AFTER)
        if scenario.after == "resumed":
            resumed = trial.run("rollouts", "resume", "--yes")
            told.append(f"resumed: exit {resumed.returncode}, journal: {journal(trial)['state']}")
            held &= resumed.returncode == 0 and release(trial, SECOND) != before[SECOND]
    late = summarize(it for it in load.samples if it.start > well)
    if not late.clean or not late.requests:
        told.append(f"the cluster doesn't serve as it should: {late.reasons}")
        held = False
    if scenario.after == "old":
        trial.unbump()
    if not held:
        trial.run("apply", "--yes")  # so that the next one begins with a cluster that is well
    return Fault(scenario.name, scenario.done, "; ".join(told), held, well - begin, summarize(load.samples))


def first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("Error") or ": " in line]
    return lines[0][:160] if lines else ""


def where(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    new = [host for host in before if now[host] != before[host]]
    return f"new release on {', '.join(new)}" if new else "all on the old release"
