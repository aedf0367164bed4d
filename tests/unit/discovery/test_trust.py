from __future__ import annotations

import base64
from typing import Any

import pytest

from cluster_ai.discovery.merging import Machine
from cluster_ai.discovery.packets import Announcement, datagram, read
from cluster_ai.discovery.trust import judge
from cluster_ai.inventory.known_hosts import HostKey

SECRET = b"s" * 20
OURS, OTHER = (HostKey("10.0.0.7", "ssh-ed25519", base64.b64encode(word).decode()) for word in (b"ours", b"other"))


def announced(secret: bytes = SECRET, key: HostKey = OURS) -> Announcement:
    told = read(
        datagram(
            {
                "kind": "here",
                "nonce": "0" * 32,
                "token": "abcdef",
                "cluster": "",
                "name": "box",
                "system": "",
                "arch": "",
                "cores": 1,
                "memory": 1,
                "gpus": [],
                "keys": [key.fingerprint],
            },
            secret,
        )
    )
    assert isinstance(told, Announcement)
    return told


def machine(address: str = "10.0.0.7", key: HostKey | None = OURS, told: Announcement | None = None) -> Machine:
    return Machine((address,), ("scan",), key=key, announcement=told)


@pytest.mark.parametrize(
    ("it", "pinned", "standing"),
    [
        (machine(), {}, "new"),
        (machine(), {"10.0.0.7": [OURS]}, "known"),
        (machine(), {"10.0.0.7": [OTHER]}, "changed"),
        (machine(key=None), {}, "no ssh"),
        (machine(told=announced()), {}, "token"),
        (machine(told=announced(b"wrong")), {}, "new"),
        (machine(key=OTHER, told=announced()), {}, "forged"),
        (machine("10.0.0.1"), {"10.0.0.1": [OURS]}, "member"),
        (machine("10.0.0.1", key=OTHER), {"10.0.0.1": [OURS]}, "replaced"),
        (machine("10.0.0.1", key=None), {"10.0.0.1": [OURS]}, "member"),
        (machine("10.0.0.9"), {"10.0.0.1": [OURS]}, "moved"),
    ],
)
def test_what_a_machine_is_taken_for(it: Machine, pinned: dict[str, Any], standing: str) -> None:
    trust = judge(it, {"10.0.0.1": "w1"}, pinned, SECRET)
    assert trust.standing == standing
    assert trust.vouched is (standing in ("known", "token"))


def test_an_announcement_that_was_recorded_and_sent_from_elsewhere_is_told_as_forged() -> None:
    trust = judge(machine("10.0.0.66", key=OTHER, told=announced()), {}, {}, SECRET)
    assert trust.standing == "forged"
    assert OTHER.fingerprint in trust.what


def test_the_token_of_another_cluster_vouches_for_nothing() -> None:
    assert judge(machine(told=announced()), {}, {}, None).standing == "new"
