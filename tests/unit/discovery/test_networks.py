from __future__ import annotations

import ipaddress

import pytest

from cluster_ai.discovery.networks import Own, chosen, parse, public, targets, within
from cluster_ai.errors import UsageError


def own(address: str, interface: str = "eth0", index: int = 2) -> Own:
    it = ipaddress.ip_interface(address)
    return Own(it.ip, it.network, interface, index)


HERE = [own("10.0.4.2/24"), own("fe80::2/64"), own("fd00::2/64")]


def test_only_private_networks_are_looked_in_unless_another_is_named() -> None:
    mine = [*HERE, own("198.51.100.7/24", "wan", 3), own("8.8.4.4/24", "wan", 3), own("fe80::9/64", "veth1", 9)]
    assert "8.8.4.4" not in [str(it.address) for it in chosen(mine, ())]
    assert "fe80::9" not in [str(it.address) for it in chosen(mine, ())], "the other end of a container's cable"
    assert [str(it.address) for it in chosen(mine, parse(["8.8.4.0/24"]))] == ["8.8.4.4"]


def test_a_public_network_must_be_confirmed() -> None:
    assert [str(it) for it in public(parse(["8.8.4.0/24", "10.0.0.0/8", "fd00::/64"]))] == ["8.8.4.0/24"]


def test_all_addresses_of_the_own_network_are_tried_but_the_own() -> None:
    found = targets(HERE, (), [it.address for it in HERE])
    assert len(found) == 253
    assert "10.0.4.2" not in found
    assert not {"10.0.4.0", "10.0.4.255"} & set(found)


def test_of_a_wide_network_that_nobody_named_the_part_around_the_own_address_is_tried() -> None:
    found = targets([own("172.17.9.1/16")], (), [])
    assert len(found) == 254
    assert all(address.startswith("172.17.9.") for address in found)


def test_a_network_that_is_too_wide_to_try_is_refused() -> None:
    with pytest.raises(UsageError, match="16777216 addresses"):
        targets(HERE, parse(["10.0.0.0/8"]), [])


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(UsageError, match="is no network"):
        parse(["10.0.0.300"])


@pytest.mark.parametrize(
    ("address", "wanted", "taken"),
    [
        ("10.0.4.9", [], True),
        ("10.0.5.9", [], False),
        ("8.8.8.8", [], False),
        ("10.0.4.9", ["10.0.9.0/24"], False),
        ("8.8.4.9", ["8.8.4.0/24"], True),
        ("127.0.0.1", ["127.0.0.0/8"], False),
        ("10.0.4.2", [], False),
        ("fe80::7%eth0", [], True),
        ("fe80::7%2", [], True),
        ("fe80::7%wan", [], False),
        ("fd00::9", ["10.0.4.0/24"], False),
        ("fd00::9", ["10.0.4.0/24", "fd00::/64"], True),
        ("ff02::1", [], False),
        ("nonsense", [], False),
    ],
)
def test_only_addresses_that_were_looked_for_are_taken(address: str, wanted: list[str], taken: bool) -> None:
    assert within(address, parse(wanted), HERE) is taken
