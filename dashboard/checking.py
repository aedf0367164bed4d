"""Whether a cluster.yaml is of the right form, line by line, as somebody writes it. Pure.

By the schema that docs/ has for editors. What needs the whole to be known (placement, names that must agree, secrets)
is checked where the configuration is applied, by `cluster-ai validate`.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml

SCHEMA = Path(__file__).with_name("cluster.schema.json")


@dataclass(frozen=True, slots=True)
class Problem:
    line: int  # from 1
    where: str  # such as cluster.workers[0].resources.cpu
    what: str


def problems(text: str) -> list[Problem]:
    """By line; none where the form is right."""
    try:
        return _problems(text)
    except RecursionError:
        return [Problem(1, "", "this is nested too deeply, or contains itself")]


def _problems(text: str) -> list[Problem]:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as a date that no calendar has
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or error)
        return [Problem(mark.line + 1 if mark else 1, "", f"this is no YAML: {what}")]
    found = (
        Problem(_line(root, error.absolute_path), _where(error.absolute_path), _worded(error))
        for error in _validator().iter_errors(value)
    )
    return sorted(found, key=lambda it: (it.line, it.where))


def difference(before: str, after: str, names: tuple[str, str] = ("applied", "yours")) -> str:
    """As a unified diff, which calls the two by these names; empty where they are the same."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="", n=2)
    return "\n".join(lines)


@functools.cache
def _validator() -> Any:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.validators.validator_for(schema)(schema)


def _where(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _line(node: yaml.Node | None, path: Sequence[str | int]) -> int:
    """Of the key that leads to the value, or as near to it as there is."""
    line = node.start_mark.line if node else 0
    for step in path:
        for key, child in _children(node):
            if key == step:
                node, line = child, child.start_mark.line
                break
        else:
            break
    return line + 1


def _children(node: yaml.Node | None) -> Iterator[tuple[str | int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((key.value, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from enumerate(node.value)


def _worded(error: Any) -> str:
    kind = error.validator
    if kind in ("anyOf", "oneOf") and error.context:
        return " or ".join(dict.fromkeys(_worded(it) for it in error.context))
    if kind == "enum":
        return f"allowed: {', '.join(str(value) for value in error.validator_value)}"
    if kind == "additionalProperties":
        extra = sorted(map(str, error.instance.keys() - error.schema.get("properties", {}).keys()))
        return f"there is no key {', '.join(extra)} here"
    if kind == "pattern":
        return f"{error.instance!r} is not written as it must be: {error.schema.get('description', error.message)}"
    return str(error.message)
