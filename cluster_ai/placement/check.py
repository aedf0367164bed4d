"""A text of cluster.yaml, checked as a whole: every key, what belongs together, and that every model fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster_ai.config.document import Document
from cluster_ai.config.load import parse
from cluster_ai.config.model import Config, Model
from cluster_ai.errors import ClusterAIError, ErrorGroup, PlacementError
from cluster_ai.placement.place import Placement, place


@dataclass(frozen=True, slots=True)
class Draft:
    """unknown: models of which nobody here knows what they need; the others are placed without them."""

    config: Config
    placement: Placement
    unknown: tuple[str, ...]


def check(text: str, path: Path) -> tuple[Config, Placement]:
    """Everything that can be said of a text without asking a host.

    Raises ConfigError, or ErrorGroup with every error in it; errors of placement have the model's line.
    """
    config, _, document = parse(text, path)
    return config, _placed(config, document)


def check_draft(text: str, path: Path, needs: Mapping[str, int]) -> Draft:
    """The same where the files are not that it names: none of them is looked at.

    needs: full name of a model -> bytes that a replica of it takes, for models that are such a file. Raises what
    `check` raises.
    """
    config, _, document = parse(text, path, files=False)
    models = {model.name: _without_file(model, needs) for model in config.models}
    known = tuple(model for model in models.values() if model is not None)
    unknown = tuple(name for name, model in models.items() if model is None)
    return Draft(config, _placed(replace(config, models=known), document), unknown)


def _without_file(model: Model, needs: Mapping[str, int]) -> Model | None:
    if model.source is None or model.memory is not None:
        return replace(model, source=None, quantize=None)
    name = model.name.lower()
    memory = needs.get(name) or needs.get(f"{name}:latest")
    return replace(model, source=None, quantize=None, memory=memory) if memory else None


def _placed(config: Config, document: Document) -> Placement:
    try:
        return place(config)
    except PlacementError as error:
        raise _located(error, document) from None
    except ErrorGroup as group:
        raise ErrorGroup(_located(error, document) for error in group.errors) from None


def _located(error: ClusterAIError, document: Document) -> ClusterAIError:
    if not isinstance(error, PlacementError):
        return error
    models = document.data["cluster"]["models"]
    index = next(index for index, model in enumerate(models) if model["name"] == error.model)
    where = document.where(("cluster", "models", index, "name"))
    return PlacementError(error.what, model=error.model, where=where, remedy=error.remedy)
