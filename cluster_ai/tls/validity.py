"""A certificate's validity, read without importing cryptography, for a run with nothing to do looks at one a host."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass

_END = "-----END CERTIFICATE-----\n"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


@dataclass(frozen=True, slots=True)
class Validity:
    """Seconds since 1970."""

    begin: int
    end: int

    def due(self, now: float) -> bool:
        """Less than a third of its life is left."""
        return self.end - now < (self.end - self.begin) / 3


def validity(der: bytes) -> Validity:
    """Of an X.509 certificate (RFC 5280, 4.1). Raises ValueError where it is none."""
    try:
        ((_, certificate),) = list(_elements(der))
        _, signed = next(_elements(certificate))
        fields = [element for element in _elements(signed) if element[0] != _VERSION]
        tag, dates = fields[3]  # after serial number, signature's algorithm, issuer
        begin, end = [_time(*date) for date in _elements(dates)]
    except (IndexError, StopIteration, ValueError) as error:
        raise ValueError("no certificate") from error
    if tag != _SEQUENCE:
        raise ValueError("no certificate")
    return Validity(begin, end)


def of_pem(text: str) -> Validity:
    """Of the first certificate in it. Raises ValueError where there is none."""
    import ssl

    return validity(ssl.PEM_cert_to_DER_cert(text.partition(_END)[0] + _END))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that stand one after another: tag, content."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> int:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    if len(text) != 15 or not text.endswith("Z"):
        raise ValueError("no time")
    return timegm((int(text[0:4]), int(text[4:6]), int(text[6:8]), int(text[8:10]), int(text[10:12]), int(text[12:14])))
