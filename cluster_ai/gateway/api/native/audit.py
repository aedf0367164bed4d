"""The audit log, for administrators: lines as they stand in it, so that whoever reads them can check them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from cluster_ai.audit.chain import Verdict
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.parts import PREFIX, Asking, Parts, refusals

_LINE = '{"seq":1,"at":"2026-11-24T09:30:00.000Z","who":"anna","what":"workers.steer","on":"gpu-worker-01",...}'
EXAMPLE: JsonDict = {"lines": [_LINE], "head": 1, "hash": "0" * 64, "first": 1, "good": True, "problem": ""}


class AuditReply(BaseModel):
    """good: whether the whole log is as it was written; problem says what isn't."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    lines: list[str] = Field(description="Each a JSON object, with the hash of the line before.")
    head: int = Field(description="The number of the last good line.")
    hash: str = Field(description="Its hash: kept elsewhere, it proves later that nothing was changed.")
    first: int | None = Field(description="The number of the oldest line that is kept.")
    good: bool
    problem: str


def routes(parts: Parts) -> APIRouter:
    router = APIRouter(prefix=f"{PREFIX}/audit", tags=["audit"])

    @router.get(
        "",
        summary="Who did what: the audit log, and whether it is whole",
        operation_id="getAudit",
        responses=refusals(503),
    )
    async def audit(
        asking: Asking,
        after: Annotated[int, Query(ge=0, le=1 << 50, description="Only lines with a higher number.")] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        last: Annotated[bool, Query(description="The last lines, not the first.")] = False,
    ) -> AuditReply:
        file = parts.audit.file
        if file is None:
            raise Refusal(503, "no_state", "this gateway was given no folder to keep things in: its journal has all")

        def read() -> tuple[Verdict, list[bytes]]:
            found = file.verify()
            begin = max(after, found.head.seq - limit) if last else after
            return found, file.after(begin, limit)

        try:
            found, lines = await asyncio.to_thread(read)
        except OSError as e:
            raise Refusal(503, "storage_failed", f"the audit log can't be read: {e}") from e
        return AuditReply(
            lines=[line.decode(errors="replace") for line in lines],
            head=found.head.seq,
            hash=found.head.hash,
            first=found.first,
            good=found.good,
            problem=found.problem,
        )

    return router
