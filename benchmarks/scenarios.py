"""What is done to an update of two workers, one after the other, and at which moment; to a host: to the second one."""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Literal

from benchmarks.lab_files import ROOT
from benchmarks.rollout_lab import FOLDER, WORKERS, Trial

FIRST, SECOND = WORKERS[:2]
LIMIT = 300.0  # seconds that anything here may take
PADDING = 400 << 20  # bytes of nothing in an engine's archive, so that unpacking it takes a while

Disturb = Callable[[Trial, Popen[str]], None]

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

CLOSE_SSH = "table inet fault { chain input { type filter hook input priority -5; tcp dport 22 ct state new drop; }; }"

# What a release's unit brings along: it lasts as long as the engine of that release. It is there for one host alone, in
# a file that other hosts don't have.
BLOCKADE = f"""\
systemd-run --quiet --collect --unit blockade --property=PartOf=cluster-ai-engine.service \\
    --property='ExecStopPost=/usr/sbin/nft delete table inet fault' sleep infinity
nft '{CLOSE_SSH}'
"""
UNITS = "cluster_ai/release/service.py"
STARTS = 'f"ExecStart={LAUNCH} '

# The whole of a host's part of the product, on a disk that is about to be full.
SMALL_DISK = f"""\
set -e
rm -f /var/lib/cluster-ai/incoming/*
used=$(du -sm /opt/cluster-ai | cut -f1)
mount -t tmpfs -o mode=0755,size=$((used + {(PADDING >> 20) + 300}))m tmpfs /mnt
cp -a /opt/cluster-ai/. /mnt/
mount --bind /mnt /opt/cluster-ai
"""
BIG_DISK = "umount -l /opt/cluster-ai && umount -l /mnt"
FILL = "fallocate -l $(($(df -m --output=avail /opt/cluster-ai | tail -n 1) - 100))M /opt/cluster-ai/filler"

COMES_IN = '[ -n "$(ls -A /var/lib/cluster-ai/incoming)" ]'
HAS_COME = "ls /var/lib/cluster-ai/incoming | grep -qxE '[0-9a-f]{64}'"
DAMAGE = "for seconds in 0.05 0; do for it in /var/lib/cluster-ai/incoming/*; do echo >>$it; done; sleep $seconds; done"
UNPACKS = "ls -d /opt/cluster-ai/parts/.[0-9a-f]*"
WAITS = "[ -e /var/lib/cluster-ai/waiting ]"


def nothing(_: Trial) -> None:
    pass


def undisturbed(_: Trial, __: Popen[str]) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    done: str  # what is done, for people
    state: Literal["failed", "returned"]  # what the journal must say of it
    disturb: Disturb = undisturbed  # while the update runs
    prepare: Callable[[Trial], None] = nothing  # before it
    heal: Callable[[Trial], None] = nothing  # when the command has ended
    change: Mapping[str, str] = field(default_factory=dict)  # values of cluster.yaml, beside a new version
    arguments: tuple[str, ...] = ()  # of apply


# --- moments ----------------------------------------------------------------------------------------------------------


def until(holds: Callable[[], bool], what: str, *, every: float = 0.2) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {LIMIT:.0f} s")
        time.sleep(every)


def release(trial: Trial, host: str) -> str:
    return trial.on(host, "readlink /opt/cluster-ai/current", check=False).strip().rpartition("/")[2]


def at(moment: str, *then: str | Disturb) -> Disturb:
    """moment: a condition for a shell on the second worker. then: what is run there at once, or done from here."""
    commands = " && ".join(it for it in then if isinstance(it, str)) or "true"
    script = f"until {moment} >/dev/null 2>&1; do sleep 0.02; done; {commands}"

    def disturb(trial: Trial, process: Popen[str]) -> None:
        watch = trial.watch(SECOND, script, LIMIT)
        try:
            until(lambda: watch.poll() is not None or process.poll() is not None, "the moment", every=0.01)
            if watch.poll() != 0:
                raise TimeoutError(f"the moment never came, or nothing could be done then: {watch.poll()}")
            for act in then:
                if not isinstance(act, str):
                    act(trial, process)
        finally:
            if watch.poll() is None:
                os.killpg(watch.pid, signal.SIGKILL)
            watch.wait()

    return disturb


