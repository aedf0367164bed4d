"""How the schema's keys are written down.

`form` names a way of writing a value (forms.py). `meta` has `doc`, what the key means, and where there is no default,
`absent`: what holds when the key isn't there.
"""

from __future__ import annotations

from typing import Any

Rules = dict[str, Any]


def key(doc: str, absent: str = "", **rules: Any) -> Rules:
    return {**rules, "meta": {"doc": doc, "absent": absent} if absent else {"doc": doc}}


def integer(doc: str, low: int, high: int | None = None, **rules: Any) -> Rules:
    limits: Rules = {"min": low} if high is None else {"min": low, "max": high}
    return key(doc, type="integer", **limits, **rules)


def port(doc: str, default: int) -> Rules:
    return integer(doc, 1, 65535, default=default)


def section(doc: str, schema: Rules) -> Rules:
    return key(doc, type="dict", default={}, schema=schema)
