"""The keys that sign login tokens: made by themselves, and changed by themselves with an overlap.

A new key stands in /.well-known/jwks.json a day before it signs, so that whoever keeps a copy of that page knows it by
then; an old one stays there until no token of it can be good any more. `plan` is pure.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

SIGNS = 30 * 24 * 3600.0  # seconds that a key signs
AHEAD = 24 * 3600.0  # seconds that it is known before
AFTER = 24 * 3600.0  # seconds that it is known after: longer than any token lives


@dataclass(frozen=True, slots=True)
class SigningKey:
    """begins: seconds since 1970, from when on it signs."""

    kid: str
    private: bytes
    begins: float

    def load(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.private)

    def public(self) -> Ed25519PublicKey:
        return self.load().public_key()

    def jwk(self) -> dict[str, Any]:
        raw = self.public().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x}


@dataclass(frozen=True, slots=True)
class Plan:
    """make: when a new key is to begin; None: there are enough. drop: those that are of no use any more."""

    make: float | None
    drop: tuple[str, ...]


def generate(begins: float) -> SigningKey:
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return SigningKey(secrets.token_hex(8), private, begins)


def signing(keys: Sequence[SigningKey], now: float) -> SigningKey | None:
    """The newest that has begun."""
    begun = [key for key in keys if key.begins <= now]
    return max(begun, key=lambda key: key.begins, default=None)


def plan(keys: Sequence[SigningKey], now: float) -> Plan:
    current = signing(keys, now)
    if current is None:  # none yet, or the clock went back: one that signs at once
        return Plan(now, ())
    waiting = any(key.begins > now for key in keys)
    ends = current.begins + SIGNS
    make = max(ends, now + AHEAD) if not waiting and now >= ends - AHEAD else None
    drop = tuple(key.kid for key in keys if key.begins < current.begins and now - current.begins > AFTER)
    return Plan(make, drop)
