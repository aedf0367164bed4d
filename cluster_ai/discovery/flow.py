"""From what a search found to workers in cluster.yaml, a step each; whoever calls asks the operator in between."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster_ai.config import load
from cluster_ai.config.extend import with_workers
from cluster_ai.config.load import load_text, read_text
from cluster_ai.config.model import Config, Worker, hosts
from cluster_ai.config.save import write
from cluster_ai.discovery import joining
from cluster_ai.discovery.merging import Machine
from cluster_ai.discovery.tokens import Tokens
from cluster_ai.discovery.trust import Trust, judge
from cluster_ai.discovery.validate import Checked
from cluster_ai.inventory import known_hosts
from cluster_ai.inventory.known_hosts import HostKey
from cluster_ai.rollout.doctor import Finding


@dataclass(frozen=True, slots=True)
class Judged:
    machine: Machine
    trust: Trust


class Flow:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.tokens = Tokens(config.path.resolve().parent)
        self._known = {token.id: token for token in self.tokens.all()}

    def secret(self, token: str) -> bytes | None:
        """Also of tokens that are of no use any more: who has one is told so."""
        known = self._known.get(token)
        return known.secret.encode() if known else None

    def judged(self, machines: Iterable[Machine]) -> list[Judged]:
        """What is to be thought of each; its host key under the name that OpenSSH looks it up by."""
        config = self.config
        members = {host.address: host.name for host in hosts(config)}
        pinned = {address: self._pinned(known_hosts.name_of(config.ssh, address)) for address in members}
        found = []
        for machine in machines:
            if machine.key:
                key = replace(machine.key, name=known_hosts.name_of(config.ssh, machine.address))
                machine = replace(machine, key=key)
                pinned = {**pinned, machine.address: self._pinned(key.name)}
            token = machine.announcement.token if machine.announcement else ""
            found.append(Judged(machine, judge(machine, members, pinned, self.secret(token))))
        return found

    def let_in(self, machines: Sequence[Machine]) -> dict[str, Finding]:
        """Take the tokens that machines have proven, and have them let our key in. What went wrong, by address."""
        import asyncio

        wrong, joined = dict[str, Finding](), list[tuple[Machine, bytes]]()
        for machine in machines:
            assert machine.announcement
            assert machine.key
            secret = self.secret(machine.announcement.token) or b""
            if self.tokens.use(machine.announcement.token, machine.key.fingerprint):
                joined.append((machine, secret))
                continue
            state = self._known[machine.announcement.token].state(time.time())
            what = f"its join token is {state if state != 'valid' else 'used'}"
            wrong[machine.address] = Finding("fail", what, "cluster-ai join-token create makes another")
            asyncio.run(joining.refuse(machine, secret, what))
        if joined:
            user, key = joining.login(self.config.ssh, joined[0][0].address)
            for (machine, _), done in zip(joined, joining.welcomed(joined, user, key), strict=True):
                if not done:
                    what = "has not answered that it let our key in"
                    wrong[machine.address] = Finding("fail", what, "see what the script says on it, and run this again")
        return wrong

    def pin(self, machines: Sequence[Machine]) -> Path | None:
        """Believe their host keys from now on; the file, where it was written."""
        keys = [machine.key for machine in machines if machine.key]
        new = [key for key in keys if key.fingerprint not in {known.fingerprint for known in self._pinned(key.name)}]
        if not new:
            return None
        file = known_hosts.path(self.config)
        if not file.exists():  # it decides alone as soon as it is there, so it begins with what was believed before
            names = (known_hosts.name_of(self.config.ssh, host.address) for host in hosts(self.config))
            new = [*(key for name in names for key in self._pinned(name)), *new]
        known_hosts.pin(file, new)
        return file

    def add(self, checked: Sequence[Checked]) -> Path:
        """Write the machines into cluster.yaml as workers; returns the backup of what was there."""
        workers = [Worker(it.name, it.machine.address, it.resources, {}) for it in checked if it.resources is not None]
        text = with_workers(read_text(self.config.path), self.config.path, workers)
        load_text(text, self.config.path)
        backup = write(self.config.path, text)
        self.config = load(self.config.path)
        return backup

    def _pinned(self, name: str) -> tuple[HostKey, ...]:
        """Keys that are believed for a name: of the file that decides, else of OpenSSH's own."""
        file = self.config.ssh.known_hosts or Path.home() / ".ssh" / "known_hosts"
        return known_hosts.find(file, name)
