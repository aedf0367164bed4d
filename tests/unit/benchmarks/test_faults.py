from __future__ import annotations

import subprocess
from typing import Any

import pytest

from benchmarks.faults import first_line, tells, where
from benchmarks.lab_files import ROOT
from benchmarks.scenarios import BLOCKADE, HALF_SPEED, SCENARIOS, SECOND, SMALL_DISK, STARTS, UNITS


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({it.name for it in SCENARIOS}) == len(SCENARIOS)


def test_what_runs_now_is_told_by_hosts() -> None:
    before = {"h1": "a", "h2": "b", "h3": "c"}
    assert where(before, before) == "all on the old release"
    assert where(before, {"h1": "a", "h2": "x", "h3": "y"}) == "another release on h2, h3"


def test_the_first_error_is_what_is_told_of_a_command() -> None:
    assert first_line("Note\nh3: not all units start\nh2: put back\n") == "h3: not all units start"
    assert first_line("") == ""


@pytest.mark.parametrize("script", [HALF_SPEED, BLOCKADE, SMALL_DISK])
def test_what_runs_on_a_host_is_a_script_that_a_shell_takes(script: str) -> None:
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_units_are_started_where_a_fault_is_put_in() -> None:
    assert STARTS in (ROOT / UNITS).read_text()


def test_a_journal_tells_a_fault_when_it_names_the_host_or_the_analysis() -> None:
    def record(state: str, host: str, step: str, status: str, detail: str) -> dict[str, Any]:
        return {"state": state, "steps": [{"host": host, "step": step, "status": status, "detail": detail}]}

    assert tells(record("returned", SECOND, "switch", "failed", "its engine ends"), "returned")
    assert tells(record("returned", "", "analysis", "fail", "slower"), "returned")
    assert not tells(record("failed", SECOND, "switch", "failed", "its engine ends"), "returned")
    assert not tells(record("returned", "h9", "switch", "failed", "its engine ends"), "returned")
    assert not tells(record("returned", SECOND, "switch", "changed", ""), "returned")
