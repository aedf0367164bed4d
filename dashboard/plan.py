"""The last plan that a controller published, as the gateway tells it."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.gateway import Caller, Gateway
from dashboard.rollouts import seconds


@dataclass(frozen=True, slots=True)
class Wave:
    when: str
    hosts: str
    meanwhile: tuple[str, ...]  # what is unavailable, what is waited for


@dataclass(frozen=True, slots=True)
class Plan:
    made: float  # seconds since 1970
    who: str
    text: str  # the cluster.yaml that it was made of
    limit: tuple[str, ...]  # hosts; empty: all
    summary: str
    changes: tuple[str, ...]
    waves: tuple[Wave, ...]
    hosts: tuple[tuple[str, tuple[str, ...]], ...]  # hosts that are alike -> what changes there
    left_out: int  # hosts that change, and are not among them
    unreachable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Last:
    """plan: None where nobody has published one."""

    plan: Plan | None


def read(gateway: Gateway, caller: Caller) -> Last:
    said = gateway.get("/api/v1/plan", caller)["plan"]
    if said is None:
        return Last(None)
    return Last(
        Plan(
            made=seconds(said["made"]),
            who=said["who"],
            text=said["text"],
            limit=tuple(said["limit"]),
            summary=said["summary"],
            changes=tuple(said["changes"]),
            waves=tuple(Wave(it["when"], it["hosts"], tuple(it["meanwhile"])) for it in said["waves"]),
            hosts=tuple((it["hosts"], tuple(it["changes"])) for it in said["hosts"]),
            left_out=said["left_out"],
            unreachable=tuple(said["unreachable"]),
        )
    )
