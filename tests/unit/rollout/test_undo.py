from __future__ import annotations

from dataclasses import replace

import pytest

from cluster_ai.errors import HostError, RolloutError, UsageError
from cluster_ai.rollout.journal import Change, Intent, Rollout
from cluster_ai.rollout.observe import Observed, parse
from cluster_ai.rollout.undo import halves, lasting, of, possible, since, still_there

A, B, C = "a" * 64, "b" * 64, "c" * 64


def seen(host: str, current: str | None) -> Observed:
    nothing = parse(host, "cluster-ai-probe=1\ncluster-ai-probe=end")
    return replace(nothing, current=current, releases=frozenset({A, B, C}))


def rollout(name: str, **changes: Change) -> Rollout:
    return Rollout(name, "apply", "me", 0.0, 1.0, "done", "", Intent("test", "rolling", "", changes, ()))


SECOND = rollout("20260102-2", h1=Change(B, C), h2=Change(A, C))
FIRST = rollout("20260101-1", h1=Change(A, B), h3=Change(None, B))
NOW = {"h1": seen("h1", C), "h2": seen("h2", C), "h3": seen("h3", B)}


def test_taking_the_last_rollout_back_brings_its_hosts_to_what_they_ran_before_it() -> None:
    assert of([SECOND], NOW) == {"h1": Change(C, B), "h2": Change(C, A)}


def test_taking_several_back_leads_to_before_the_oldest_and_a_host_without_a_release_then_stays() -> None:
    assert of([SECOND, FIRST], NOW) == {"h1": Change(C, A), "h2": Change(C, A)}


def test_a_host_that_is_there_already_or_cannot_be_asked_is_left_alone() -> None:
    now: dict[str, Observed | HostError] = {"h1": seen("h1", B), "h2": HostError("is down", where="h2")}
    assert of([SECOND], now) == {}


def test_only_what_the_rollout_itself_brought_is_undone() -> None:
    now = {**NOW, "h2": seen("h2", B)}
    assert still_there(SECOND, of([SECOND], now)) == {"h1": Change(C, B)}


def test_a_host_whose_switch_nobody_leads_any_more_is_undone_too() -> None:
    now = {**NOW, "h1": replace(seen("h1", B), switching=C)}
    assert still_there(SECOND, of([SECOND], now)) == {"h1": Change(C, B), "h2": Change(C, A)}


@pytest.mark.parametrize("to", ["20260101-1", "20260101", "bbbb"])
def test_a_place_to_go_to_is_named_by_a_rollout_or_a_release_that_it_brought(to: str) -> None:
    assert since([SECOND, FIRST], to) == [SECOND]
    assert since([SECOND, FIRST], "cccc") == []
    with pytest.raises(UsageError, match="begins with dddd"):
        since([SECOND, FIRST], "dddd")


def test_nothing_is_begun_where_a_host_is_away_or_has_the_release_no_more() -> None:
    down = HostError("is down", where="h2")
    now: dict[str, Observed | HostError] = {"h1": replace(seen("h1", C), releases=frozenset({C})), "h2": down}
    away, gone = possible({"h1": Change(C, B)}, now)
    assert isinstance(away, HostError)
    assert isinstance(gone, RolloutError)
    assert gone.where == "h1"
    assert possible(of([SECOND], NOW), NOW) == []


def test_one_half_of_the_workers_serves_while_the_other_goes_back() -> None:
    waves = [wave.hosts for wave in halves(["head", "w1", "w2", "w3"], "head")]
    assert waves == [("head", "w1", "w2"), ("w3",)]
    assert [wave.hosts for wave in halves(["head"], "head")] == [("head",)]


def test_what_was_taken_back_already_or_changed_no_release_is_not_what_a_rollback_is_about() -> None:
    returned = replace(rollout("20260104-4", h1=Change(C, B)), state="returned")
    same = rollout("20260103-3", h1=Change(C, C))
    undone = replace(rollout("20260102-3", h1=Change(C, A)), state="undone")
    assert lasting([returned, same, undone, SECOND, FIRST]) == [SECOND, FIRST]
