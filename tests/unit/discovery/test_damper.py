from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.discovery.damper import ALL, EACH, SOURCES, Damper


def test_a_flood_of_one_address_leaves_room_for_others() -> None:
    damper = Damper()
    taken = sum(damper.allows("10.0.0.1", 5.0) for _ in range(300))
    assert taken == EACH
    assert damper.allows("10.0.0.2", 5.5)
    assert damper.ignored == 300 - EACH
    assert damper.allows("10.0.0.1", 6.0), "a second later it may speak again"


@given(st.lists(st.integers(0, 1 << 20), max_size=3000))
def test_forged_addresses_cost_bounded_work_and_memory(sources: list[int]) -> None:
    damper = Damper()
    assert sum(damper.allows(str(source), 1.0) for source in sources) <= min(ALL, SOURCES)
