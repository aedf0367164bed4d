from __future__ import annotations

from collections.abc import Mapping

from cluster_ai.security import ca, rotation
from cluster_ai.security.credentials import completed, trusted


def chain_of(found: Mapping[str, str]) -> bytes:
    """The root of who issues now."""
    cert = found.get("ca_cert") or found["issuing_cert"]
    issuer = ca.issuer(cert.encode())
    return next(root for root in ca.split(trusted(found)) if ca.subject(root) == issuer)


def test_a_root_is_trusted_before_it_is_used_and_after_another_is() -> None:
    first = completed({}, "c", "secrets.yaml")
    old = first["root_cert"].encode()
    begun = rotation.begin(first, "c")
    assert chain_of(begun) == old
    (before, new) = ca.split(trusted(begun))
    assert before == old
    done = rotation.promoted(begun)
    assert ca.split(trusted(done)) == [new, old]
    assert chain_of(done) == new
    assert not rotation.begun(done)
    assert ca.split(trusted(rotation.retired(done))) == [new]
    assert done["gateway_token"] == first["gateway_token"]


def test_a_change_that_was_interrupted_goes_on_with_the_same_root() -> None:
    begun = rotation.begin(completed({}, "c", ""), "c")
    assert rotation.begin(begun, "c") == begun


def test_a_change_during_another_trusts_all_three() -> None:
    once = rotation.promoted(rotation.begin(completed({}, "c", ""), "c"))
    twice = rotation.promoted(rotation.begin(once, "c"))
    assert len(ca.split(trusted(twice))) == 3
    assert twice["root_cert"] not in twice["trusted_certs"]


def test_a_cluster_from_before_there_was_a_root_gets_one_and_no_longer_has_the_old_key() -> None:
    old = ca.create("c")
    found = completed({"ca_cert": old.cert.decode(), "ca_key": old.key.decode()}, "c", "")
    begun = rotation.begin(found, "c")
    assert chain_of(begun) == old.cert
    done = rotation.promoted(begun)
    assert chain_of(done) != old.cert
    assert old.cert in ca.split(trusted(done))
    assert not {"ca_cert", "ca_key"} & done.keys()


def test_another_issuing_ca_is_of_the_same_root() -> None:
    found = completed({}, "c", "")
    new = rotation.delegated(found, "c", "")
    assert new["issuing_cert"] != found["issuing_cert"]
    assert chain_of(new) == found["root_cert"].encode()
