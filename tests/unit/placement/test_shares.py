"""A host's cores and memory in shares."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.placement.shares import LEAST_MEMORY, Shares, shares

GIB = 1 << 30


def test_what_is_left_over_is_the_firsts() -> None:
    assert shares(8, 8 * GIB, 3) == Shares(3, (4, 8 * GIB - 2 * (8 * GIB // 3)), (2, 8 * GIB // 3))


def test_one_process_has_it_all() -> None:
    assert shares(4, GIB, 1) == Shares(1, (4, GIB), (4, GIB))


@given(st.integers(1, 64), st.integers(1, 64 * GIB), st.integers(1, 10))
def test_all_together_are_what_the_host_has(cpu: int, memory: int, most: int) -> None:
    found = shares(cpu, memory, most)
    assert 1 <= found.most <= most
    for whole, first, other in zip((cpu, memory), found.first, found.others, strict=True):
        assert first + (found.most - 1) * other == whole
        assert first >= other >= 1
    assert found.most == 1 or found.others[1] >= LEAST_MEMORY
