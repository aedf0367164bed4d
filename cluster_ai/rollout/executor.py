"""Carry a plan out: host layer, reboots for drivers, push to all, then wave by wave; and back again when one fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from cluster_ai import layout
from cluster_ai.config.groups import policies
from cluster_ai.config.model import Host
from cluster_ai.errors import ClusterAIError, HostError, RolloutError
from cluster_ai.placement.place import Placement
from cluster_ai.provision.pyinfra import Event, push, switch
from cluster_ai.rollout import asking, driver, gate, survey
from cluster_ai.rollout.analysis import Measured, judge
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.passage import Passage
from cluster_ai.rollout.plan import HostPlan, Plan
from cluster_ai.rollout.prune import prune
from cluster_ai.rollout.records import Record
from cluster_ai.rollout.rolling import Halt, Outcomes, Rolled, back, roll
from cluster_ai.rollout.scope import Scope
from cluster_ai.rollout.survey import Survey
from cluster_ai.rollout.target import host_target
from cluster_ai.rollout.waves import Wave, budget

if TYPE_CHECKING:
    from cluster_ai.provision.ansible import AnsibleResult, TaskEvent
    from cluster_ai.rollout.analysis import Verdict

Status = Literal["start", "ok", "changed", "failed"]
OnEvent = Callable[[Event], None]
OnStage = Callable[[str, Sequence[str]], None]  # title, hosts
PAST = 300.0  # seconds before a wave that its workers are compared with, at least
AGAIN = 2  # times that an analysis which can't tell yet is given its bake time anew


@dataclass
class Report:
    """How a rollout went, host by host."""

    rollout: str = ""  # its id in the journal
    done: list[str] = field(default_factory=list)
    failed: dict[str, ClusterAIError] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)  # were switched, and run what they ran before again
    untouched: list[str] = field(default_factory=list)  # would have changed, but did not
    models: dict[str, str] = field(default_factory=dict)  # what is wrong with a model at the last gate
    halt: Halt | None = None
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed and not self.models and self.halt is None


@dataclass(frozen=True)
class Executor:
    """Does what a plan says. Progress goes to the callbacks, each step to the record."""

    scope: Scope
    placement: Placement
    record: Record
    on_stage: OnStage
    on_event: OnEvent

    def run(self, found: Survey, waves: Sequence[Wave] | None = None) -> Report:
        """waves: what is left of a rollout that is resumed; None: the plan's."""
        report = Report(rollout=self.record.id)
        try:
            self._run(found, waves, report)
        except RolloutError as error:  # the lease is another's now: what is switched is for that one to judge
            report.failed[error.where] = error
            self.record.end("interrupted", error.what)
            return report
        reason = "; ".join([it.what for it in report.failed.values()] + list(report.models.values()))
        if report.halt:
            reason = report.halt.why
        if report.ok:
            self.record.end("done")
        elif report.halt and report.halt.kind == "pause":
            self.record.end("paused", reason)
        else:
            self.record.end("returned" if report.returned else "failed", reason)
        return report

    def _run(self, found: Survey, waves: Sequence[Wave] | None, report: Report) -> None:
        plan = found.plan
        converging = [host.host for host in plan.hosts if host.host_layer]
        if converging:
            found = self._host_layer(found, converging, report)
        changing = [host.host for host in found.plan.hosts if host.pushed]
        if changing and not report.failed:
            report.failed |= {e.where: e for e in found.plan.errors if e.where == self.scope.head.name}
        if changing and not report.failed:
            report.failed |= self._push(found, changing)
        if report.failed:
            report.untouched = changing
            return
        rolled = self._roll(found, found.plan.waves if waves is None else waves, report)
        left = {*rolled.failed, *rolled.untouched}
        quiet = {it.host for it in found.plan.hosts if it.host in {*converging, *changing} and not it.release_changes}
        report.done = [it.host for it in plan.hosts if it.host in rolled.done or it.host in quiet - left]
        report.failed, report.untouched, report.halt = rolled.failed, rolled.untouched, rolled.halt
        if rolled.ok and rolled.done:
            report.models = self._last_gate(found)
        if rolled.failed or report.models or (rolled.halt and rolled.halt.kind == "fail"):
            self._return(found, rolled, report)
        elif rolled.ok and rolled.done:
            self._prune(report)

    # --- the host layer ---

    def _host_layer(self, found: Survey, names: Sequence[str], report: Report) -> Survey:
        """Ansible, then the reboots that it asks for; afterwards the hosts are looked at again."""
        self.record.doing(f"host layer on {', '.join(names)}")
        self._each("host layer", names, "start")
        self.on_stage("host layer", names)
        try:
            result = self._play(found, names, "site.yml")
        except RolloutError as whole:  # no host's, but Ansible's
            report.failed[whole.where] = whole
            self._each("host layer", names, "failed", str(whole))
            return found
        report.failed |= result.failed
        if result.reboot and not report.failed:
            report.failed |= self._reboot(found, result.reboot)
        for name in names:
            error = report.failed.get(name)
            self.record.step("host layer", name, "failed" if error else "changed", str(error or ""))
        if report.failed:
            return found
        found = self._look_again(found, names)
        report.failed |= {error.where: error for error in found.plan.errors if error.where in names}
        return found

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
        gateway = self._passage.gateway

        def one(wave: Wave) -> Outcomes:
            (name,) = wave.hosts
            self.record.doing(f"driver of {name}: drain, reboot, verify")
            self.record.step("driver", name, "start")
            error = driver.reboot(
                driver.Traffic(gateway.ask, name),
                lambda: self._play(found, wave.hosts, driver.PLAYBOOK).failed.get(name),
                lambda step, status, detail: self.on_event(Event(name, step, status, detail)),
                back=self.scope.config.rollout.gate_timeout,
            )
            self.record.step("driver", name, "failed" if error else "changed", str(error or ""))
            return {name: error}

        return roll([Wave((name,), "rolling") for name in names], one, lambda wave, last: None).failed

    def _look_again(self, found: Survey, converged: Sequence[str]) -> Survey:
        """The host layer may have brought another Python; what was asked before is asked anew where it ran."""
        self.on_stage("probe", converged)
        answers: dict[str, Observed | HostError] = {**found.observed}
        answers |= {error.where: error for error in found.plan.errors}
        answers |= self.scope.probe(converged).results()
        return survey.take(self.scope, self.placement, answers)

    # --- the release layer ---

    def _push(self, found: Survey, names: Sequence[str]) -> dict[str, ClusterAIError]:
        self.record.doing(f"push to {', '.join(names)}")
        self._each("push", names, "start")
        self.on_stage("push", names)
        targets = [host_target(self.scope, found, host, renew=True) for host in self._hosts(names)]
        outcomes = push(self.scope.config, targets, sudo_password=self.scope.sudo_password, on_event=self.on_event)
        for name, outcome in outcomes.items():
            status = "failed" if outcome.error else "changed" if outcome.changed else "ok"
            self.record.step("push", name, status, str(outcome.error or ""))
        return {name: outcome.error for name, outcome in outcomes.items() if outcome.error}

    def _roll(self, found: Survey, waves: Sequence[Wave], report: Report) -> Rolled:
        plans = {it.host: it for it in found.plan.hosts}
        began: dict[Wave, _Before] = {}

        def one(wave: Wave) -> Outcomes:
            self.record.doing(f"wave {len(began) + 1} of {len(waves)} ({wave.kind}): {', '.join(wave.hosts)}")
            asked = self._ask(found, wave) if wave.bake else {}
            began[wave] = _Before(time.time(), asked)
            serving = [name for name in wave.hosts if _interrupts(plans[name])]
            return self._passage.run("switch", wave.hosts, serving, lambda: self._switch(found, wave.hosts))

        def after(wave: Wave, last: bool) -> Halt | None:
            halt = self._bake(found, wave, began[wave], report) if wave.bake else None
            if halt is None and wave.pause and not last:
                self.record.doing(f"pause of {wave.pause:.0f} s after {', '.join(wave.hosts)}")
                self.on_stage(f"pause of {wave.pause:.0f} s", wave.hosts)
                time.sleep(wave.pause)
            return halt

        return roll(waves, one, after)

    def _switch(self, found: Survey, names: Sequence[str]) -> Outcomes:
        targets = [host_target(self.scope, found, host, renew=False) for host in self._hosts(names)]
        outcomes = switch(self.scope.config, targets, sudo_password=self.scope.sudo_password, on_event=self.on_event)
        return {name: outcome.error for name, outcome in outcomes.items()}

    def _ask(self, found: Survey, wave: Wave) -> dict[str, Measured]:
        """What canaries, and some of the others, do with prompts of our own: asking.py."""
        workers, others = self._parties(found, wave)
        ask = self._passage.gateway.ask
        wanted = asking.models(ask, [*workers, *others[: asking.OTHERS]])
        self.on_stage("ask", list(wanted))
        return asking.asked(ask, wanted)

    def _parties(self, found: Survey, wave: Wave) -> tuple[list[str], list[str]]:
        """The workers that a wave switches, and the rest."""
        workers = self._passage.workers(wave.hosts)
        everybody = self._passage.workers([it.host for it in found.plan.hosts])
        return workers, [name for name in everybody if name not in workers]

    def _bake(self, found: Survey, wave: Wave, past: _Before, report: Report) -> Halt | None:
        """Let the new releases serve for a while, then compare them with the others, and with themselves before.

        Where people ask too little to tell, by what they answer to our own prompts.
        """
        from cluster_ai.rollout.prometheus import analyse

        workers, others = self._parties(found, wave)
        limits = next(it.canary for it, mine in policies(self.scope.config) if not set(workers).isdisjoint(mine))
        begin = time.time()
        for _ in range(AGAIN + 1):
            self.record.doing(f"bake of {wave.bake:.0f} s: {', '.join(workers)} against {', '.join(others)}")
            self.on_stage(f"bake of {wave.bake:.0f} s", workers)
            time.sleep(wave.bake)
            verdict = analyse(
                self.scope,
                workers,
                others,
                before=(past.at - max(wave.bake, PAST), past.at),
                after=(begin, time.time()),
                limits=limits,
            )
            self._verdict(wave, verdict, report)
            if verdict.result == "inconclusive" and not past.asked.keys().isdisjoint(workers):
                trials = asking.trials(past.asked, self._ask(found, wave))
                verdict = judge(
                    canary={name: it for name, it in trials.items() if name in workers},
                    baseline={name: it for name, it in trials.items() if name not in workers},
                    limits=limits,
                )
                self._verdict(wave, verdict, report)
            if verdict.result != "inconclusive":
                break
        if verdict.result == "pass":
            return None
        if verdict.result == "fail":
            return Halt("fail", f"the analysis of {', '.join(workers)} fails: {verdict.summary}")
        return Halt(
            "pause", f"the analysis of {', '.join(workers)} can't tell after {AGAIN + 1} times: {verdict.summary}"
        )

    def _verdict(self, wave: Wave, verdict: Verdict, report: Report) -> None:
        told = {"hosts": list(wave.hosts), **verdict.as_dict()}
        report.verdicts.append(told)
        self.record.step("analysis", "", verdict.result, json.dumps(told))
        for name in wave.hosts:
            status: Status = "failed" if verdict.result == "fail" else "changed"
            self.on_event(Event(name, "analysis", status, f"{verdict.result}: {verdict.summary}"))

    def _last_gate(self, found: Survey) -> dict[str, str]:
        """Through the gateway, a token of every model that some worker has. Returns what is wrong, by model."""
        head = self.scope.head.name
        self.record.doing("last gate")
        self.on_stage("last gate", [head])
        gateway = self._passage.gateway
        wrong: dict[str, str] = {}
        for model in served(self.placement, {error.where for error in found.plan.errors}):
            self.on_event(Event(head, f"a token of {model}", "start"))
            said = gate.one_token(gateway, [model], timeout=self.scope.config.rollout.gate_timeout)
            wrong |= said
            self.on_event(Event(head, f"a token of {model}", "failed" if said else "ok", said.get(model, "")))
            self.record.step(f"a token of {model}", head, "failed" if said else "ok", said.get(model, ""))
        return wrong

    def _return(self, found: Survey, rolled: Rolled, report: Report) -> None:
        """Every host that was switched goes back to what it ran, the last first, a few at a time."""
        plans = {it.host: it for it in found.plan.hosts}
        befores = {
            name: plans[name].release_from for name in rolled.done if plans[name].release_from != plans[name].release_to
        }
        size = _size(self.scope, found.plan)
        for names in back(befores, size=size):
            self.record.doing(f"return of {', '.join(names)}")
            outcomes = self._passage.to("return", {name: befores[name] or "" for name in names})
            for name, error in outcomes.items():
                if error is None:
                    report.returned.append(name)
                else:
                    report.notes.append(f"{name}: could not be returned: {error.what}")
        report.done = [name for name in report.done if name not in report.returned]
        first = [name for name, before in befores.items() if before is None]
        if first:
            report.notes.append(f"{', '.join(first)}: had no release before, so the new one stays")

    def _prune(self, report: Report) -> None:
        """No more of old releases than wanted."""
        keep, argv = self.scope.config.rollout.keep_releases, self.scope.argv(report.done)
        kept = prune(argv, keep, sudo_password=self.scope.sudo_password)
        report.notes += [f"{host}: old releases could not be removed: {what}" for host, what in kept.items()]

    # --- small things ---

    @property
    def _passage(self) -> Passage:
        return Passage(self.scope, self.record, self.on_stage, self.on_event)

    def _each(self, step: str, names: Sequence[str], status: str, detail: str = "") -> None:
        for name in names:
            self.record.step(step, name, status, detail)

    def _hosts(self, names: Sequence[str]) -> list[Host]:
        return [host for host in self.scope.hosts if host.name in names]


@dataclass(frozen=True, slots=True)
class _Before:
    """What a wave's workers are compared with. at: when their switch began. asked: what they did with our prompts."""

    at: float
    asked: Mapping[str, Measured]


def _interrupts(plan: HostPlan) -> bool:
    """Whether a switch of this host stops a worker that serves."""
    return plan.release_from is not None and any(change.unit in layout.WORKER_UNITS for change in plan.units)


def _size(scope: Scope, plan: Plan) -> int:
    rollout = scope.config.rollout
    return budget(rollout.policy.max_unavailable, len(scope.config.workers), len(plan.errors))


def _event(task: TaskEvent) -> Event:
    """Ansible's event in the words of the release layer's."""
    words: Mapping[str, Status] = {"running": "start", "skipped": "ok", "unreachable": "failed"}
    status: Status = words.get(task.status) or cast("Status", task.status)
    return Event(task.host, f"{task.role}: {task.task}" if task.role else task.task, status, task.message)


def served(placement: Placement, down: set[str]) -> list[str]:
    """Models that some worker that isn't down has, and that must answer therefore."""
    return sorted({it.model for it in placement.assignments if it.worker not in down})
