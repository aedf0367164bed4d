from __future__ import annotations

from cluster_ai.gateway.yielding import KEPT, Needs


def test_a_slot_stays_with_people_for_a_while_after_they_had_it() -> None:
    needs = Needs()
    assert needs.look({"w1": 0}) == {}
    assert needs.look({"w1": 2}) == {"w1": 2}
    for _ in range(KEPT - 1):
        assert needs.look({"w1": 1}) == {"w1": 2}
    assert needs.look({"w1": 1}) == {"w1": 1}
    for _ in range(KEPT - 1):
        assert needs.look({"w1": 0}) == {"w1": 1}
    assert needs.look({"w1": 0}) == {}
