from __future__ import annotations

from typing import Any

import pytest

from cluster_ai.host import gate, models, units
from cluster_ai.host.units import UnitState
from cluster_ai.settings import PlacedModel

MODEL = PlacedModel("SmolLM2:135m", "cpu", "b" * 64, {"num_ctx": 2048})


def test_a_model_for_the_processor_is_kept_off_cards_unless_its_options_say_otherwise() -> None:
    assert models.wanted(MODEL)["options"] == {"num_ctx": 2048, "num_gpu": 0}
    assert models.wanted(PlacedModel("m", "cpu", None, {"num_gpu": 3}))["options"] == {"num_gpu": 3}
    assert models.wanted(PlacedModel("m", "gpu", None, {}))["options"] == {}


@pytest.mark.parametrize(
    ("made", "present", "right"),
    [
        ({"SmolLM2:135m": {"wanted": models.wanted(MODEL), "digest": "d"}}, {"smollm2:135m": "d"}, True),
        ({"SmolLM2:135m": {"wanted": models.wanted(MODEL), "digest": "d"}}, {"smollm2:135m": "e"}, False),
        ({"SmolLM2:135m": {"wanted": {"blob": None, "options": {}}, "digest": "d"}}, {"smollm2:135m": "d"}, False),
        ({"SmolLM2:135m": {"wanted": models.wanted(MODEL), "digest": "d"}}, {}, False),
        ({}, {"smollm2:135m": "d"}, False),
    ],
)
def test_a_model_is_right_when_made_here_as_wanted_and_unchanged_since(
    made: dict[str, Any], present: dict[str, str], right: bool
) -> None:
    assert models.is_right(MODEL, made, present) is right


@pytest.mark.parametrize(
    ("where", "share", "failures"),
    [("cpu", 0, 0), ("cpu", 10, 1), ("gpu", 100, 0), ("gpu", 60, 1), ("gpu", 0, 1)],
)
def test_a_model_must_be_on_the_processor_it_was_placed_for(where: Any, share: int, failures: int) -> None:
    model = PlacedModel("m", where, None, {})
    assert len(gate.processor(model, [{"name": "m:latest", "size": 100, "size_vram": share}])) == failures


def test_unit_states_are_read_in_the_order_that_was_asked() -> None:
    said = "Id=a.service\nActiveState=active\nSubState=running\nNRestarts=2\n\n"
    said += "Id=b.socket\nActiveState=failed\nSubState=x\n"
    assert units.parse(["a.service", "b.socket"], said) == {
        "a.service": UnitState("active", "running", 2),
        "b.socket": UnitState("failed", "x", 0),
    }


def test_a_service_that_is_not_there_fails_in_one_line() -> None:
    (line,) = gate.http_health("Prometheus", "http://127.0.0.1:9/-/ready")
    assert line.startswith("Prometheus: expected HTTP 200 of http://127.0.0.1:9/-/ready, found: ")
