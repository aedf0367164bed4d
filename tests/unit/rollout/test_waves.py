from __future__ import annotations

from cluster_ai.rollout.waves import Wave, budget


def test_a_share_is_of_all_workers_and_never_less_than_one() -> None:
    assert budget(0.25, 10) == 2
    assert budget(0.1, 4) == 1
    assert budget(1.0, 4) == 4
    assert budget(3, 10) == 3


def test_workers_that_are_down_already_count() -> None:
    assert budget(3, 10, down=1) == 2
    assert budget(1, 10, down=4) == 1


def test_a_wave_as_json_has_all_of_it() -> None:
    wave = Wave(("a", "b"), "canary", 1.0, 60.0)
    assert wave.as_dict() == {"hosts": ["a", "b"], "kind": "canary", "pause": 1.0, "bake": 60.0}
