from __future__ import annotations

import subprocess

from benchmarks.faults import HALF_SPEED, SCENARIOS, first_line, where


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({it.name for it in SCENARIOS}) == len(SCENARIOS)


def test_what_runs_now_is_told_by_hosts() -> None:
    before = {"h1": "a", "h2": "b", "h3": "c"}
    assert where(before, before) == "all on the old release"
    assert where(before, {"h1": "a", "h2": "x", "h3": "y"}) == "new release on h2, h3"


def test_the_first_error_is_what_is_told_of_a_command() -> None:
    assert first_line("Note\nh3: not all units start\nh2: put back\n") == "h3: not all units start"
    assert first_line("") == ""


def test_what_holds_an_engine_back_is_a_script_that_a_shell_takes() -> None:
    subprocess.run(["sh", "-n"], input=HALF_SPEED, text=True, check=True)
