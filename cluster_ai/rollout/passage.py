"""Hosts from one release to another: out of the traffic, switched, and back into it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from cluster_ai import layout
from cluster_ai.config.model import Host, hosts
from cluster_ai.deploys.data import Event
from cluster_ai.deploys.outcomes import OUTCOMES
from cluster_ai.errors import ClusterAIError, HostError, RolloutError, UnavailableError
from cluster_ai.provision import ssh
from cluster_ai.provision.refusals import Reply
from cluster_ai.rollout import credentials
from cluster_ai.rollout.gate import Gateway
from cluster_ai.rollout.records import Record
from cluster_ai.rollout.rolling import Outcomes
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.traffic import Traffic

# A switch takes its time limit for units that start, for its gate, and for the way back; before it another one, whose
# controller has died, may do so too. Beside that, seconds for units that stop, and for a confirmation that won't come.
LIMITS, SLACK = 6, 150.0


@dataclass(frozen=True)
class Passage:
    scope: Scope
    record: Record
    on_stage: Callable[[str, Sequence[str]], None]
    on_event: Callable[[Event], None]

    def run(self, title: str, names: Sequence[str], serving: Sequence[str], work: Callable[[], Outcomes]) -> Outcomes:
        """Drain those that serve, do the work, and give them requests again, whatever came of it.

        A host whose worker doesn't serve again has failed.
        """
        for name in names:
            self.record.step(title, name, "start")
        drained: dict[str, Traffic] = {}
        outcomes: dict[str, ClusterAIError | None] = {}
        try:
            refused = self._drain(title, serving, drained)
            if refused:
                outcomes |= dict.fromkeys(names, refused)
            else:
                self.on_stage(title, names)
                outcomes |= work()
        finally:
            stuck = self._resume(drained, {name for name, error in outcomes.items() if error})
        outcomes |= {name: error for name, error in stuck.items() if outcomes.get(name) is None}
        for name, error in outcomes.items():
            self.record.step(title, name, "failed" if error else "changed", str(error or ""))
        return outcomes

    def to(self, title: str, releases: Mapping[str, str]) -> Outcomes:
        """Hosts to releases that they have and were healthy with. releases: host -> digest."""
        names = list(releases)
        return self.run(title, names, self.workers(names), lambda: self._switch(title, releases))

    def workers(self, names: Sequence[str]) -> list[str]:
        """Those of the hosts that serve models."""
        return [host.name for host in self._hosts(names) if host.worker]

    def _hosts(self, names: Sequence[str]) -> list[Host]:
        return [host for host in hosts(self.scope.config) if host.name in names]

    def _drain(self, title: str, names: Sequence[str], ours: dict[str, Traffic]) -> RolloutError | None:
        """Fills in what is ours to resume; returns why the gateway refuses to drain one of them."""
        if not names:
            return None
        gateway = self.gateway
        traffic = {host.name: Traffic(gateway.ask, host.worker.name) for host in self._hosts(names) if host.worker}
        self.on_stage("drain", list(traffic))
        limit = self.scope.config.rollout.drain_timeout
        for name, it in traffic.items():
            self.on_event(Event(name, "drain", "start"))
            try:
                if it.drain(f"rollout {self.record.id}: {title}"):
                    ours[name] = it
            except RolloutError as error:
                self.on_event(Event(name, "drain", "failed", error.what))
                return error
        end = time.monotonic() + limit
        for name, it in ours.items():
            left = it.under_way(max(0.0, end - time.monotonic()))
            cut = f"{left} still under way after {limit:.0f} s are cut off" if left else ""
            self.on_event(Event(name, "drain", "changed", cut))
            self.record.step("drain", name, "changed", cut)
        return None

    def _resume(self, drained: Mapping[str, Traffic], failed: Container[str]) -> dict[str, ClusterAIError]:
        """Those that failed may be away for long: they get requests when they are there, and aren't waited for."""
        wrong: dict[str, ClusterAIError] = {}
        if drained:
            self.on_stage("resume", list(drained))
        for name, it in drained.items():
            self.on_event(Event(name, "resume", "start"))
            limit = self.scope.config.rollout.gate_timeout
            try:
                serves = it.resume(0.0 if name in failed else limit)
            except (HostError, UnavailableError) as error:
                wrong[name] = error
            else:
                if not serves:
                    wrong[name] = RolloutError(
                        f"gets no requests again {limit:.0f} s after it was switched",
                        where=name,
                        remedy="see what the gateway says of it: cluster-ai status",
                    )
            self.on_event(Event(name, "resume", "failed" if name in wrong else "changed"))
            self.record.step("resume", name, "failed" if name in wrong else "changed", str(wrong.get(name, "")))
        return wrong

    @property
    def gateway(self) -> Gateway:
        return self.scope.gateway(credentials.token(self.scope.config))

    def _switch(self, title: str, releases: Mapping[str, str]) -> Outcomes:
        """By the switch script alone: what was confirmed on a host needs no push, and no second confirmation."""
        timeout = self.scope.config.rollout.gate_timeout
        argv = self.scope.argv(releases)
        calls = []
        for name, digest in releases.items():
            self.on_event(Event(name, title, "start"))
            words = (str(layout.LIBEXEC / "switch"), "--timeout", f"{timeout:.0f}", "--known", digest)
            calls.append(ssh.Call(name, argv[name], shlex.join(words)))
        found: dict[str, ClusterAIError | None] = {}

        def told(name: str, reply: Reply | HostError) -> None:
            found[name] = error = _outcome(name, reply)
            self.on_event(Event(name, title, "failed" if error else "changed", releases[name][:12]))

        batch = ssh.Batch(
            calls, sudo_password=self.scope.sudo_password, timeout=LIMITS * timeout + SLACK, on_reply=told
        )
        batch.results()
        return found


def _outcome(name: str, reply: Reply | HostError) -> ClusterAIError | None:
    if isinstance(reply, HostError) or reply.returncode == 0:
        return reply if isinstance(reply, HostError) else None
    what, remedy = OUTCOMES.get(
        reply.returncode, (f"the switch ends with {reply.returncode}", "see journalctl -u cluster-ai-switch there")
    )
    said = (reply.text + reply.stderr).strip().splitlines()
    return RolloutError("\n    ".join([what, *said[-40:]]), where=name, remedy=remedy)
