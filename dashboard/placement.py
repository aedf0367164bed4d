"""Why a model is on these workers and not on others, as the gateway tells it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from dashboard.gateway import Caller, Gateway


@dataclass(frozen=True, slots=True)
class Reason:
    worker: str
    holds: bool  # a replica is there, or belongs there
    speed: float | None  # tokens per second of an answer there, lately
    free_gpu: int | None  # bytes beside all other models
    free_ram: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """memory: bytes that one replica needs, and where that is known from."""

    memory: int
    whence: str
    reasons: tuple[Reason, ...]


def read(gateway: Gateway, caller: Caller, model: str) -> Explanation:
    said = gateway.get(f"/api/v1/models/{quote(model, safe='')}/explain", caller)
    return Explanation(
        said["memory"]["total"],
        said["memory"]["why"],
        tuple(
            Reason(it["worker"], it["holds"], it["tokens_per_second"], it["free_gpu"], it["free_ram"], it["why"])
            for it in said["workers"]
        ),
    )
