"""What people should know of a worker: where it isn't what cluster.yaml says, or its tasks don't go on. Pure."""

from __future__ import annotations

from cluster_ai.cluster.membership import Member
from cluster_ai.settings import Upstream
from cluster_ai.sizes import counted, format_size


def findings(upstream: Upstream, member: Member | None) -> tuple[str, ...]:
    """Each a sentence without its full stop. member: as the scheduler knows it."""
    if member is None:
        return ()
    if member.silent:
        return ("nothing is heard of its Dask worker: it gets no tasks, and what it had is waited for",)
    return () if member.report is None else _cards(upstream, member)


def _cards(upstream: Upstream, member: Member) -> tuple[str, ...]:
    assert member.report is not None
    cards = member.report.gpus
    if len(cards) != upstream.gpu:
        return (f"it is to have {counted(upstream.gpu, 'card')} (resources.gpu), and its driver shows {len(cards)}",)
    own = [card.memory_total for card in cards if card.memory_total is not None]
    if len(own) < len(cards):
        return _shared(upstream, member.report.memory_total)
    there = sum(own)
    if cards and upstream.memory is not None and upstream.memory > there:
        wanted, has = format_size(upstream.memory), format_size(there)
        return (f"models are to have {wanted} of its cards' memory (resources.gpu_memory), which is {has}",)
    return ()


def _shared(upstream: Upstream, memory: int) -> tuple[str, ...]:
    """Of cards without memory of their own. memory: the host's, in bytes."""
    on_cards, in_ram = upstream.gpu_room, upstream.ram_room or 0
    if on_cards + in_ram <= memory:
        return ()
    has, cards, ram = map(format_size, (memory, on_cards, in_ram))
    return (
        f"its cards share the host's {has} of memory, of which models may take {cards} there and {ram} in RAM: "
        "divide it between resources.gpu_memory and resources.memory",
    )
