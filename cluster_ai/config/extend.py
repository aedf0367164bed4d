"""Workers put into cluster.yaml at the end of their list: as lines between the file's own, which stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster_ai.config.document import read
from cluster_ai.config.model import Resources, Worker
from cluster_ai.errors import ConfigError


def with_workers(text: str, path: Path, workers: Sequence[Worker]) -> str:
    """The text with more workers. Raises ConfigError where the list is written so that lines can't be put after it."""
    lines = text.splitlines(keepends=True)
    items = _workers(text)
    if items is None:
        raise ConfigError(
            "cluster.workers is not a list with an item a line, so none can be added to it",
            where=str(path),
            remedy="write its items below each other, each beginning with `-`",
        )
    last = items.value[-1]
    dash = lines[last.start_mark.line][: last.start_mark.column].rindex("-")
    end = _end(last)
    if not lines[end].endswith("\n"):
        lines[end] += "\n"
    added = [line for worker in workers for line in _lines(worker, " " * dash)]
    new = "".join([*lines[: end + 1], *added, *lines[end + 1 :]])
    expected = copy.deepcopy(read(text, path).data)
    expected["cluster"]["workers"] += [_data(worker) for worker in workers]
    if read(new, path).data != expected:
        raise AssertionError("the lines that were added mean something else where they stand")
    return new


def _workers(text: str) -> yaml.SequenceNode | None:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in ("cluster", "workers"):
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    found = node if isinstance(node, yaml.SequenceNode) else None
    return found if found is not None and not found.flow_style and found.value else None


def _end(node: yaml.Node) -> int:
    """The last line that something of the node stands on: comments after it are not of it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    mark = node.end_mark
    return mark.line - 1 if mark.column == 0 and mark.line > node.start_mark.line else mark.line


def _data(worker: Worker) -> dict[str, Any]:
    host = {} if worker.host == worker.name else {"host": worker.host}
    return {"name": worker.name, **host, "resources": _resources(worker.resources)}


def _resources(resources: Resources) -> dict[str, Any]:
    found: dict[str, Any] = {"cpu": resources.cpu, "memory": _size(resources.memory)}
    if resources.gpu:
        found["gpu"] = resources.gpu
        if resources.gpu_memory:
            found["gpu_memory"] = _size(resources.gpu_memory)
    return found


def _lines(worker: Worker, indent: str) -> list[str]:
    data = _data(worker)
    resources = ", ".join(f"{k}: {v}" if isinstance(v, int) else f"{k}: '{v}'" for k, v in data["resources"].items())
    lines = [f"{indent}- name: '{worker.name}'\n"]
    if "host" in data:
        lines.append(f"{indent}  host: '{worker.host}'\n")
    return [*lines, f"{indent}  resources: {{{resources}}}\n"]


def _size(size: int) -> str:
    """As people write it, in steps of 100 MB; less than that exactly."""
    return f"{size // 10**8 / 10:g}GB" if size >= 10**8 and size % 10**8 == 0 else f"{size}B"
