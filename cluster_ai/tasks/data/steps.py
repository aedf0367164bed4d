"""What a data_processing task is asked for: which files, which steps, which form of the result. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

FORMS = (".csv", ".parquet")
OUTPUTS = ("csv", "jsonl", "parquet")
TYPES = ("integer", "number", "text", "boolean", "date")
FUNCTIONS = ("sum", "mean", "min", "max", "count", "std")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in", "contains", "missing", "present")
MOST_STEPS, MOST_NAMES = 50, 1000


@dataclass(frozen=True, slots=True)
class Select:
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Keeps rows. value: None for missing and present, several for in."""

    column: str
    comparison: str
    value: Any


@dataclass(frozen=True, slots=True)
class Convert:
    column: str
    to: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """of: column and function; its result is named column_function. Without `by`, over all rows."""

    by: tuple[str, ...]
    of: tuple[tuple[str, str], ...]


Step = Select | Filter | Convert | Aggregate


@dataclass(frozen=True, slots=True)
class Plan:
    """input: patterns, relative to the data folder, of files of one form."""

    input: tuple[str, ...]
    form: str
    steps: tuple[Step, ...]
    output: str


class StepsError(ValueError):
    """Tells all that is wrong, each as `payload.field: what`."""


def plan_of(payload: Mapping[str, Any]) -> Plan:
    """Raises StepsError."""
    wrong = [
        f"payload.{name}: there is no such field; fields: input, steps, output"
        for name in sorted(map(str, payload.keys() - {"input", "steps", "output"}))
    ]
    said = payload.get("input")
    patterns: Any = [said] if isinstance(said, str) else said
    if not _names(patterns):
        wrong.append("payload.input: a path, or a list of them, is needed, such as 'sales/*.csv'")
        patterns = []
    wrong += [f"payload.input: {it!r} {why}" for it in patterns if (why := _outside(it))]
    forms = {PurePosixPath(it).suffix for it in patterns}
    if patterns and (len(forms) != 1 or not forms <= set(FORMS)):
        wrong.append(
            f"payload.input: all paths must end in .csv, or all in .parquet; found {', '.join(patterns)[:200]}"
        )
    output = payload.get("output", "csv")
    if output not in OUTPUTS:
        wrong.append(f"payload.output: {output!r} is none of {', '.join(OUTPUTS)}")
    steps: list[Step] = []
    asked = payload.get("steps", [])
    if not isinstance(asked, list) or len(asked) > MOST_STEPS:
        wrong.append(f"payload.steps: must be a list of at most {MOST_STEPS}")
        asked = []
    for number, it in enumerate(asked):
        try:
            steps.append(_step(it))
        except StepsError as e:
            wrong.append(f"payload.steps[{number}]{e}")
    if wrong:
        raise StepsError("; ".join(wrong))
    return Plan(tuple(patterns), forms.pop(), tuple(steps), output)


def _step(said: Any) -> Step:
    kinds = {"select": ("columns",), "filter": ("column", "is", "value"), "convert": ("column", "to")}
    kinds["aggregate"] = ("by", "of")
    if not isinstance(said, Mapping) or said.get("do") not in tuple(kinds):
        raise StepsError(f".do: must be one of {', '.join(kinds)}")
    if more := sorted(map(str, said.keys() - {"do", *kinds[said["do"]]})):
        raise StepsError(f".{more[0]}: there is no such field; fields of {said['do']}: {', '.join(kinds[said['do']])}")
    if said["do"] == "select":
        if not _names(said.get("columns")):
            raise StepsError(".columns: names of columns are needed")
        return Select(tuple(said["columns"]))
    if said["do"] == "aggregate":
        return _aggregate(said)
    column = said.get("column")
    if not isinstance(column, str) or not column:
        raise StepsError(".column: the name of a column is needed")
    if said["do"] == "convert":
        if said.get("to") not in TYPES:
            raise StepsError(f".to: {said.get('to')!r} is none of {', '.join(TYPES)}")
        return Convert(column, said["to"])
    return _filter(column, said)


def _filter(column: str, said: Mapping[str, Any]) -> Filter:
    comparison, value = said.get("is"), said.get("value")
    if comparison not in COMPARISONS:
        raise StepsError(f".is: {comparison!r} is none of {', '.join(COMPARISONS)}")
    if comparison in ("missing", "present"):
        if value is not None:
            raise StepsError(f".value: {comparison} takes none")
    elif comparison == "in":
        if not isinstance(value, list) or not 0 < len(value) <= MOST_NAMES or not all(map(_plain, value)):
            raise StepsError(f".value: in takes a list of 1 to {MOST_NAMES} texts and numbers")
    elif comparison == "contains":
        if not isinstance(value, str) or not value:
            raise StepsError(".value: contains takes a text")
    elif not _plain(value):
        raise StepsError(f".value: {comparison} takes a text, a number, true or false")
    return Filter(column, str(comparison), value)


def _aggregate(said: Mapping[str, Any]) -> Aggregate:
    by, of = said.get("by", []), said.get("of")
    if by != [] and not _names(by):
        raise StepsError(".by: must be a list of names of columns")
    if not isinstance(of, Mapping) or not _names(list(of)):
        raise StepsError('.of: what to compute of which column is needed, such as {"amount": ["sum", "mean"]}')
    pairs: list[tuple[str, str]] = []
    for column, functions in of.items():
        for function in functions if isinstance(functions, list) and functions else [functions]:
            if function not in FUNCTIONS:
                raise StepsError(f".of.{column}: {function!r} is none of {', '.join(FUNCTIONS)}")
            pairs.append((column, function))
    return Aggregate(tuple(by), tuple(dict.fromkeys(pairs)))


def _outside(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    if pattern.startswith("/") or ".." in parts or "\0" in pattern or not parts:
        return "must be relative to the data folder, and stay in it"
    return ""


def _names(said: Any) -> bool:
    return isinstance(said, list) and 0 < len(said) <= MOST_NAMES and all(isinstance(it, str) and it for it in said)


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float)
