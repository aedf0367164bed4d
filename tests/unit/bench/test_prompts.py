from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from cluster_ai.bench.prompts import OPTIONS, PREFIX, Answered, Prompt, ask, changed, saved
from dashboard import testset

SUMS = Prompt("sums", "What is 2 + 2?", None, "FOUR")


class Model:
    """Says what it is told to, in two pieces; and what it was asked."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, list[tuple[str, Mapping[str, Any], str]]()

    def __call__(self, path: str, body: Mapping[str, Any], worker: str) -> Iterator[dict[str, Any]]:
        self.asked.append((path, body, worker))
        yield {"response": self.text[:3]}
        yield {"response": self.text[3:], "done": True}


@pytest.mark.parametrize(("text", "passed"), [("It is four.", True), ("It is five.", False), ("", False)])
def test_an_answer_passes_when_it_has_what_it_must_whatever_its_case(text: str, passed: bool) -> None:
    answer = ask(Model(text), "m:latest", SUMS)
    assert (answer.text, answer.passed, answer.model, answer.prompt) == (text, passed, "m:latest", "sums")


def test_nothing_is_left_to_chance_and_a_system_prompt_goes_along() -> None:
    model = Model("x")
    ask(model, "m", replace(SUMS, system="Be brief.", expects=""))
    ((path, body, _),) = model.asked
    assert (path, body["system"], body["options"]["temperature"]) == ("/api/generate", "Be brief.", 0)
    assert "seed" in body["options"]
    ask(model, "m", SUMS)
    assert "system" not in model.asked[1][1]


def test_only_templates_of_that_name_are_test_prompts() -> None:
    kept = {"text": "What is 2 + 2?", "system": None, "description": "FOUR"}
    assert saved([{**kept, "name": "test-sums"}, {**kept, "name": "explain"}]) == [SUMS]


def test_a_changed_answer_is_seen_by_the_last_one_of_the_same_model() -> None:
    first = Answered(1.0, "m", "sums", "4", "four", True)
    assert changed(first, []) is None
    assert changed(first, [replace(first, model="other", text="x")]) is None
    assert changed(first, [replace(first, text="x"), first]) is False
    assert changed(first, [first, replace(first, text="x")]) is True


def test_the_dashboard_keeps_and_asks_the_same() -> None:
    assert (testset.PREFIX, testset.FIXED) == (PREFIX, OPTIONS)
