from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cluster_ai.config import load_text
from cluster_ai.errors import UnavailableError
from cluster_ai.metrics import names
from cluster_ai.rollout.analysis import Quotient
from cluster_ai.rollout.on_head import OnHead
from cluster_ai.rollout.prometheus import Prometheus, analyse, measured
from cluster_ai.rollout.scope import Scope
from tests.unit.config.test_load import SEED

Series = list[tuple[dict[str, str], float]]


class Server:
    """Answers by what a query asks for, as Prometheus does."""

    def __init__(self, answers: Mapping[str, Series]) -> None:
        self.answers, self.asked = answers, list[dict[str, list[str]]]()

    def __call__(self, path: str) -> tuple[int, str]:
        query = parse_qs(urlsplit(path).query)
        self.asked.append(query)
        found = next((series for metric, series in self.answers.items() if f"({metric}[" in query["query"][0]), [])
        result = [{"metric": labels, "value": [1.0, str(value)]} for labels, value in found]
        return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def test_what_a_worker_did_is_put_together_from_its_counters() -> None:
    one, idle = ({"worker": name, "model": "m"} for name in ("w1", "w2"))
    server = Server(
        {
            names.WORKER_REQUESTS.name: [
                ({"worker": "w1", "outcome": "ok"}, 20.0),
                ({"worker": "w1", "outcome": "error"}, 1.0),
                ({"worker": "w2", "outcome": "ok"}, 4.0),
            ],
            f"{names.WORKER_RESPONSE_TIME.name}_sum": [({"worker": "w1"}, 30.0)],
            f"{names.WORKER_RESPONSE_TIME.name}_count": [({"worker": "w1"}, 20.0)],
            f"{names.WORKER_FIRST_TOKEN.name}_sum": [({"worker": "w1"}, 2.0)],
            f"{names.WORKER_FIRST_TOKEN.name}_count": [({"worker": "w1"}, 10.0)],
            names.WORKER_TIMED_TOKENS.name: [(one, 800.0), (idle, 0.0)],
            names.WORKER_EVAL_SECONDS.name: [(one, 10.0), (idle, 0.0)],
        }
    )
    found = measured(Prometheus(server), (1000.0, 1060.4))
    assert list(found) == ["w1", "w2"]
    assert (found["w1"].ok, found["w1"].failed, found["w2"].failed) == (20.0, 1.0, 0.0)
    assert found["w1"].response == Quotient(30.0, 20.0)
    assert found["w1"].first_token == Quotient(2.0, 10.0)
    assert found["w1"].speed == {"m": Quotient(800.0, 10.0)}
    assert found["w2"].speed == {}
    assert all(query["time"] == ["1060.400"] and "[60400ms]" in query["query"][0] for query in server.asked)


def test_the_servers_own_clock_is_a_scalar() -> None:
    answer = {"status": "success", "data": {"resultType": "scalar", "result": [12.5, "12.5"]}}
    (now,) = Prometheus(lambda path: (200, json.dumps(answer))).query("time()")
    assert now.value == 12.5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, '{"status": "error", "error": "bad query"}'), "bad query"),
        ((503, "Service Unavailable"), "it answers 503: Service Unavailable"),
        ((200, "[]"), "it answers 200"),
    ],
)
def test_a_refused_query_is_an_error_with_a_remedy(answer: Any, said: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        Prometheus(lambda path: answer, where="h1").query("x")
    assert said in caught.value.what
    assert (caught.value.where, "journalctl" in caught.value.remedy) == ("h1", True)


def test_a_prometheus_that_can_not_be_asked_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: OnHead, *args: Any, **kwargs: Any) -> tuple[int, str]:
        raise UnavailableError("Prometheus doesn't answer: refused", where=self.head)

    monkeypatch.setattr(OnHead, "ask", ask)
    scope = Scope(load_text(SEED, "cluster.yaml"))
    limits = scope.config.rollout.policy.canary
    verdict = analyse(scope, ["gpu-worker-01"], [], before=(0.0, 1.0), after=(1.0, 2.0), limits=limits)
    assert verdict.result == "inconclusive"
    assert verdict.summary == "scheduler.cluster.ai: Prometheus doesn't answer: refused: inconclusive"