def switched(*then: str | Disturb) -> Disturb:
    """As soon as the second worker's current release is another one."""

    def disturb(trial: Trial, process: Popen[str]) -> None:
        moment = f'[ "$(readlink /opt/cluster-ai/current)" != releases/{release(trial, SECOND)} ]'
        at(moment, *then)(trial, process)

    return disturb


def cut_power(trial: Trial, _: Popen[str]) -> None:
    trial.lab("kill", SECOND)


def start_again(trial: Trial) -> None:
    trial.lab("start", SECOND)


def cut_off(trial: Trial, _: Popen[str]) -> None:
    trial.lab("partition", SECOND, "on")


def join_again(trial: Trial) -> None:
    trial.lab("partition", SECOND, "off")


def cut_power_before_confirmation(trial: Trial, process: Popen[str]) -> None:
    """Nobody can confirm it, so that it waits for as long as it takes to cut its power."""
    switched(f"nft '{CLOSE_SSH}'")(trial, process)
    at(WAITS, cut_power)(trial, process)


# --- before an update -------------------------------------------------------------------------------------------------


def full_disk(trial: Trial) -> None:
    padded_engine(trial)
    trial.on(SECOND, SMALL_DISK)


def empty_disk(trial: Trial) -> None:
    trial.on(SECOND, BIG_DISK)


def padded_engine(_: Trial) -> None:
    path = FOLDER / "engine-padded.tar"
    padding = FOLDER / "padding"
    if path.exists():
        return
    with padding.open("wb") as file:
        file.truncate(PADDING)
    with tarfile.open(path, "w", dereference=True) as archive:
        archive.add(FOLDER / "ollama", "bin/ollama")
        archive.add(padding, "lib/ollama/padding")
    padding.unlink()


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


def bad_firewall(trial: Trial) -> None:
    """A release whose engine, before it starts, shuts port 22 to everybody who isn't connected yet."""
    trial.on(SECOND, f"cat >/root/blockade-cluster-ai-engine <<'END'\n{BLOCKADE}\nEND")
    text = (ROOT / UNITS).read_text()
    if STARTS not in text:
        raise SystemExit(f"bench: {UNITS} starts its programs in another way now")
    (trial.code / UNITS).write_text(
        text.replace(STARTS, 'f"ExecStartPre=-+/bin/sh /root/blockade-%p\\n"\n        ' + STARTS)
    )


def good_firewall(trial: Trial) -> None:
    shutil.copy(ROOT / UNITS, trial.code / UNITS)
    trial.on(SECOND, "rm /root/blockade-cluster-ai-engine; systemctl stop blockade.service", check=False)


PADDED = {"engine": "./engine-padded.tar"}
SCENARIOS = (
    Scenario("wrong hash", "two bytes too much in what has come to a worker", "failed", at(HAS_COME, DAMAGE)),
    Scenario(
        "disk full",
        "no space left for what is unpacked, though there was when it was asked for",
        "failed",
        at(COMES_IN, FILL),
        prepare=full_disk,
        heal=empty_disk,
        change=PADDED,
    ),
    Scenario(
        "power cut while unpacking",
        "one worker's power, while its release is unpacked",
        "failed",
        at(UNPACKS, cut_power),
        prepare=padded_engine,
        heal=start_again,
        change=PADDED,
    ),
    Scenario(
        "engine doesn't start",
        "a release whose Ollama ends at once",
        "failed",
        prepare=dead_engine,
        change={"engine": "./engine-dead"},
    ),
    Scenario(
        "power cut in the switch",
        "one worker's power, while units restart",
        "returned",
        switched(cut_power),
        heal=start_again,
    ),
    Scenario(
        "power cut before the confirmation",
        "one worker's power, when it is healthy and waits",
        "returned",
        cut_power_before_confirmation,
        heal=start_again,
    ),
    Scenario(
        "partition after the switch", "one worker cut off from all", "returned", switched(cut_off), heal=join_again
    ),
    Scenario(
        "sshd blocked",
        "a release whose unit shuts port 22 in the firewall",
        "returned",
        prepare=bad_firewall,
        heal=good_firewall,
    ),
    Scenario(
        "half the speed",
        "a release whose Ollama is held for 60 % of the time, as a canary",
        "returned",
        prepare=slow_engine,
        change={"engine": "./engine-slow.tar"},
        arguments=("--strategy", "canary"),
    ),
)
