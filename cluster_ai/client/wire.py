"""From JSON to what types.py has, without a library: a gateway that is newer may say more, which is left out."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar, cast

from cluster_ai.client.errors import ProtocolError

T = TypeVar("T")


def reader(kind: type[T], within: str = "") -> Callable[[Any], T]:
    """Reads a `kind` from an answer, or from the field `within` of it. Raises ProtocolError."""

    def read(answer: Any) -> T:
        try:
            return cast(T, _read(kind, answer[within] if within else answer))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise ProtocolError(f"no answer of a gateway of Cluster AI: {e!r}") from e

    return read


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = _hints(cast(Hashable, kind))
        return cast(Any, kind)(**{f.name: _read(hints[f.name], value[f.name]) for f in dataclasses.fields(kind)})
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(_read(args[0], item) for item in value)
    if origin is types.UnionType:
        if value is None and type(None) in args:
            return None
        return _read(args[0], value) if len([a for a in args if a is not type(None)]) == 1 else value
    if kind is float and isinstance(value, int):
        return float(value)
    if kind in (str, int, bool, float) and not isinstance(value, kind):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value
