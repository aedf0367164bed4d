from __future__ import annotations

import pytest

from cluster_ai.config import load_text
from cluster_ai.config.model import Config
from cluster_ai.config.override import Override, OverrideError, overridden
from cluster_ai.errors import ErrorGroup, ExitCode
from tests.unit.config.test_load import SEED

LABELLED = SEED.replace("memory: '64GB'}", "memory: '64GB'}\n      labels: {room: a12}")
GROUPED = LABELLED + "  rollout: {pause: '5s', groups: {room_a12: {strategy: blue-green, pause: '9s'}}}\n"


def config(text: str = GROUPED) -> Config:
    return load_text(text, "cluster.yaml")


def test_nothing_said_changes_nothing() -> None:
    assert overridden(config(), Override()) == config()


def test_what_is_said_holds_for_all_groups_and_the_rest_stays_their_own() -> None:
    rollout = overridden(config(), Override(strategy="rolling", max_unavailable="50%")).rollout
    for policy in (rollout.policy, rollout.groups["room_a12"]):
        assert (policy.strategy, policy.max_unavailable) == ("rolling", 0.5)
    assert (rollout.policy.pause, rollout.groups["room_a12"].pause) == (5.0, 9.0)
    assert overridden(config(), Override(max_unavailable="3", pause="0s")).rollout.policy.max_unavailable == 3


@pytest.mark.parametrize(
    ("written", "hosts"),
    [("2", 2), ("25%", 0.25), ("cpu-worker-01, gpu-worker-01", ("cpu-worker-01", "gpu-worker-01"))],
)
def test_naming_canaries_means_the_canary_strategy(written: str, hosts: object) -> None:
    policy = overridden(config(), Override(canary=written, bake="2m")).rollout.policy
    assert (policy.strategy, policy.canary.hosts, policy.canary.bake) == ("canary", hosts, 120.0)
    assert overridden(config(), Override(strategy="blue-green", canary=written)).rollout.policy.strategy == "blue-green"


@pytest.mark.parametrize(
    ("override", "error"),
    [
        (Override(strategy="roling"), "--strategy: found 'roling', allowed: one of 'rolling', 'canary', 'blue-green'"),
        (Override(max_unavailable="0"), "--max-unavailable: found 0, allowed: a whole number from 1 on"),
        (Override(max_unavailable="150%"), "--max-unavailable: found '150%', allowed: a whole number from 1 on"),
        (Override(pause="5"), "--pause: found '5', allowed: a duration"),
        (Override(canary="0"), "--canary: found 0, allowed:"),
        (Override(canary=""), "--canary: found [], allowed:"),
        (
            Override(canary="cpu-wrker-01"),
            "--canary: there is no worker 'cpu-wrker-01'\n  -> did you mean cpu",
        ),
        (
            Override(canary="1", bake="1s"),
            "--bake: found 1s, allowed: at least 20s, 4 times monitoring.scrape_interval",
        ),
    ],
)
def test_a_wrong_value_names_its_option_and_what_is_allowed(override: Override, error: str) -> None:
    with pytest.raises(OverrideError) as caught:
        overridden(config(), override)
    assert str(caught.value).startswith(error)
    assert caught.value.exit_code == ExitCode.USAGE


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ErrorGroup) as caught:
        overridden(config(), Override(strategy="x", pause="y"))
    assert [error.where for error in caught.value.errors] == ["--strategy", "--pause"]
