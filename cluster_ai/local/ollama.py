"""Makes Ollama have a model, from a GGUF file, and hold it in memory."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from cluster_ai.errors import UnavailableError
from cluster_ai.local import http
from cluster_ai.local.model import OllamaModel

_STEP = 0.2
_TIMEOUT = 120.0


def ensure(model: OllamaModel, deadline: float) -> None:
    """Blocks; deadline is of time.monotonic. Raises UnavailableError, OSError or http.client.HTTPException."""
    while not _has(model):
        if model.create:
            _create(model)
        elif time.monotonic() > deadline:
            raise UnavailableError(f"the model {model.name} doesn't appear", where=model.url)
        else:
            time.sleep(_STEP)
    for _ in http.lines(f"{model.url}/api/generate", {"model": model.name, "keep_alive": -1}, _TIMEOUT):
        pass


def _has(model: OllamaModel) -> bool:
    status, body = http.get(f"{model.url}/api/tags", 10)
    return status == 200 and any(entry["name"] == model.name for entry in json.loads(body).get("models") or [])


def _create(model: OllamaModel) -> None:
    path = Path(model.path)
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    status = http.upload(f"{model.url}/api/blobs/{digest}", path, _TIMEOUT)
    if status not in (200, 201):
        raise UnavailableError(f"refuses the model's file: {status}", where=model.url)
    for _, line in http.lines(f"{model.url}/api/create", {"model": model.name, "files": {path.name: digest}}, _TIMEOUT):
        if "error" in line:
            raise UnavailableError(f"can't create {model.name}: {line['error']}", where=model.url)
