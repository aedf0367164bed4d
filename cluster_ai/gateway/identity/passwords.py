"""Passwords, kept as scrypt makes them: a guess costs 32 MiB and a tenth of a second, for whoever stole the file too.

Slow on purpose, so in a thread and at a login alone; two at once, so that many logins don't take the gateway's memory.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets

from cluster_ai.gateway.api.http import Refusal

SHORTEST, LONGEST = 10, 1024  # characters; the longest keeps a guess from being work for us
_N, _R, _P = 2**15, 8, 1
_MEMORY = 64 * 1024 * 1024
_AT_ONCE = 2


def hashed(password: str) -> str:
    """As it is kept: scrypt$n$r$p$salt$hash. Takes a tenth of a second."""
    salt = secrets.token_bytes(16)
    return _kept(salt, _derive(password, salt, _N, _R, _P))


def fits(password: str, kept: str) -> bool:
    """Takes a tenth of a second."""
    _, n, r, p, salt, known = kept.split("$")
    found = _derive(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(known))


def must_be_good(password: str, name: str) -> None:
    """Raises Refusal (400). Length is what counts; rules about signs make people write passwords down."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Refusal(400, "weak_password", f"password: {SHORTEST} to {LONGEST} characters; several words are good")
    if password.casefold() == name.casefold() or len(set(password)) < 4:
        raise Refusal(400, "weak_password", "password: one that is guessed first; take several words")


class Passwords:
    """Checks and makes them beside the requests."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._nobodys = _kept(
            secrets.token_bytes(16), secrets.token_bytes(32)
        )  # whoever isn't there takes as long as who is

    async def make(self, password: str, name: str) -> str:
        """Raises Refusal (400)."""
        must_be_good(password, name)
        async with self._turn:
            return await asyncio.to_thread(hashed, password)

    async def check(self, password: str, kept: str | None) -> bool:
        """kept None: there is no such user, or no password of theirs, which must take as long."""
        if len(password) > LONGEST:
            return False
        async with self._turn:
            good = await asyncio.to_thread(fits, password, kept or self._nobodys)
        return good and kept is not None


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    given = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(given, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)


def _kept(salt: bytes, derived: bytes) -> str:
    return f"scrypt${_N}${_R}${_P}${_text(salt)}${_text(derived)}"


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
