"""When lines come to be written."""

from __future__ import annotations

import asyncio
import io
import json

from cluster_ai.gateway.log import Log
from tests.rig.processes import PATIENCE


class Stream(io.StringIO):
    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def events(stream: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


async def test_gathered_lines_are_one_write_a_moment_later() -> None:
    stream = Stream()
    log = Log(stream, period=0.01)
    for _ in range(3):
        log.gather("request")
    assert not stream.writes
    async with asyncio.timeout(PATIENCE):
        while not stream.writes:  # noqa: ASYNC110 (it becomes true in a callback)
            await asyncio.sleep(0.005)
    assert (stream.writes, events(stream)) == (1, ["request"] * 3)


async def test_what_isnt_gathered_is_written_at_once_after_what_was() -> None:
    stream = Stream()
    log = Log(stream, period=60)
    log.gather("request")
    log.write("fault")
    assert (stream.writes, events(stream)) == (1, ["request", "fault"])


def test_without_a_period_nothing_waits() -> None:
    stream = Stream()
    Log(stream).gather("request")
    assert events(stream) == ["request"]
