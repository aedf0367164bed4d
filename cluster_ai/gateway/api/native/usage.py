"""What users have used: one's own, or for an administrator everyone's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.gateway.admission.account import Line, Used
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, refusals

_DAYS = 30
By = Literal["day", "user", "model"]


def _iso(value: object) -> object:
    """Of a date's other ways of writing, such as seconds since 1970, none."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("must be like 2026-11-24")
    return value


Day = Annotated[date, BeforeValidator(_iso)]
EXAMPLE: JsonDict = {
    "day": "2026-11-24",
    "user": "anna",
    "model": "smollm2:latest",
    "requests": 12,
    "prompt_tokens": 3120,
    "completion_tokens": 2044,
    "seconds": 41.2,
}


class Sum(BaseModel):
    """tokens: as the engines counted them. An answer that its client didn't await has none."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float = Field(description="In which the requests held a slot of a model.")


class UsageLine(Sum):
    """day, user and model are null where `by` leaves them out."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    day: str | None
    user: str | None
    model: str | None


class UsageReply(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "first": "2026-10-25",
                    "last": "2026-11-24",
                    "lines": [EXAMPLE],
                    "total": {"requests": 12, "prompt_tokens": 3120, "completion_tokens": 2044, "seconds": 41.2},
                }
            ]
        }
    )

    first: str = Field(description="The first day, of UTC.")
    last: str
    lines: list[UsageLine]
    total: Sum


def grouped(lines: Iterable[Line], by: Collection[By]) -> list[UsageLine]:
    sums: dict[tuple[str | None, str | None, str | None], Used] = {}
    for line in lines:
        key = (
            line.day if "day" in by else None,
            line.user if "user" in by else None,
            line.model if "model" in by else None,
        )
        sums.setdefault(key, Used()).add(line.used)
    order = sorted(sums, key=lambda key: tuple(part or "" for part in key))
    return [UsageLine(day=k[0], user=k[1], model=k[2], **_sum(sums[k]).model_dump()) for k in order]


def _sum(used: Used) -> Sum:
    return Sum(
        requests=used.requests,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.tokens,
        seconds=round(used.seconds, 3),
    )


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/usage", tags=["usage"])

    @router.get(
        "",
        summary="Requests, tokens and seconds by day, user and model",
        operation_id="getUsage",
        responses=refusals(503),
    )
    async def usage(
        asking: Asking,
        first: Annotated[Day | None, Query(description="The first day; 30 days ago.")] = None,
        last: Annotated[Day | None, Query(description="The last day; today.")] = None,
        user: Annotated[
            str | None, Query(max_length=100, description="Only theirs. Others' only an operator may see.")
        ] = None,
        by: Annotated[list[By], Query(description="What to keep apart.")] = ["day", "user", "model"],  # noqa: B006
    ) -> UsageReply:
        end = last or datetime.now(UTC).date()
        begin = first or max(end, date(1, 2, 1)) - timedelta(days=_DAYS)
        whose = user
        if not asking.may("oversee", "usage"):
            if user not in (None, asking.name):
                asking.must_be_able("oversee", "usage")
            whose = asking.name
        lines = await parts.books.account.read(begin, end, whose)
        total = Used()
        for line in lines:
            total.add(line.used)
        return UsageReply(first=begin.isoformat(), last=end.isoformat(), lines=grouped(lines, by), total=_sum(total))

    return router
