from __future__ import annotations

import pytest

from cluster_ai.errors import UnavailableError
from dashboard.answers import Answer, generate
from dashboard.gateway import Caller, Gateway, UnauthorizedError
from dashboard.served import served
from tests.dashboard.fake_gateway import FakeGateway
from tests.rig.processes import free_port


def test_an_answer_comes_in_pieces_then_what_was_measured() -> None:
    with FakeGateway() as fake:
        *pieces, end = generate(Gateway(fake.url), Caller(), "smollm2:135m", "why?")
    assert pieces == list(fake.pieces)
    assert end == Answer("cpu-worker-01", 0.123, 98.7, 34)
    assert fake.prompts == ["why?"]


def test_models_and_workers_are_read() -> None:
    with FakeGateway() as fake:
        found = served(Gateway(fake.url), Caller())
    assert [m.name for m in found.models] == ["llama2:13b", "smollm2:135m"]
    assert found.models[0].replicas == 2
    assert found.workers[2].state == "down"
    assert found.workers[2].reason == "connection refused"
    assert found.scheduler is None


@pytest.mark.parametrize("caller", [Caller(), Caller("wrong"), Caller(address="192.0.2.7")])
def test_without_the_right_token_nothing_is_told(caller: Caller) -> None:
    with FakeGateway(token="right") as fake, pytest.raises(UnauthorizedError):
        served(Gateway(fake.url), caller)


def test_a_viewer_elsewhere_is_not_taken_for_this_trusted_machine() -> None:
    with FakeGateway() as fake:
        assert served(Gateway(fake.url), Caller())
        with pytest.raises(UnauthorizedError):
            served(Gateway(fake.url), Caller(address="192.0.2.7"))


def test_a_stream_that_breaks_says_which_worker_was_lost() -> None:
    with FakeGateway(breaks_after=1) as fake:
        answer = generate(Gateway(fake.url), Caller(), "smollm2:135m", "why?")
        assert next(answer) == "Blue light "
        with pytest.raises(UnavailableError, match="the worker was lost") as caught:
            next(answer)
    assert caught.value.where == "cpu-worker-01"


def test_a_gateway_that_is_away_is_said_with_its_address_and_a_remedy() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError) as caught:
        served(Gateway(url), Caller())
    assert caught.value.where == url
    assert caught.value.remedy
