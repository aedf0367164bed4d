from __future__ import annotations

import base64
import itertools

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.discovery.merging import WAYS, Sighting, merge
from cluster_ai.inventory.known_hosts import HostKey


def key(number: int) -> HostKey:
    return HostKey("x", "ssh-ed25519", base64.b64encode(bytes([number])).decode())


def test_two_addresses_with_one_proven_key_are_one_machine_and_the_address_for_the_file_comes_first() -> None:
    seen = [
        Sighting("scan", "fe80::1%eth0", software="OpenSSH"),
        Sighting("scan", "fd00::7"),
        Sighting("mdns", "10.0.0.7", name="box"),
    ]
    (machine,) = merge(seen, {it.address: key(1) for it in seen})
    assert machine.addresses == ("10.0.0.7", "fd00::7", "fe80::1%eth0")
    assert machine.ways == ("mdns", "scan")
    assert (machine.name, machine.software) == ("box", "OpenSSH")


def test_one_card_in_the_neighbour_table_is_one_machine_unless_two_keys_are_behind_it() -> None:
    seen = [Sighting("scan", "10.0.0.7"), Sighting("mdns", "fd00::7")]
    macs = dict.fromkeys(("10.0.0.7", "fd00::7"), "02:00:00:00:00:07")
    assert len(merge(seen, {}, macs)) == 1
    assert len(merge(seen, {"10.0.0.7": key(1)}, macs)) == 1
    assert len(merge(seen, {"10.0.0.7": key(1), "fd00::7": key(2)}, macs)) == 2


ADDRESSES = [f"10.0.0.{n}" for n in range(1, 6)] + ["fd00::1", "fe80::1%a"]
SIGHTINGS = st.lists(st.builds(Sighting, st.sampled_from(WAYS), st.sampled_from(ADDRESSES), st.text(max_size=3)))
KEYS = st.dictionaries(st.sampled_from(ADDRESSES), st.integers(0, 3).map(key))
MACS = st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"]))


@given(SIGHTINGS, KEYS, MACS)
def test_every_address_is_of_one_machine_and_no_machine_has_two_keys(
    seen: list[Sighting], keys: dict[str, HostKey], macs: dict[str, str]
) -> None:
    machines = merge(seen, keys, macs)
    addresses = [address for machine in machines for address in machine.addresses]
    assert sorted(addresses) == sorted({it.address for it in seen})
    for machine in machines:
        assert len({keys[address] for address in machine.addresses if address in keys}) <= 1
    for one, other in itertools.combinations(machines, 2):
        assert one.key is None or one.key != other.key


@given(SIGHTINGS, KEYS, MACS)
def test_the_order_in_which_machines_were_seen_changes_nothing_but_names(
    seen: list[Sighting], keys: dict[str, HostKey], macs: dict[str, str]
) -> None:
    one, other = merge(seen, keys, macs), merge(seen[::-1], keys, macs)
    assert [(m.addresses, m.ways, m.key, m.mac) for m in one] == [(m.addresses, m.ways, m.key, m.mac) for m in other]
