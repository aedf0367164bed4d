"""A rollout's own prompts to workers, before a switch and after it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cluster_ai.errors import UnavailableError
from cluster_ai.rollout import asking
from cluster_ai.rollout.analysis import judge
from cluster_ai.rollout.traffic import STATUS
from tests.unit.rollout.test_analysis import LIMITS


class FakeGateway:
    """speeds: worker -> tokens per second."""

    def __init__(self, speeds: dict[str, float], broken: frozenset[str] = frozenset()) -> None:
        self.speeds, self.broken = speeds, broken
        self.asked: Counter[str] = Counter()

    def ask(
        self, method: str, path: str, body: Any = None, *, timeout: float = 0, worker: str | None = None
    ) -> tuple[int, Any]:
        if path == STATUS:
            seen = [{"name": name, "state": "active", "loaded": ["b", "a"]} for name in self.speeds]
            return 200, {"workers": [*seen, {"name": "empty", "state": "active", "loaded": []}]}
        assert worker is not None
        self.asked[worker] += 1
        if worker in self.broken:
            return 500, {"error": "no"}
        count = body["options"]["num_predict"]
        seconds = count / self.speeds[worker]
        told = {"eval_count": count, "eval_duration": seconds * 1e9, "total_duration": (seconds + 0.1) * 1e9}
        return 200, {"done": True, **told}


def test_each_worker_is_asked_as_often_for_a_model_that_it_has_in_memory() -> None:
    gateway = FakeGateway({"w1": 50.0, "w2": 100.0})
    wanted = asking.models(gateway.ask, ["w1", "w2", "empty", "unknown"])
    assert wanted == {"w1": "a", "w2": "a"}
    found = asking.asked(gateway.ask, wanted)
    assert gateway.asked == {"w1": asking.PROMPTS, "w2": asking.PROMPTS}
    assert found["w1"].ok == asking.PROMPTS
    assert found["w1"].speed["a"].value == pytest.approx(50)
    assert found["w1"].first_token.value == pytest.approx(0.1)


@pytest.mark.parametrize(("after", "result"), [(100.0, "pass"), (40.0, "fail")])
def test_a_canary_whom_nobody_asks_is_judged_by_them_alone(after: float, result: str) -> None:
    """Its machine is slower than the other's, which is nothing against it."""

    def both(canary: float) -> Any:
        gateway = FakeGateway({"slow machine": canary, "other": 300.0})
        return asking.asked(gateway.ask, asking.models(gateway.ask, ["slow machine", "other"]))

    before, then = both(100.0), both(after)
    trials = asking.trials(before, then)
    verdict = judge(canary={"slow machine": trials["slow machine"]}, baseline={"other": trials["other"]}, limits=LIMITS)
    assert verdict.result == result, verdict.summary


def test_who_answered_nothing_before_is_no_pass_by_answering_nothing_after() -> None:
    gateway = FakeGateway({"w1": 50.0}, frozenset({"w1"}))
    told = asking.asked(gateway.ask, {"w1": "embeddings"})
    assert asking.trials(told, told) == {}
    assert judge(canary=asking.trials(told, told), baseline={}, limits=LIMITS).result == "inconclusive"


def test_a_worker_that_refuses_has_failed_and_a_gateway_that_is_away_tells_nothing() -> None:
    gateway = FakeGateway({"w1": 50.0}, frozenset({"w1"}))
    assert asking.asked(gateway.ask, {"w1": "a"})["w1"].failed == asking.PROMPTS

    def away(*_: Any, **__: Any) -> tuple[int, Any]:
        raise UnavailableError("gone", where="gateway")

    assert asking.models(away, ["w1"]) == {}
    assert asking.asked(away, {"w1": "a"})["w1"].requests == 0
    assert asking.asked(away, {}) == {}


def test_an_answer_without_a_word_is_one_all_the_same() -> None:
    """Engines leave numbers out that are 0."""

    def ask(method: str, path: str, body: Any = None, *, timeout: float = 0, worker: str | None = None) -> Any:
        return 200, {"done": True, "response": "", "total_duration": 5e7}

    told = asking.asked(ask, {"w1": "mute"})["w1"]
    assert (told.ok, told.failed, told.speed) == (asking.PROMPTS, 0, {})
    assert told.response.value == pytest.approx(0.05)
