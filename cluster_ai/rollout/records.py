"""The record of one rollout while it runs: each step is in the journal first, and then said to the head host."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster_ai.audit.file import AuditFile
from cluster_ai.config.groups import policies
from cluster_ai.config.model import Config
from cluster_ai.errors import HostError
from cluster_ai.rollout import credentials, lock
from cluster_ai.rollout.audit_copy import copy
from cluster_ai.rollout.journal import Change, Intent, Journal, Rollout, State
from cluster_ai.rollout.lease import Head, Lease
from cluster_ai.rollout.lock import user
from cluster_ai.rollout.plan import Plan
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.traffic import lift

LONGEST = 20_000  # characters of a step's detail: the verdict over a wave of some dozen workers


def folder(config_path: Path) -> Path:
    """Where a controller keeps what is its own."""
    return config_path.resolve().parent / ".cluster-ai"


def journal_of(config_path: Path) -> Journal:
    return Journal(folder(config_path) / "rollouts.sqlite")


def head_of(scope: Scope) -> Head:
    name = scope.head.name
    return Head(name, scope.argv([name])[name], scope.sudo_password)


def config_digest(config: Config) -> str:
    return hashlib.sha256(config.path.read_bytes()).hexdigest()


def intent(config: Config, plan: Plan) -> Intent:
    """What a plan is going to do, as the journal keeps it."""
    hosts = {it.host: Change(it.release_from, it.release_to) for it in plan.hosts if it.changes}
    strategies = dict.fromkeys(policy.strategy for policy, workers in policies(config) if workers)
    waves = tuple(wave.as_dict() for wave in plan.waves)
    text = config.path.read_text(encoding="utf-8")
    return Intent(config.name, ", ".join(strategies), config_digest(config), hosts, waves, text)


def controller(config_path: Path) -> str:
    """This machine and folder: whose lock is held, nobody else runs from there."""
    return f"{socket.gethostname()}:{folder(config_path)}"


def refreshed(scope: Scope, journal: Journal, *, locked: bool = False) -> list[HostError]:
    """Take in what other controllers did, and tell as interrupted what nobody does any more.

    locked: we hold this machine's lock. Returns why the head host could not be asked.
    """
    path = scope.config.path
    try:
        copies, holder = head_of(scope).read()
    except HostError as error:
        return [error]
    for rollout in copies:
        journal.take(rollout)
    ours = holder.get("controller") == controller(path)
    if not holder or (ours and (locked or lock.free(folder(path) / "lock"))):
        journal.interrupt_running()
    return []


@contextmanager
def locked(config_path: Path, command: str) -> Iterator[Journal]:
    """This machine's lock on the cluster, with its journal."""
    with lock.hold(folder(config_path) / "lock", command):
        yield journal_of(config_path)


@contextmanager
def leased(scope: Scope, journal: Journal, command: str) -> Iterator[Record]:
    """The cluster's lease, held until the end. Raises LockedError where another controller changes it now.

    One who doesn't reach the end by himself is told as interrupted; the next one gives requests again to workers that
    he had drained.
    """
    record = Record(journal)
    with Lease(head_of(scope), command, controller(scope.config.path), record.now) as lease:
        journal.interrupt_running()
        abandoned = any(it.state == "interrupted" for it in journal.all(1))
        record.lease = lease
        try:
            yield record
            if abandoned and record.id and record.now_state() not in ("running", "interrupted"):
                lift(scope.gateway(credentials.token(scope.config)).ask)
        finally:
            if record.id and record.now_state() == "running":
                record.end("interrupted", "stopped in the midst of it")
            record.keep_log(scope)


@dataclass
class Record:
    """Begun by `begin` or `resume`; before that it has nothing to write to."""

    journal: Journal
    lease: Lease | None = None
    id: str = ""

    @property
    def released(self) -> float:
        """When the last holder of the lease gave it back, by the head host's clock."""
        assert self.lease
        return self.lease.released

    def begin(self, command: str, intent: Intent) -> None:
        self.id = self.journal.begin(command, f"{user()}@{socket.gethostname()} ({os.getpid()})", intent)

    def resume(self, rollout: Rollout, what: str) -> None:
        self.id = rollout.id
        self.journal.set_state(self.id, "running")
        self.step(what, "", "start")

    def step(self, step: str, host: str, status: str, detail: str = "") -> None:
        self.journal.step(self.id, step, host, status, detail[:LONGEST])

    def doing(self, what: str) -> None:
        """Raises RolloutError where another controller has taken the lease meanwhile."""
        assert self.lease
        self.lease.doing(what)

    def end(self, state: State, reason: str = "") -> None:
        self.journal.set_state(self.id, state, reason)

    def keep_log(self, scope: Scope) -> None:
        """What was done from here is on the head, too."""
        head = head_of(scope)
        try:
            copy(head, AuditFile(folder(scope.config.path) / "audit"))
        except (HostError, OSError) as error:
            if self.id:
                self.step("copy the audit log", head.name, "failed", str(error))

    def now(self) -> Rollout | None:
        return self.journal.get(self.id) if self.id else None

    def now_state(self) -> State:
        return self.journal.get(self.id).state
