from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.config.model import Canary
from cluster_ai.rollout.analysis import Check, Measured, Quotient, Trial, Verdict, judge

LIMITS = Canary(1, 60.0, max_error_rate=0.01, max_latency_increase=0.5, max_speed_loss=0.2)


def measured(
    requests: float = 200, *, failed: float = 0, seconds: float = 1.0, first: float = 0.2, speed: float = 80.0
) -> Measured:
    return Measured(
        requests - failed,
        failed,
        Quotient(seconds * requests, requests),
        Quotient(first * requests, requests),
        {"m": Quotient(speed * 100, 100)},
    )


def steady(**changed: float) -> Trial:
    return Trial(measured(), measured(**changed))


def check(verdict: Verdict, name: str, worker: str = "w") -> Check:
    (found,) = [it for it in verdict.checks if (it.name, it.worker) == (name, worker)]
    return found


def judged(trial: Trial, *others: Trial, limits: Canary = LIMITS) -> Verdict:
    return judge(canary={"w": trial}, baseline={f"o{n}": it for n, it in enumerate(others)}, limits=limits)


def test_a_worker_that_is_as_it_was_passes() -> None:
    verdict = judged(steady(), steady(), steady())
    assert verdict.result == "pass"
    assert [it.name for it in verdict.checks] == ["error rate", "response time", "time to first token", "tokens/s"]


def test_half_the_speed_fails_and_is_told_in_numbers() -> None:
    verdict = judged(steady(speed=40.0), steady())
    assert verdict.result == "fail"
    assert check(verdict, "tokens/s").sentence == (
        "w: tokens/s 40.0 against 80.0 expected: 50 % slower, at most 20 % slower is allowed: fail"
    )
    assert verdict.summary == check(verdict, "tokens/s").sentence


def test_what_happens_to_all_workers_is_not_the_releases_fault() -> None:
    worse = Trial(measured(), measured(speed=40.0, seconds=2.0, first=0.4, failed=10))
    assert judged(worse, worse, worse, worse).result == "pass"
    assert judged(worse, steady(), steady()).result == "fail"


def test_a_slow_machine_is_compared_with_its_own_past() -> None:
    slow = measured(speed=10.0, seconds=8.0, first=1.6)
    assert judged(Trial(slow, slow), steady()).result == "pass"
    assert check(judged(Trial(slow, measured(speed=5.0)), steady()), "tokens/s").result == "fail"


def test_not_to_gain_where_all_others_gain_is_a_loss() -> None:
    assert check(judged(steady(), steady(speed=120.0)), "tokens/s").result == "fail"


def test_one_other_with_a_bad_day_does_not_count() -> None:
    assert judged(steady(), steady(), steady(speed=500.0, seconds=0.1), steady()).result == "pass"


def test_without_a_past_the_others_now_are_the_measure() -> None:
    new = Trial(Measured(), measured(speed=40.0))
    assert check(judged(new, steady()), "tokens/s").result == "fail"
    assert judged(Trial(Measured(), measured()), steady()).result == "pass"


def test_without_others_its_own_past_is_the_measure() -> None:
    assert judged(steady()).result == "pass"
    assert judged(steady(speed=40.0)).result == "fail"


def test_with_neither_nothing_can_be_said() -> None:
    verdict = judged(Trial(Measured(), measured()))
    assert verdict.result == "inconclusive"
    assert check(verdict, "error rate").result == "pass"
    assert check(verdict, "tokens/s").sentence == "w: tokens/s nothing to compare with: inconclusive"


def test_no_requests_at_all_say_nothing() -> None:
    verdict = judged(Trial(measured(), Measured()), steady())
    assert verdict.result == "inconclusive"
    assert "w: error rate no requests: inconclusive" in verdict.summary
    assert judge(canary={}, baseline={}, limits=LIMITS).result == "inconclusive"


def test_few_requests_that_all_fail_say_enough() -> None:
    verdict = judged(Trial(measured(), Measured(0, 5)), steady())
    assert check(verdict, "error rate").result == "fail"
    assert check(judged(Trial(measured(), Measured(5, 0)), steady()), "error rate").result == "inconclusive"


def test_a_single_fault_may_be_chance() -> None:
    assert check(judged(steady(requests=50, failed=1), steady()), "error rate").result == "inconclusive"
    assert check(judged(steady(requests=500, failed=1), steady()), "error rate").result == "pass"
    assert check(judged(steady(requests=500, failed=25), steady()), "error rate").result == "fail"


