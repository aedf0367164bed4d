"""Whether a machine is the one that it seems to be, and whether it is ours already. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster_ai.discovery.merging import Machine
from cluster_ai.inventory.known_hosts import HostKey

Standing = Literal["member", "moved", "replaced", "no ssh", "known", "changed", "token", "forged", "new"]


@dataclass(frozen=True, slots=True)
class Trust:
    """What is to be thought of a machine. vouched: its key is known to be right, by known_hosts or by a token."""

    standing: Standing
    what: str
    remedy: str = ""
    host: str = ""  # of the cluster, that it is or claims to be

    @property
    def vouched(self) -> bool:
        return self.standing in ("known", "token")


def judge(
    machine: Machine,
    members: Mapping[str, str],
    pinned: Mapping[str, Collection[HostKey]],
    secret: bytes | None,
) -> Trust:
    """members: address -> name of a host of cluster.yaml. pinned: address -> keys that known_hosts has, members' too.

    secret: of the token that its announcement names, where it is one of ours.
    """
    name = next((members[address] for address in machine.addresses if address in members), "")
    if machine.key is None:
        said = "is in the cluster, but its SSH server doesn't answer" if name else "no SSH server answers"
        return Trust("member" if name else "no ssh", said, host=name)
    shown = machine.key.fingerprint
    told = machine.announcement
    proven = told is not None and secret is not None and told.proven(secret)
    if told and proven and shown not in told.keys:
        return Trust("forged", f"its announcement names another host key than it shows ({shown})", _STRANGER)
    believed = [key for address in machine.addresses for key in pinned.get(address, ())]
    same_kind = [key for key in believed if key.kind == machine.key.kind]
    if name:
        if not same_kind or any(key.fingerprint == shown for key in same_kind):
            return Trust("member", f"is {name}", host=name)
        old = same_kind[0].fingerprint
        what = f"shows another host key ({shown}) than is pinned for {name} ({old})"
        return Trust("replaced", what, f"if {name} was installed anew, say so when asked: discover --add", name)
    owner = next((members[a] for a, keys in pinned.items() if a in members and _has(keys, shown)), "")
    if owner:
        return Trust(
            "moved", f"is {owner} at another address", f"config set 'cluster.workers[{owner}].host' ADDRESS", owner
        )
    if proven:
        return Trust("token", "has a join token of this cluster")
    if _has(same_kind, shown):
        return Trust("known", "its host key is in known_hosts")
    if same_kind:
        return Trust("changed", f"its host key ({shown}) is another one than known_hosts has", _STRANGER)
    return Trust("new", f"nobody has vouched for its host key, {shown}", _COMPARE)


_STRANGER = "somebody stands between, or it was installed anew: look at it, and take the old key out of known_hosts"
_COMPARE = "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on it; then --accept-key, or answer yes"


def _has(keys: Collection[HostKey] | Sequence[HostKey], fingerprint: str) -> bool:
    return any(key.fingerprint == fingerprint for key in keys)
