"""Login tokens: JWTs signed with EdDSA, and what is said to one that isn't good.

Whose a token is, and whether they are still logged in, the store says with every request; the role in it is for others
who verify by the JWKS. Checking a signature takes a tenth of a millisecond, so that what was checked is remembered, by
digest, until it ends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.signing import SigningKey

AUDIENCE = "cluster-ai-gateway"
LIFE = 15 * 60  # seconds
LEEWAY = 30  # seconds that clocks may differ
_KEPT = 4096
_ALGORITHM = "EdDSA"
_NEEDED = ["exp", "iat", "iss", "aud", "sub", "sid"]


@dataclass(frozen=True, slots=True)
class Claims:
    subject: str
    login: str
    ends: float


def issuer_of(cluster: str) -> str:
    return f"cluster-ai/{cluster}"


def looks_like_one(secret: bytes) -> bool:
    return secret.startswith(b"ey") and secret.count(b".") == 2


class Tokens:
    """keys: those that there are now."""

    def __init__(
        self, issuer: str, keys: Callable[[], Sequence[SigningKey]], clock: Callable[[], float] = time.time
    ) -> None:
        self._issuer, self._keys, self._clock = issuer, keys, clock
        self._checked: dict[bytes, tuple[Claims, str]] = {}

    def issue(self, key: SigningKey, subject: str, role: str, login: str) -> tuple[str, int]:
        """The token, and when it ends."""
        now = int(self._clock())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "role": role,
            "sid": login,
            "iat": now,
            "exp": now + LIFE,
        }
        return jwt.encode(claims, key.load(), algorithm=_ALGORITHM, headers={"kid": key.kid}), now + LIFE

    def claims(self, token: bytes) -> Claims:
        """Raises Refusal (401), which says what is wrong with it."""
        digest = hashlib.sha256(token).digest()
        known = self._checked.get(digest)
        if known is not None:
            claims = known[0]
            if self._clock() < claims.ends + LEEWAY:
                return claims
            del self._checked[digest]
        claims, kid = self._check(token)
        if len(self._checked) >= _KEPT:
            self._checked.clear()  # all are checked anew once: cheaper than to keep account of who came last
        self._checked[digest] = (claims, kid)
        return claims

    def forget(self, kept: Sequence[SigningKey]) -> None:
        """What was checked with a key that is no more."""
        kids = {key.kid for key in kept}
        self._checked = {digest: it for digest, it in self._checked.items() if it[1] in kids}

    def _check(self, token: bytes) -> tuple[Claims, str]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as e:
            raise invalid("it is no JWT that can be read") from e
        if header.get("alg") != _ALGORITHM:
            raise invalid(f"it is signed with '{header.get('alg')}', and only {_ALGORITHM} is taken")
        key = next((key for key in self._keys() if key.kid == header.get("kid")), None)
        if key is None:
            raise invalid("it is signed with a key that this cluster doesn't have; log in here")
        now = self._clock()
        try:
            # Times are looked at below, by this clock, and so that it is told how far off they are.
            said = jwt.decode(
                token,
                key.public(),
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                options={"require": _NEEDED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            claims = Claims(str(said["sub"]), str(said["sid"]), float(said["exp"]))
            issued = float(said["iat"])
        except jwt.InvalidAudienceError as e:
            raise invalid(f"it is for another audience than '{AUDIENCE}'") from e
        except jwt.InvalidIssuerError as e:
            raise invalid(f"its issuer isn't '{self._issuer}': it is of another cluster") from e
        except jwt.InvalidSignatureError as e:
            raise invalid("its signature is not this cluster's") from e
        except (jwt.InvalidTokenError, ValueError, TypeError) as e:
            raise invalid(f"it can't be used: {e}") from e
        must_be_now(issued, claims.ends, now)
        return claims, key.kid


def must_be_now(issued: float, ends: float, now: float) -> None:
    """Raises Refusal (401)."""
    if issued > now + LEEWAY:
        raise invalid(
            f"it was issued {_span(issued - now)} in the future: this gateway's clock says {_time(now)}, the issuer's"
            f" said {_time(issued)}. One of the two clocks is wrong; `timedatectl` on both hosts shows which"
        )
    if now >= ends + LEEWAY:
        raise invalid(
            f"it expired {_span(now - ends)} ago: log in again. (This gateway's clock says {_time(now)}; if it is later"
            " than it should be, that clock is wrong)"
        )


def invalid(why: str) -> Refusal:
    header = (b"www-authenticate", b'Bearer realm="cluster-ai", error="invalid_token"')
    return Refusal(401, "invalid_token", f"the login token is refused: {why}", [header])


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "a time that no clock has"


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def jwks(keys: Sequence[SigningKey]) -> dict[str, Any]:
    return {"keys": [key.jwk() for key in keys]}
