"""pyinfra's edge: deploys run in a process of their own, since pyinfra patches the interpreter it lives in (gevent).

`push` brings everything to the hosts and verifies it, without touching what runs; `switch` makes a pushed release the
current one. Both go on with the other hosts when one fails, and tell of each host apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster_ai.config.model import Config
from cluster_ai.deploys import data
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.errors import HostError, RolloutError
from cluster_ai.inventory.ssh import ssh_argv
from cluster_ai.provision import refusals

__all__ = ["Event", "HostOutcome", "HostTarget", "push", "renew", "switch"]


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """How it ended on one host."""

    ok: bool
    changed: bool
    error: HostError | RolloutError | None = None


def push(
    config: Config, targets: Sequence[HostTarget], *, sudo_password: str | None, on_event: Callable[[Event], None]
) -> dict[str, HostOutcome]:
    """Parts, blobs, credentials and the switch script to all at once; every file's SHA-256 is checked on the host."""
    return _run("push", config, targets, sudo_password, on_event)


def renew(
    config: Config, targets: Sequence[HostTarget], *, sudo_password: str | None, on_event: Callable[[Event], None]
) -> dict[str, HostOutcome]:
    """Credentials alone, to all at once."""
    return _run("renew", config, targets, sudo_password, on_event)


def switch(
    config: Config, hosts: Sequence[HostTarget], *, sudo_password: str | None, on_event: Callable[[Event], None]
) -> dict[str, HostOutcome]:
    """Make each host's pushed release its current one, all at once. One whose gate fails is back on what it had."""
    return _run("switch", config, hosts, sudo_password, on_event)


def _run(
    do: str, config: Config, targets: Sequence[HostTarget], sudo_password: str | None, on_event: Callable[[Event], None]
) -> dict[str, HostOutcome]:
    if not targets:
        return {}
    order = {
        "do": do,
        "targets": data.dump(tuple(targets)),
        "ssh": {target.name: ssh_argv(config.ssh, target.address) for target in targets},
        "rsync": {target.name: ssh_argv(config.ssh, target.address, persist=False) for target in targets},
        "sudo_password": sudo_password,
        "timeout": int(config.rollout.gate_timeout),
    }
    outcomes, said = _process(json.dumps(order), on_event)
    return {target.name: _outcome(target.name, outcomes.get(target.name), said) for target in targets}


def _process(order: str, on_event: Callable[[Event], None]) -> tuple[dict[str, Any], str]:
    """(what is told of each host, what went to standard error)."""
    outcomes: dict[str, Any] = {}
    command = [sys.executable, "-m", "cluster_ai.deploys.runner"]
    with tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True)
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(order)  # not an argument, which others could see, and not a file
            process.stdin.close()
            for line in process.stdout:
                message = json.loads(line)
                if "event" in message:
                    on_event(Event(**message["event"]))
                else:
                    outcomes = message["outcomes"]
        except BrokenPipeError:
            pass  # it died at once; what it said comes below
        finally:
            process.terminate()
            process.wait()
            if process.stdout:
                process.stdout.close()
        err.seek(0)
        return outcomes, err.read()


def _outcome(host: str, told: dict[str, Any] | None, said: str) -> HostOutcome:
    if told is None:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "it ended without a word")
        return HostOutcome(False, False, RolloutError(f"pyinfra's process failed: {last}", where=host))
    if told["error"] is None:
        return HostOutcome(True, bool(told["changed"]))
    return HostOutcome(False, bool(told["changed"]), _error(host, **told["error"]))


def _error(host: str, what: str, remedy: str, kind: str, said: str) -> HostError | RolloutError:
    """A failure in words. Where ssh or sudo is the one that refuses, it is worded as in every other place."""
    known = _worded(host, said)
    if known:
        return known
    error = HostError if kind == "host" else RolloutError
    return error(what, where=host, remedy=remedy)


def _worded(host: str, said: str) -> HostError | None:
    if not said:
        return None
    for code in (255, 1):
        error = refusals.refused(refusals.Reply(host, code, b"", said))
        if error and error.remedy != f"try it by hand: ssh -v {host}":
            return error
    return None
