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
    there = sum(card.memory_total for card in cards)
    if cards and upstream.memory is not None and upstream.memory > there:
        wanted, has = format_size(upstream.memory), format_size(there)
        return (f"models are to have {wanted} of its cards' memory (resources.gpu_memory), which is {has}",)
    return ()
