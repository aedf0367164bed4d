"""Which workers may run a task. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cluster_ai.engine.client import canonical
from cluster_ai.settings import TaskWorker
from cluster_ai.tasks.model import Spec


def limited(worker: TaskWorker, has: Mapping[str, float]) -> TaskWorker:
    """The worker as it says itself that it is: of what cluster.yaml gives it, what its host lets it have."""
    cpu, memory, gpu = has.get("CPU", worker.cpu), has.get("MEMORY", worker.memory), has.get("GPU", worker.gpu)
    return replace(
        worker, cpu=min(worker.cpu, int(cpu)), memory=min(worker.memory, int(memory)), gpu=min(worker.gpu, int(gpu))
    )


def able(spec: Spec, workers: Iterable[TaskWorker]) -> tuple[str, ...]:
    """Names of those that have what it needs, whether they are up or not."""
    return tuple(w.name for w in workers if not lacks(spec, w))


def lacks(spec: Spec, worker: TaskWorker) -> str:
    """What the worker lacks; empty when it can run the task."""
    for name, needed, has in (
        ("cpu", spec.cpu, worker.cpu),
        ("memory", spec.memory, worker.memory),
        ("gpu", spec.gpu, worker.gpu),
    ):
        if needed > has:
            return f"{name} {has} of {needed}"
    if spec.kind == "data_processing" and not worker.data:
        return "a data folder (tasks.data in cluster.yaml)"
    if spec.kind == "ai_inference":
        model = canonical(str(spec.payload["model"]))
        if model not in {canonical(name) for name in worker.models}:
            return f"model {model}"
    return ""


def nowhere(spec: Spec, workers: Sequence[TaskWorker]) -> str:
    """Why no worker can ever run it; empty when one can."""
    if able(spec, workers):
        return ""
    if not workers:
        return "the cluster has no workers"
    return "no worker can run it: " + "; ".join(f"{w.name} lacks {lacks(spec, w)}" for w in workers)


def resources(spec: Spec) -> dict[str, float]:
    """What it takes of a Dask worker's: an inference waits for the engine, in one of its slots."""
    taken: dict[str, float] = {"ENGINE": 1} if spec.kind == "ai_inference" else {"CPU": spec.cpu}
    if spec.gpu:
        taken["GPU"] = spec.gpu
    if spec.memory:
        taken["MEMORY"] = spec.memory
    return taken


def whole(worker: TaskWorker, has: Mapping[str, float]) -> dict[str, float]:
    """Dask's resources of the worker, with those of processes that come only when they are needed. has: now."""
    some = {"CPU": worker.cpu * worker.processes, "MEMORY": worker.memory * worker.processes}
    return {**has, **{name: max(amount, has.get(name, 0)) for name, amount in some.items()}}


def part(taken: Mapping[str, float], has: Mapping[str, float]) -> float:
    """How much of what there is this is: of the resource of which it is the largest part."""
    return max((amount / has[name] for name, amount in taken.items() if has.get(name)), default=0.0)
