"""Another root, or another issuing CA: what becomes of the vault's content. Pure, but for the keys that are made.

A change of the root has two steps, so that at no moment a host meets one whose root it doesn't know: every host is told
to trust the new one too, and only then do they get certificates that lead to it. The old root stays trusted until
`retired`.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster_ai.security import ca
from cluster_ai.security.credentials import (
    ISSUING_CERT,
    ISSUING_KEY,
    OLD_CERT,
    OLD_KEY,
    ROOT_CERT,
    ROOT_KEY,
    TRUSTED,
    issuing,
)

NEXT = "next_"  # before the names of what is to come
_PAIRS = (ROOT_CERT, ROOT_KEY, ISSUING_CERT, ISSUING_KEY)


def begun(found: Mapping[str, str]) -> bool:
    """The hosts are being told of a root that is to come."""
    return NEXT + ROOT_CERT in found


def begin(found: Mapping[str, str], cluster: str) -> dict[str, str]:
    """With a root to come, which is trusted already."""
    if begun(found):
        return dict(found)
    root = ca.create(cluster)
    delegate = ca.delegate(root, cluster)
    made = (root.cert, root.key, delegate.cert, delegate.key)
    to_come = {NEXT + name: text.decode() for name, text in zip(_PAIRS, made, strict=True)}
    return {**found, **to_come, TRUSTED: found.get(TRUSTED, "") + root.cert.decode()}


def promoted(found: Mapping[str, str]) -> dict[str, str]:
    """With the root that was to come as ours, and ours as one that is trusted still."""
    ours = found.get(OLD_CERT) or found[ROOT_CERT]
    rest = {name: text for name, text in found.items() if not name.startswith(NEXT) and name not in (OLD_CERT, OLD_KEY)}
    now = {name: found[NEXT + name] for name in _PAIRS}
    others = found.get(TRUSTED, "").replace(now[ROOT_CERT], "")
    return {**rest, **now, TRUSTED: ours + others}


def retired(found: Mapping[str, str]) -> dict[str, str]:
    """With our root alone."""
    return {name: text for name, text in found.items() if name != TRUSTED}


def delegated(found: Mapping[str, str], cluster: str, where: str) -> dict[str, str]:
    """With another issuing CA of the same root."""
    return {**found, **issuing(found, cluster, where)}
