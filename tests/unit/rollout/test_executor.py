from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import ClusterAIError, ExitCode, RolloutError
from cluster_ai.placement import Assignment, Placement
from cluster_ai.rollout.executor import served, switch_in_waves

WAVES = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=3), max_size=6).map(
    lambda groups: [[f"w{at}-{n}" for n in range(len(group))] for at, group in enumerate(groups)]
)


@given(WAVES, st.data())
def test_every_host_is_done_or_failed_or_untouched_and_nothing_is_switched_after_a_failure(
    waves: list[list[str]], data: st.DataObject
) -> None:
    names = [name for wave in waves for name in wave]
    bad = data.draw(st.sets(st.sampled_from(names))) if names else set()
    switched: list[str] = []

    def switch(wave: Sequence[str]) -> dict[str, ClusterAIError | None]:
        switched.extend(wave)
        return {name: RolloutError("no", where=name) if name in bad else None for name in wave}

    report = switch_in_waves(waves, switch)
    assert sorted([*report.done, *report.failed, *report.untouched]) == sorted(names)
    assert switched == [name for name in names if name not in report.untouched]
    if bad:
        first = next(wave for wave in waves if bad & set(wave))
        assert set(report.failed) == bad & set(first)
        assert switched[-1] == first[-1]


def test_a_report_with_a_failure_or_a_model_that_does_not_answer_is_not_well() -> None:
    report = switch_in_waves([["a"]], lambda wave: dict.fromkeys(wave))
    assert report.ok
    report.models["m"] = "the gateway answers 503"
    assert not report.ok
    assert RolloutError("x").exit_code == ExitCode.ROLLOUT


def test_models_must_answer_that_some_worker_which_is_not_down_has() -> None:
    placement = Placement(
        (Assignment("a", "w1", "cpu", 1), Assignment("a", "w2", "cpu", 1), Assignment("b", "w1", "cpu", 1))
    )
    assert served(placement, {"w1"}) == ["a"]
    assert served(placement, set()) == ["a", "b"]
