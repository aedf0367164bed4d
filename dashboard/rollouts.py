"""What rollouts did, from the records on the head host, as the gateway tells it; and what their steps come to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dashboard.gateway import Caller, Gateway

PATH = "/api/v1/rollouts"
Standing = Literal["waits", "goes on", "done", "failed", "returned"]


@dataclass(frozen=True, slots=True)
class Brief:
    id: str
    command: str
    who: str
    strategy: str
    state: str  # running, done, failed, returned, paused, interrupted or undone
    reason: str
    started: float  # seconds since 1970
    ended: float | None
    configuration: str  # SHA-256 of cluster.yaml


@dataclass(frozen=True, slots=True)
class Wave:
    hosts: tuple[str, ...]
    kind: str
    pause: float  # seconds
    bake: float


@dataclass(frozen=True, slots=True)
class Step:
    at: float
    step: str
    host: str  # empty: of the whole
    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """One number of one worker that an analysis looked at."""

    name: str
    worker: str
    canary: float | None
    baseline: float | None  # what was expected
    result: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    at: float
    hosts: tuple[str, ...]
    result: str  # pass, fail or inconclusive
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Rollout:
    brief: Brief
    changes: Mapping[str, tuple[str | None, str]]  # host -> release before, release wanted
    waves: tuple[Wave, ...]
    steps: tuple[Step, ...]

    def verdicts(self) -> list[Verdict]:
        """Of its analyses; one whose record was cut off is left out."""
        found = (_verdict(step) for step in self.steps if step.step == "analysis")
        return [it for it in found if it is not None]

    def standing(self, host: str) -> Standing:
        """How far a host is, by its own steps and by what became of the whole."""
        steps = [it for it in self.steps if it.host == host]
        if any(it.step == "return" and it.status == "changed" for it in steps):
            return "returned"
        if any(it.status == "failed" for it in steps):
            return "failed"
        switches = [it.status for it in steps if it.step == "switch"]
        if "changed" in switches or self.brief.state == "done":
            return "done"
        return "goes on" if switches and self.brief.state == "running" else "waits"


def listed(gateway: Gateway, caller: Caller) -> tuple[Brief, ...]:
    """The newest first."""
    return tuple(_brief(it) for it in gateway.get(PATH, caller)["rollouts"])


def read(gateway: Gateway, caller: Caller, name: str) -> Rollout:
    said = gateway.get(f"{PATH}/{name}", caller)
    return Rollout(
        brief=_brief(said),
        changes={it["host"]: (it["before"], it["wanted"]) for it in said["hosts"]},
        waves=tuple(Wave(tuple(it["hosts"]), it["kind"], it["pause"], it["bake"]) for it in said["waves"]),
        steps=tuple(
            Step(seconds(it["at"]), it["step"], it["host"], it["status"], it["detail"]) for it in said["steps"]
        ),
    )


def configuration(gateway: Gateway, caller: Caller, name: str) -> str:
    """The cluster.yaml that it applied."""
    return str(gateway.get(f"{PATH}/{name}/configuration", caller)["text"])


def seconds(text: str) -> float:
    """Since 1970, of a time as the API tells it."""
    return datetime.fromisoformat(text).timestamp()


def _brief(said: Mapping[str, Any]) -> Brief:
    return Brief(
        **{name: said[name] for name in ("id", "command", "who", "strategy", "state", "reason", "configuration")},
        started=seconds(said["started"]),
        ended=seconds(said["ended"]) if said["ended"] else None,
    )


def _verdict(step: Step) -> Verdict | None:
    try:
        said = json.loads(step.detail)
        checks = tuple(
            Check(it["name"], it["worker"], it["canary"], it["baseline"], it["result"], it["sentence"])
            for it in _mappings(said["checks"])
        )
        return Verdict(step.at, tuple(said["hosts"]), said["result"], checks)
    except (ValueError, KeyError, TypeError):
        return None


def _mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value
