from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.discovery.finders.mdns import TYPES, sightings
from cluster_ai.discovery.finders.ssdp import sighting

ADDRESSES = st.sampled_from(["10.0.0.7", "fe80::7%2", "fd00::7"]) | st.text(max_size=20)


@given(st.text(), st.sampled_from(TYPES), st.text(), st.lists(ADDRESSES, max_size=20))
def test_whatever_a_service_calls_itself_only_clean_names_and_real_addresses_come_of_it(
    name: str, service_type: str, server: str, addresses: list[str]
) -> None:
    for it in sightings(name, service_type, server, addresses):
        assert it.name.isprintable()
        assert it.address in addresses


def test_a_service_is_named_by_its_host_else_by_itself() -> None:
    (it,) = sightings("box [02:00:00:00:00:07]._workstation._tcp.local.", TYPES[1], "box.local.", ["10.0.0.7"])
    assert it.name == "box"
    (it,) = sightings("box._ssh._tcp.local.", TYPES[0], "", ["10.0.0.7"])
    assert it.name == "box"


@given(st.dictionaries(st.sampled_from(["_host", "server", "location"]), ADDRESSES | st.binary() | st.none()))
def test_of_an_answer_by_ssdp_only_a_real_address_and_a_clean_word_are_taken(
    headers: dict[str, str],
) -> None:
    it = sighting(headers)
    if it is not None:
        assert it.system.isprintable()
        assert it.address == str(headers["_host"])


def test_the_server_of_an_answer_may_tell_the_system() -> None:
    it = sighting({"_host": "10.0.0.7", "server": "Linux/6.1 Ubuntu/24.04 UPnP/1.1 x/1"})
    assert it
    assert it.system == "Ubuntu"
