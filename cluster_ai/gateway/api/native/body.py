"""What every request's body has in common: exactly the fields and types that the description names, nothing guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, said: Any) -> Any:
        """JSON knows one kind of number: 3.0 is an integer there."""
        if not isinstance(said, dict):
            return said
        return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in said.items()}


def worded(errors: Iterable[Mapping[str, Any]]) -> str:
    """What pydantic found, each with its field."""
    told = []
    for error in errors:
        place = ".".join(str(part) for part in error["loc"] if part != "body")
        told.append(
            f"{place}: {error['msg']}" if place and error["type"] != "json_invalid" else f"body: {error['msg']}"
        )
    return "; ".join(told)
