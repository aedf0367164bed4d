"""What is read of a stream, and what is counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition as openmetrics

from cluster_ai.gateway.metering import HitRate, Meter, Tail, Usage, usage_of

LAST = (
    b'{"model":"m","response":"","done":true,"context":[1,2],"total_duration":2000000000,"load_duration":500000000,'
    b'"prompt_eval_count":10,"prompt_eval_duration":1,"eval_count":30,"eval_duration":1000000000}\n'
)


@given(lines=st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), min_size=1), data=st.data())
def test_the_tail_is_the_last_line_however_the_stream_was_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n"]))
    tail, rest = Tail(), stream
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        tail.feed(rest[:cut])
        rest = rest[cut:]
    ended = stream.endswith(b"\n")
    expected = stream[:-1].rpartition(b"\n")[2] + b"\n" if ended else stream.rpartition(b"\n")[2]
    assert tail.line == expected
    assert tail.at_line_end() is (ended or not stream)


def test_a_line_that_never_ends_is_not_kept_whole() -> None:
    tail = Tail()
    for _ in range(100):
        tail.feed(b"x" * 10_000)
    assert len(tail.line) < 100_000


def test_ollamas_last_line_tells_tokens_and_times() -> None:
    usage = usage_of(LAST)
    assert usage == Usage(10, 30, 1.5, 0.5, 1.0)
    assert usage.tokens_per_second == 30


def test_openais_whole_answer_tells_tokens() -> None:
    line = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'
    assert usage_of(line) == Usage(7, 3, None, None, None)


@pytest.mark.parametrize(
    "line", [b"", b"data: [DONE]\n\n", b'{"error":"x"}', b'{"response":"a","done":false}', b"\xff"]
)
def test_a_line_without_numbers_tells_nothing(line: bytes) -> None:
    assert usage_of(line) is None


@given(text=st.text())
def test_an_answers_text_is_not_mistaken_for_numbers(text: str) -> None:
    said = json.dumps({"response": text + '"eval_count":99', "done": False}, ensure_ascii=False).encode()
    assert usage_of(said) is None


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_quick_load_is_a_hit_and_a_slow_one_is_timed() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.usage("m", "w", Usage(1, 5, 1.0, 0.05, 0.5))
    assert _value(registry, "model_load_time_seconds_count", model="m") is None
    meter.usage("m", "w", Usage(1, 5, 1.0, 3.0, 0.5))
    assert _value(registry, "model_load_time_seconds_sum", model="m") == 3.0
    assert _value(registry, "model_tokens_generated_total", model="m", worker="w") == 10
    assert _value(registry, "model_inference_time_seconds_count", model="m") == 2
    assert meter.hits["m"].share == 0.5


def test_the_hit_rate_forgets_what_is_long_ago() -> None:
    rate = HitRate()
    for hit in [False] * 300 + [True] * 256:
        rate.add(hit)
    assert rate.share == 1


def test_failed_tasks_are_tasks_too() -> None:
    meter = Meter(CollectorRegistry())
    meter.task(0.1, failed=False)
    meter.task(0.1, failed=True)
    assert (meter.tasks.total, meter.tasks.failed) == (2, 1)


def test_a_worker_that_was_not_asked_yet_shows_zero_so_that_its_first_fault_is_an_increase() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.expect("w", ["m"])
    assert _value(registry, "worker_requests_total", worker="w", outcome="error") == 0
    assert _value(registry, "worker_response_time_seconds_count", worker="w") == 0
    assert _value(registry, "worker_timed_tokens_total", worker="w", model="m") == 0
    meter.faulted("w")
    meter.served("w", 2.0, 0.5)
    meter.served("w", 1.0, None)
    assert _value(registry, "worker_requests_total", worker="w", outcome="error") == 1
    assert _value(registry, "worker_requests_total", worker="w", outcome="ok") == 2
    assert _value(registry, "worker_response_time_seconds_sum", worker="w") == 3
    assert _value(registry, "worker_time_to_first_token_seconds_count", worker="w") == 1


def test_a_speed_is_of_those_tokens_alone_whose_time_the_engine_told() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.usage("m", "w", Usage(1, 50, 1.0, 0.05, 0.5))
    meter.usage("m", "w", Usage(1, 70, None, None, None))
    meter.usage("m", "w", Usage(1, 3, 1.0, 0.05, 0.5))  # too short to tell a speed
    assert _value(registry, "worker_timed_tokens_total", model="m", worker="w") == 50
    assert _value(registry, "worker_eval_seconds_total", model="m", worker="w") == 0.5


def test_the_time_between_tokens_is_the_engines_or_where_it_tells_none_the_streams() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.usage("m", "w", Usage(1, 50, 1.0, 0.05, 0.5), 3.0)
    meter.usage("m", "w", Usage(1, 11, None, None, None), 1.0)
    meter.usage("m", "w", Usage(1, 1, None, None, None), 1.0)  # nothing is between one
    meter.usage("m", "w", Usage(1, 50, None, None, None))  # it came at once
    assert _value(registry, "gateway_inter_token_seconds_count", model="m", worker="w") == 2
    assert _value(registry, "gateway_inter_token_seconds_sum", model="m", worker="w") == pytest.approx(0.11)


def test_slow_figures_lead_to_their_requests() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.first_token("m", "w", 0.001, {"request_id": "quick"})
    meter.first_token("m", "w", 3.0, {"request_id": "slow"})
    meter.task(30.0, failed=False, exemplar={"request_id": "whole"})
    text = openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    assert '# {request_id="slow"} 3.0' in text
    assert '# {request_id="whole"} 30.0' in text
    assert "quick" not in text


def test_a_failover_counts_for_the_worker_that_failed() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry)
    meter.failover("w", "m", "stream")
    assert _value(registry, "gateway_failovers_total", moment="stream") == 1
    assert _value(registry, "gateway_failovers_total", moment="start") == 0
    assert _value(registry, "worker_failovers_total", worker="w", model="m") == 1
