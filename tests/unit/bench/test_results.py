from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster_ai.bench.history import keep, kept
from cluster_ai.bench.results import Result, reference, row, slower

FAST = Result(1.0, "m:latest", "w1", "0.17.3", 100.0, 101.0, 900.0, 0.05, 2.5, 4_000_000_000, 3_000_000_000)


def test_what_was_kept_is_read_again_also_after_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.jsonl"
    assert kept(path, Result) == []
    keep(path, [FAST])
    with path.open("a") as file:
        file.write('{"at": 3, "mod\n')
    keep(path, [replace(FAST, worker="w2")])
    assert kept(path, Result) == [FAST, replace(FAST, worker="w2")]


def test_a_model_that_became_slow_is_told_of_with_the_engine_that_came_between() -> None:
    now = replace(FAST, at=2.0, engine="0.17.4", tokens_per_second=52.0)
    text = slower(now, [replace(FAST, worker="w2"), FAST])
    assert text == (
        "m:latest on w1 is 48% slower than when it was last measured: 52.0 tokens/s, before 100.0"
        " (engine 0.17.3 then, 0.17.4 now)"
    )


@pytest.mark.parametrize("speed", [90.0, 300.0])
def test_a_little_slower_or_faster_is_not(speed: float) -> None:
    assert slower(replace(FAST, tokens_per_second=speed), [FAST]) == ""
    assert slower(replace(FAST, worker="new", tokens_per_second=1.0), [FAST]) == ""


def test_a_row_tells_the_change_the_memory_and_how_much_of_it_is_on_a_card() -> None:
    told = row(replace(FAST, tokens_per_second=110.0), [FAST])
    assert (told["before"], told["memory"], told["on card"]) == ("+10%", "4.0 GB", "75%")
    assert row(replace(FAST, memory=None, direct=None), [])["directly"] == ""


def test_known_models_are_shown_beside_what_is_expected_of_them() -> None:
    told = reference("mistral:7b")
    assert told
    assert set(told) == set(row(FAST, []))
    assert (told["model"], told["tokens/s"], told["memory"]) == ("mistral_7b", "52.1", "4.3 GB")
    assert reference("smollm2:135m") is None
