from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_ai.tls.validity import Validity, validity

KEY = ec.generate_private_key(ec.SECP256R1())
MOMENTS = st.datetimes(datetime(1951, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


def certificate(begin: datetime, end: datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "h")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, begin, end)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@settings(max_examples=50, deadline=None)
@given(MOMENTS, st.timedeltas(timedelta(seconds=1), timedelta(days=36500)))
def test_validity_is_what_cryptography_says(begin: datetime, life: timedelta) -> None:
    begin = begin.replace(microsecond=0)
    end = (begin + life).replace(microsecond=0)
    assert validity(certificate(begin, end)) == Validity(int(begin.timestamp()), int(end.timestamp()))


@given(st.binary(max_size=300))
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        validity(data)


SOUND = certificate(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 400))
def test_a_certificate_that_is_cut_off_or_damaged_never_raises_anything_else(at: int, byte: int, length: int) -> None:
    der = bytearray(SOUND)
    der[at] = byte
    with contextlib.suppress(ValueError):
        validity(bytes(der[:length]))


def test_a_certificate_is_due_in_the_last_third_of_its_life() -> None:
    it = Validity(0, 300)
    assert not it.due(199)
    assert it.due(201)
    assert it.due(400)
