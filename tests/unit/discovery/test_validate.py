from __future__ import annotations

from dataclasses import replace

from cluster_ai.config.model import Resources
from cluster_ai.discovery.validate import resources_of
from cluster_ai.placement.need import budget
from cluster_ai.rollout.doctor import Machine

MACHINE = Machine(20, 130_663_165_952, 1, 1, True, {}, card_memory=25_757_220_864)


def test_a_machine_is_written_down_with_no_more_than_it_has() -> None:
    assert resources_of(MACHINE) == Resources(20, 130_600_000_000, 1, 25_700_000_000)
    assert resources_of(replace(MACHINE, driver=0, card_memory=0)) == Resources(20, 130_600_000_000, 1, None)
    assert resources_of(replace(MACHINE, cards=0, driver=0, card_memory=0)).gpu_memory is None


def test_memory_that_a_card_shares_with_its_host_is_given_out_once() -> None:
    found = resources_of(replace(MACHINE, card_memory=0, unified=1))
    assert found == Resources(20, 32_600_000_000, 1, 97_900_000_000)
    given = budget(found)
    assert given.gpu + given.ram < 0.96 * MACHINE.memory