def test_a_longer_wait_fails_unless_nobody_would_notice_it() -> None:
    assert check(judged(steady(first=0.4), steady()), "time to first token").result == "fail"
    quick = Trial(measured(first=0.01), measured(first=0.03))
    assert check(judged(quick, steady()), "time to first token").result == "pass"


def test_a_longer_wait_of_a_few_requests_may_be_one_that_hung() -> None:
    assert check(judged(steady(requests=20, seconds=3.0), steady()), "response time").result == "inconclusive"
    assert check(judged(steady(requests=20), steady()), "response time").result == "pass"
    assert check(judged(steady(requests=40, seconds=3.0), steady()), "response time").result == "fail"


def test_models_are_compared_each_with_itself() -> None:
    small, large = Quotient(80 * 100, 100), Quotient(10 * 100, 100)
    before = replace(measured(), speed={"small": small, "large": Quotient(100, 10)})
    after = replace(measured(), speed={"small": Quotient(160, 2), "large": large})
    assert check(judged(Trial(before, after), steady()), "tokens/s").result == "pass"


def test_what_nobody_does_is_not_asked_for() -> None:
    bare = replace(measured(), speed={}, first_token=Quotient())
    verdict = judged(Trial(bare, bare), Trial(bare, bare))
    assert verdict.result == "pass"
    assert [it.name for it in verdict.checks] == ["error rate", "response time"]


def test_each_canary_is_judged_by_itself() -> None:
    verdict = judge(canary={"a": steady(), "b": steady(speed=40.0)}, baseline={"o": steady()}, limits=LIMITS)
    assert verdict.result == "fail"
    assert (check(verdict, "tokens/s", "a").result, check(verdict, "tokens/s", "b").result) == ("pass", "fail")


def test_a_canary_that_nobody_asks_anything_keeps_no_other_from_passing() -> None:
    idle = Trial(Measured(), Measured())
    assert judge(canary={"a": idle, "b": steady()}, baseline={"o": steady()}, limits=LIMITS).result == "pass"
    assert judge(canary={"a": idle}, baseline={"o": steady()}, limits=LIMITS).result == "inconclusive"
    silent = Trial(measured(), Measured())
    assert judge(canary={"a": silent, "b": steady()}, baseline={}, limits=LIMITS).result == "inconclusive"


def test_a_verdict_as_json_has_all_of_it() -> None:
    verdict = judged(steady(speed=40.0), steady())
    data = json.loads(json.dumps(verdict.as_dict()))
    assert data["result"] == "fail"
    assert data["summary"] == verdict.summary
    assert data["checks"][-1] == {
        "name": "tokens/s",
        "worker": "w",
        "canary": 40.0,
        "baseline": pytest.approx(80.0),
        "limit": 0.2,
        "result": "fail",
        "sentence": verdict.summary,
    }


NUMBERS = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))
QUOTIENTS = st.builds(Quotient, NUMBERS, NUMBERS)
MEASURED = st.builds(
    Measured, NUMBERS, NUMBERS, QUOTIENTS, QUOTIENTS, st.dictionaries(st.sampled_from("ab"), QUOTIENTS)
)
TRIALS = st.dictionaries(st.sampled_from("uvwx"), st.builds(Trial, MEASURED, MEASURED))


@given(TRIALS, TRIALS)
def test_whatever_was_measured_there_is_a_verdict_and_the_worst_check_decides(
    canary: dict[str, Trial], others: dict[str, Trial]
) -> None:
    verdict = judge(canary=canary, baseline=others, limits=LIMITS)
    results = {it.result for it in verdict.checks}
    if "fail" in results:
        assert verdict.result == "fail"
    else:
        assert verdict.result == ("pass" if results == {"pass"} else "inconclusive")
    json.dumps(verdict.as_dict())


@given(st.floats(20, 1000), st.floats(20, 1000), st.floats(0.1, 10))
def test_the_same_change_for_all_is_always_a_pass(own: float, theirs: float, change: float) -> None:
    mine = Trial(measured(speed=own, seconds=own), measured(speed=own * change, seconds=own * change))
    other = Trial(measured(speed=theirs, seconds=theirs), measured(speed=theirs * change, seconds=theirs * change))
    assert judged(mine, other).result == "pass"
