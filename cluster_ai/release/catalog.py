"""What host and gateway are told of each model: context and options, need, source, scaling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cluster_ai import settings
from cluster_ai.config.model import Config, Engine, Model, Scale
from cluster_ai.placement.need import need


def catalog(config: Config, blobs: Mapping[str, str]) -> tuple[settings.CatalogModel, ...]:
    """blobs: model -> SHA-256 of its GGUF file."""
    return tuple(_model(config, model, blobs.get(model.name)) for model in config.models)


def context(config: Config, model: Model) -> int:
    return int(model.options.get("num_ctx", config.engine.context_length))


def options(config: Config, model: Model) -> dict[str, Any]:
    """With the context size in any case: OpenAI's and Anthropic's clients can't ask for one, so it must be the model's.

    Else a model that brings another one along would be loaded anew for each client of the other kind.
    """
    return {"num_ctx": context(config, model), **model.options}


def _model(config: Config, model: Model, blob: str | None) -> settings.CatalogModel:
    found = need(model, config.engine)
    return settings.CatalogModel(
        name=model.name,
        replicas=None if model.replicas == "all" else model.replicas,
        memory=found.memory,
        why=found.why,
        weights=found.weights,
        cache=found.cache,
        source=model.source.name if model.source else None,
        blob=blob,
        options=options(config, model),
        quantize=model.quantize,
        scale=_scale(model.scale, model.replicas, config.engine) if model.scale and model.replicas != "all" else None,
    )


def _scale(scale: Scale, replicas: int, engine: Engine) -> settings.ScaleSettings:
    return settings.ScaleSettings(
        min=replicas,
        max=scale.max,
        in_flight=scale.in_flight or engine.parallel,
        queue_time=scale.queue_time,
        cool_down=scale.cool_down,
        idle=scale.idle,
        ahead=scale.ahead,
        schedule=tuple(settings.WindowSettings(*dataclasses.astuple(window)) for window in scale.schedule),
        dry_run=scale.dry_run,
    )
