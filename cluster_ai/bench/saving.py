"""What was measured, put into cluster.yaml as the workers' speeds: so placement is the same wherever the file is read.

What is hardly another speed than the one that stands there isn't written, so that measuring again moves no model. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from cluster_ai.bench.results import Result
from cluster_ai.config.model import Config
from cluster_ai.config.save import changed
from cluster_ai.engine.client import canonical

SAME = 0.2  # of the speed that stands there: a difference that isn't one


def speeds(config: Config, results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Worker -> what is to be written there, for those of cluster.yaml of which something else was measured."""
    names = {canonical(model.name): model.name for model in config.models}
    there = {worker.name: worker.speeds for worker in config.workers}
    found: dict[str, dict[str, float]] = {}
    for it in results:
        model, known = names.get(canonical(it.model), it.model), there.get(it.worker)
        if known is None or it.tokens_per_second <= 0:
            continue
        if model not in known or abs(it.tokens_per_second / known[model] - 1) > SAME:
            found.setdefault(it.worker, dict(known))[model] = float(f"{it.tokens_per_second:.3g}")
    return found


def written(text: str, config: Config, found: Mapping[str, Mapping[str, float]]) -> str:
    """The text of cluster.yaml with them."""
    for worker, measured in found.items():
        text = changed(text, config.path, f"cluster.workers[{worker}].speeds", json.dumps(measured))
    return text


def comparable(config: Config, found: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether two workers were measured with the same model, without which placement can't compare any."""
    all_ = [name for it in config.workers for name in found.get(it.name, it.speeds)]
    return len(all_) > len(set(all_))
