"""What is wrong with a cluster.yaml, line by line, as somebody writes it; and where its models would be. Pure.

By the code that `cluster-ai validate` runs; which alone sees the files that a configuration names, for they are on a
controller.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_ai.errors import ClusterAIError, ErrorGroup
from cluster_ai.placement.check import check_draft
from cluster_ai.placement.place import Assignment

_NAME = "cluster.yaml"


@dataclass(frozen=True, slots=True)
class Problem:
    line: int  # from 1
    what: str
    remedy: str
    details: tuple[str, ...] = ()  # such as what is free on each worker


@dataclass(frozen=True, slots=True)
class Checked:
    """problems: by line. Without any: where models would be, and those whose file nobody here knows."""

    problems: tuple[Problem, ...] = ()
    placement: tuple[Assignment, ...] = ()
    unknown: tuple[str, ...] = ()


def check(text: str, needs: Mapping[str, int]) -> Checked:
    """needs: model -> bytes that a replica takes, of those that the cluster has now."""
    try:
        draft = check_draft(text, Path(_NAME), needs)
    except ClusterAIError as error:
        errors = error.errors if isinstance(error, ErrorGroup) else (error,)
        return Checked(problems=tuple(sorted(map(_problem, errors), key=lambda it: it.line)))
    return Checked(placement=draft.placement.assignments, unknown=draft.unknown)


def difference(before: str, after: str, names: tuple[str, str] = ("applied", "yours")) -> str:
    """As a unified diff, which calls the two by these names; empty where they are the same."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="", n=2)
    return "\n".join(lines)


def _problem(error: ClusterAIError) -> Problem:
    line = error.where.removeprefix(f"{_NAME}:").partition(":")[0]
    what, *details = (text.strip() for text in error.what.splitlines())
    return Problem(int(line) if line.isdigit() else 1, what, error.remedy, tuple(details))
