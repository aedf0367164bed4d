"""What the cluster has, merged over its workers, in Ollama's and OpenAI's words. Pure: reads the fleet only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cluster_ai.engine.client import PresentModel, canonical
from cluster_ai.gateway.fleet import Fleet, Worker


def tags(fleet: Fleet) -> dict[str, Any]:
    """As /api/tags: each model once, the latest where workers differ; those that changed last come first."""
    merged: dict[str, PresentModel] = {}
    for worker in fleet.active():
        for name, model in worker.present.items():
            if name not in merged or _modified(model) > _modified(merged[name]):
                merged[name] = model
    ordered = sorted(merged.values(), key=lambda m: (-_modified(m), m.name))
    return {"models": [model.raw for model in ordered]}


def ps(fleet: Fleet) -> dict[str, Any]:
    """As /api/ps: one entry a model and worker, which it names."""
    found = [{**m.raw, "worker": w.name} for w in fleet.active() for m in w.engine.loaded]
    return {"models": sorted(found, key=lambda m: (str(m.get("name")), m["worker"]))}


def version(fleet: Fleet) -> str | None:
    """The lowest among the workers, since a client goes by it for what it may ask; None without a worker."""
    return min((w.engine.version for w in fleet.active()), key=_parts, default=None)


def openai_models(fleet: Fleet) -> dict[str, Any]:
    data = [_openai(str(m.get("name")), m.get("modified_at")) for m in tags(fleet)["models"]]
    return {"object": "list", "data": data}


def openai_model(fleet: Fleet, asked: str) -> dict[str, Any]:
    """As /v1/models/{asked}. Raises Refusal (404)."""
    name = canonical(asked)
    fleet.must_know(name, asked)
    model = metadata(fleet, name)
    return _openai(asked, model.raw.get("modified_at") if model is not None else None)


def _openai(name: str, modified: Any) -> dict[str, Any]:
    owner = name.rpartition("/")[0] or "library"
    return {"id": name, "object": "model", "created": _unix(modified), "owned_by": owner}


def metadata(fleet: Fleet, name: str) -> PresentModel | None:
    """What is known of a model's file: from a healthy worker, or from one that had it."""
    return _first(fleet.able(name), name) or _first(fleet.workers.values(), name)


def _first(workers: Iterable[Worker], name: str) -> PresentModel | None:
    return next((w.present[name] for w in workers if name in w.present), None)


def _modified(model: PresentModel) -> int:
    return _unix(model.raw.get("modified_at"))


def _unix(text: Any) -> int:
    """Ollama writes nanoseconds and a Z."""
    try:
        return int(datetime.fromisoformat(re.sub(r"\.\d+", "", str(text))).timestamp())
    except ValueError:
        return 0


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text)[:3])
