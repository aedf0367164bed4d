"""Who is switched together."""

from __future__ import annotations

from collections.abc import Iterable


def budget(max_unavailable: int | float, workers: int, down: int = 0) -> int:
    """How many workers may be out at once: a number, or a share of all; who is down counts. Never less than one."""
    allowed = int(max_unavailable * workers) if isinstance(max_unavailable, float) else max_unavailable
    return max(1, allowed - down)


def waves(changing: Iterable[str], *, head: str, new: frozenset[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Order the hosts that change.

    Who has no predecessor serves nobody yet, so all of those go together, a new head with them. A head that serves goes
    first and alone, for it may know more than its workers, but never less; then those new; then workers by `size`.
    """
    names = list(changing)
    serving_head = [name for name in names if name == head and name not in new]
    fresh = [name for name in names if name in new]
    rest = [name for name in names if name not in new and name != head]
    groups = [serving_head, fresh, *(rest[at : at + size] for at in range(0, len(rest), size))]
    return tuple(tuple(group) for group in groups if group)
