"""Makes every model that is placed on this host exist in its engine, as it was placed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster_ai import layout
from cluster_ai.engine.client import canonical
from cluster_ai.host import units
from cluster_ai.host.ollama import Ollama, OllamaError
from cluster_ai.settings import HostSettings, PlacedModel

RECORD = Path(layout.STATE / "models.json")  # what was made here: name -> {"wanted": ..., "digest": that of the engine}
STARTING = 60.0  # seconds the engine may take to answer at first
RESTARTS = 3  # of the engine's unit, after which it won't start at all
STEP = 5  # percent between lines of progress

Record = dict[str, dict[str, Any]]


def make(
    told: HostSettings, *, prune: bool = False, record: Path = RECORD, blobs: Path = Path(layout.BLOBS)
) -> list[str]:
    """Returns a line for each model that could not be made."""
    if told.engine_url is None:
        return []
    engine = Ollama(told.engine_url)
    try:
        present = _present(engine, time.monotonic() + STARTING)
    except OllamaError as error:
        return [f"engine: expected an answer at {told.engine_url}, found none ({error})"]
    made = _load(record)
    failures = []
    for model in told.models:
        if is_right(model, made, present):
            print(f"model {model.name} is there", flush=True)
            continue
        try:
            _make(engine, model, blobs)
            present = _present(engine, time.monotonic() + STARTING)
            made[model.name] = {"wanted": wanted(model), "digest": present[canonical(model.name)]}
            _save(record, made)
        except (OllamaError, OSError, KeyError) as error:
            failures.append(f"model {model.name}: expected it in the engine, found: {error}")
    if prune and not failures:
        failures = _prune(engine, {model.name for model in told.models}, made, present)
        _save(record, made)
    return failures


def wanted(model: PlacedModel) -> dict[str, Any]:
    """What makes a model the one that was placed. One for the processor must be kept off the cards that are there."""
    options = {"num_gpu": 0, **model.options} if model.processor == "cpu" else dict(model.options)
    return {"blob": model.blob, "options": options, **({"quantize": model.quantize} if model.quantize else {})}


def is_right(model: PlacedModel, made: Mapping[str, Mapping[str, Any]], present: Mapping[str, str]) -> bool:
    """Made here as it is wanted, and in the engine unchanged since."""
    before = made.get(model.name)
    return (
        before is not None
        and before["wanted"] == wanted(model)
        and before["digest"] == present.get(canonical(model.name))
    )


def _present(engine: Ollama, deadline: float) -> dict[str, str]:
    """Name -> digest of every model in the engine, which may still be starting."""
    while True:
        try:
            return {canonical(model["name"]): str(model["digest"]) for model in engine.get("/api/tags")["models"]}
        except OllamaError:
            if time.monotonic() > deadline or _dies():
                raise
        time.sleep(0.2)


def _dies() -> bool:
    """Whether systemd starts the engine again and again."""
    try:
        return units.states([layout.ENGINE])[layout.ENGINE].restarts >= RESTARTS
    except (OSError, subprocess.SubprocessError):  # not a host with systemd
        return False


def _make(engine: Ollama, model: PlacedModel, blobs: Path) -> None:
    options = wanted(model)["options"]
    body: dict[str, Any] = {"model": model.name, "parameters": options}
    if model.blob is None:
        _follow(engine, "/api/pull", {"model": model.name}, f"pulling {model.name}")
        if not options:
            return
        body["from"] = model.name
    else:
        if not engine.has_blob(model.blob):
            print(f"giving the engine the file of {model.name}", flush=True)
            engine.send_blob(model.blob, blobs / model.blob)
        body["files"] = {"model.gguf": f"sha256:{model.blob}"}
        if model.quantize:
            body["quantize"] = model.quantize
    _follow(engine, "/api/create", body, f"creating {model.name}")


def _follow(engine: Ollama, path: str, body: Mapping[str, Any], title: str) -> None:
    """A line when the state changes, and for every few percent."""
    last: tuple[str, int] | None = None
    for said in engine.stream(path, {**body, "stream": True}):
        total = int(said.get("total") or 0)
        percent = 100 * int(said.get("completed") or 0) // total if total else 0
        here = (str(said.get("status", "")), percent - percent % STEP)
        if here != last:
            last = here
            print(f"{title}: {here[0]}" + (f" {here[1]} %" if total else ""), flush=True)


def _prune(engine: Ollama, placed: set[str], made: Record, present: Mapping[str, str]) -> list[str]:
    """Remove what was made here and isn't placed any more; what others put into the engine stays."""
    failures = []
    for name in [name for name in made if name not in placed]:
        try:
            if canonical(name) in present:
                engine.delete("/api/delete", {"model": name})
                print(f"removed model {name}", flush=True)
            del made[name]
        except OllamaError as error:
            failures.append(f"model {name}: expected to remove it, found: {error}")
    return failures


def _load(path: Path) -> Record:
    try:
        found: Record = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _save(path: Path, made: Record) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(made, indent=2, sort_keys=True) + "\n")
    new.replace(path)
