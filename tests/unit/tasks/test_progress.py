from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.tasks.progress import LONGEST, PIPE, Progress, listen, parse, report


def heard(write: bytes, every: float = 0.0) -> list[Progress]:
    reading, writing = os.pipe()
    os.write(writing, write)
    os.close(writing)
    found: list[Progress] = []
    listen(reading, found.append, every)
    return found


def test_what_a_task_reports_is_heard_and_the_last_is_never_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv(PIPE, str(writing))
    found: list[Progress] = []
    listening = threading.Thread(target=listen, args=(reading, found.append, 3600.0))
    listening.start()
    for number in range(1000):
        report(number / 1000, f"row {number}\n of many")
    os.close(writing)
    listening.join(60)
    assert found[-1] == Progress(0.999, "row 999 of many")
    assert len(found) <= 2


def test_outside_of_a_task_a_report_is_nothing_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PIPE, raising=False)
    report(1)
    with pytest.raises(ValueError, match=r"0 to 1 is needed, found 1\.5"):
        report(1.5)


def test_what_others_write_there_is_passed_over() -> None:
    assert heard(b'[0.5, "good"]\nnonsense\n[2, "no share"]\n[NaN, ""]\n{"a": 1}\n') == [Progress(0.5, "good")]
    assert heard(b"") == []


@given(st.binary())
def test_no_line_is_too_strange(line: bytes) -> None:
    found = parse(line)
    assert found is None or (0 <= found.share <= 1 and len(found.text) <= LONGEST)
