"""Carry a plan out: the host layer, reboots for drivers, push to all, switch in waves, the last gate, tidying up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from cluster_ai.config.model import Host
from cluster_ai.errors import ClusterAIError, HostError
from cluster_ai.placement import Placement
from cluster_ai.provision.pyinfra import Event, HostTarget, push, switch
from cluster_ai.release.store import Store
from cluster_ai.rollout import credentials, driver, gate, survey
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.prune import prune
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.survey import Survey

if TYPE_CHECKING:
    from cluster_ai.provision.ansible import AnsibleResult, TaskEvent

Status = Literal["start", "ok", "changed", "failed"]
OnEvent = Callable[[Event], None]
OnStage = Callable[[str, Sequence[str]], None]  # title, hosts


@dataclass
class Report:
    """How a rollout went, host by host."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, ClusterAIError] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)  # would have changed, but did not
    models: dict[str, str] = field(default_factory=dict)  # what is wrong with a model at the last gate
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed and not self.models


@dataclass(frozen=True)
class Executor:
    """Does what a plan says. Progress goes to the callbacks, from whichever thread it comes."""

    scope: Scope
    placement: Placement
    on_stage: OnStage
    on_event: OnEvent

    def run(self, found: Survey) -> Report:
        report = Report()
        plan = found.plan
        converging = [host.host for host in plan.hosts if host.host_layer]
        changing = [host.host for host in plan.hosts if host.release_changes]
        if converging:
            failed, waiting = self._converge(found, converging)
            report.failed |= failed
            if waiting and not report.failed:
                report.failed |= self._reboot(found, waiting)
            if not report.failed:
                found = self._look_again(found, converging)
                plan = found.plan
                report.failed |= {error.where: error for error in plan.errors if error.where in converging}
                changing = [host.host for host in plan.hosts if host.release_changes]
        if not report.failed and changing:
            report.failed |= self._head_is_there(found)
        if not report.failed and changing:
            report.failed |= self._push(found, changing)
        if report.failed:
            report.untouched = changing
            return report
        switched = switch_in_waves([wave.hosts for wave in plan.waves], lambda wave: self._switch(found, wave))
        report.done = [host.host for host in plan.hosts if host.host in switched.done or host.host in converging]
        report.failed, report.untouched = switched.failed, switched.untouched
        if switched.done and not report.failed:
            self._finish(found, report)
        return report

    def _converge(self, found: Survey, names: Sequence[str]) -> tuple[dict[str, ClusterAIError], frozenset[str]]:
        """What failed, and which hosts wait for a reboot."""
        self.on_stage("host layer", names)
        result = self._play(found, names, "site.yml")
        return dict(result.failed), result.reboot

    def _play(self, found: Survey, names: Sequence[str], playbook: str) -> AnsibleResult:
        from cluster_ai.provision.ansible import converge

        return converge(
            self.scope.config,
            names,
            stamps={name: found.stamps[name] for name in names},
            sudo_password=self.scope.sudo_password,
            on_event=lambda it: self.on_event(_event(it)),
            playbook=playbook,
        )

    def _reboot(self, found: Survey, waiting: Iterable[str]) -> dict[str, ClusterAIError]:
        """One after the other, until one fails. What isn't rebooted has no stamp yet, so the next run comes to it."""
        names = driver.order(waiting, self.scope.head.name)
        self.on_stage("driver", names)
        gateway = self.scope.gateway(credentials.token(self.scope.config))

        def one(wave: Sequence[str]) -> dict[str, ClusterAIError | None]:
            (name,) = wave
            return {
                name: driver.reboot(
                    driver.Traffic(gateway.ask, name),
                    lambda: self._play(found, wave, driver.PLAYBOOK).failed.get(name),
                    lambda step, status, detail: self.on_event(Event(name, step, status, detail)),
                    back=self.scope.config.rollout.gate_timeout,
                )
            }

        return switch_in_waves([[name] for name in names], one).failed

    def _look_again(self, found: Survey, converged: Sequence[str]) -> Survey:
        """The host layer may have brought another Python; what was asked before is asked anew where it ran."""
        self.on_stage("probe", converged)
        answers: dict[str, Observed | HostError] = {**found.observed}
        answers |= {error.where: error for error in found.plan.errors}
        answers |= self.scope.probe(converged).results()
        return survey.take(self.scope, self.placement, answers)

    def _head_is_there(self, found: Survey) -> dict[str, ClusterAIError]:
        """A worker's gate asks the scheduler, so without the head no worker can be switched."""
        head = self.scope.head.name
        return {error.where: error for error in found.plan.errors if error.where == head}

    def _push(self, found: Survey, names: Sequence[str]) -> dict[str, ClusterAIError]:
        self.on_stage("push", names)
        targets = [self.target(found, host, renew=True) for host in self._hosts(names)]
        outcomes = push(self.scope.config, targets, sudo_password=self.scope.sudo_password, on_event=self.on_event)
        return {name: outcome.error for name, outcome in outcomes.items() if outcome.error}

    def _switch(self, found: Survey, names: Sequence[str]) -> dict[str, ClusterAIError | None]:
        self.on_stage("switch", names)
        targets = [self.target(found, host, renew=False) for host in self._hosts(names)]
        outcomes = switch(self.scope.config, targets, sudo_password=self.scope.sudo_password, on_event=self.on_event)
        return {name: outcome.error for name, outcome in outcomes.items()}

    def _finish(self, found: Survey, report: Report) -> None:
        """The last gate, then no more of old releases than wanted."""
        config = self.scope.config
        head = self.scope.head
        models = served(self.placement, {error.where for error in found.plan.errors})
        self.on_stage("last gate", [head.name])
        gateway = self.scope.gateway(credentials.token(config))
        for model in models:
            self.on_event(Event(head.name, f"a token of {model}", "start"))
            wrong = gate.one_token(gateway, [model], timeout=config.rollout.gate_timeout)
            report.models |= wrong
            self.on_event(Event(head.name, f"a token of {model}", "failed" if wrong else "ok", wrong.get(model, "")))
        if not report.models:
            kept = prune(
                self.scope.argv(report.done), config.rollout.keep_releases, sudo_password=self.scope.sudo_password
            )
            report.notes += [f"{host}: old releases could not be removed: {what}" for host, what in kept.items()]

    def _hosts(self, names: Sequence[str]) -> list[Host]:
        return [host for host in self.scope.hosts if host.name in names]

    def target(self, found: Survey, host: Host, *, renew: bool) -> HostTarget:
        """What a host is to become; with its certificate and keys when `renew` and the plan want new ones."""
        release = found.releases[host.name]
        plan = next(plan for plan in found.plan.hosts if plan.host == host.name)
        store = Store.of(self.scope.config)
        return HostTarget(
            name=host.name,
            address=host.address,
            digest=release.digest,
            manifest_path=str(store.root / "releases" / f"{release.digest}.json"),
            parts=tuple((part.name, part.sha256, str(part.path)) for part in release.parts),
            blobs=tuple((blob.sha256, str(blob.path)) for blob in release.blobs),
            credentials=credentials.files(self.scope.config, host) if renew and plan.credentials else None,
        )


def _event(task: TaskEvent) -> Event:
    """Ansible's event in the words of the release layer's."""
    words: Mapping[str, Status] = {"running": "start", "skipped": "ok", "unreachable": "failed"}
    status: Status = words.get(task.status) or cast("Status", task.status)
    return Event(task.host, f"{task.role}: {task.task}" if task.role else task.task, status, task.message)


def switch_in_waves(
    waves: Sequence[Sequence[str]], switch: Callable[[Sequence[str]], Mapping[str, ClusterAIError | None]]
) -> Report:
    """One wave after another, until one has a host that fails: what comes later stays as it is."""
    report = Report()
    left = [list(wave) for wave in waves]
    while left and report.ok:
        for host, error in switch(left.pop(0)).items():
            if error is None:
                report.done.append(host)
            else:
                report.failed[host] = error
    report.untouched = [host for wave in left for host in wave]
    return report


def served(placement: Placement, down: set[str]) -> list[str]:
    """Models that some worker that isn't down has, and that must answer therefore."""
    return sorted({it.model for it in placement.assignments if it.worker not in down})
