"""Logging in, staying so, and out: what ties users, passwords and tokens together.

A login is got with a password, lasts as long as it is used (two weeks at most without), and is renewed with a second
token that works once. One that comes again later than a lost answer explains was stolen: then the login ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cluster_ai.gateway.admission.keys import Keys
from cluster_ai.gateway.admission.users import RESERVED, User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.oidc import Provider
from cluster_ai.gateway.identity.passwords import Passwords
from cluster_ai.gateway.identity.signing import signing
from cluster_ai.gateway.identity.store import Account, Login, Store, no_user
from cluster_ai.gateway.identity.throttle import Throttle
from cluster_ai.gateway.identity.tokens import Tokens, invalid, issuer_of, jwks, looks_like_one

IDLE = 14 * 24 * 3600.0  # seconds that a login lasts without being renewed
AGAIN = 60.0  # seconds in which the last refresh token still works: its answer may have got lost
_PREFIX = "car-"
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Granted:
    """ends: of the token, seconds since 1970."""

    user: User
    token: str
    ends: int
    refresh: str


class Logins:
    """`directory` None: in memory only."""

    def __init__(
        self,
        cluster: str,
        directory: Path | None,
        keys: Keys,
        note: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
        provider: Provider | None = None,
    ) -> None:
        self._clock, self._api_keys, self._note = clock, keys, note
        self.provider = provider
        self.store = Store(directory, note)
        self.passwords = Passwords()
        self.throttle = Throttle(time.monotonic)
        self._tokens = Tokens(issuer_of(cluster), self.store.keys, clock)
        with contextlib.suppress(Refusal):  # keys and the cluster's token work without; a login tries again
            self.store.rotate(clock())

    async def __aenter__(self) -> Logins:
        self._upkeep = asyncio.create_task(self._rotate(), name="signing keys")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._upkeep.cancel()
        await asyncio.gather(self._upkeep, return_exceptions=True)
        self.store.close()

    def user(self, secret: bytes) -> User | None:
        """Whose key or token it is; None: nobody's. Raises Refusal (401) for a token that tells why it isn't good."""
        if not looks_like_one(secret):
            return self._api_keys.user(secret)
        claims = self._tokens.claims(secret)
        login = self.store.login(claims.login)
        account = self.store.account(claims.subject)
        if login is None or account is None or login.name != claims.subject or login.ends <= self._clock():
            raise invalid("its login has ended: log in again")
        return account.user

    async def log_in(self, name: str, password: str, address: str) -> Granted:
        """Raises Refusal: 401, the same for a wrong name and a wrong password; 429."""
        self.throttle.must_wait(name, address)
        self.throttle.failed(name, address)  # before it is checked: tries that come at once count all
        account = self.store.account(name)
        kept = account.password if account is not None else ""
        good = await self.passwords.check(password, kept or None)
        account = self.store.account(name)  # removed, or given another password, while this one was checked?
        if not good or account is None or account.password != kept:
            raise Refusal(401, "login_failed", "this user and password don't belong together")
        self.throttle.succeeded(name, address)
        return self._begin(account, now=self._clock(), lasts=IDLE, address=address)

    async def log_in_by_provider(self, id_token: str, address: str) -> Granted:
        """For whom the OpenID provider vouches. Raises Refusal: 401, 403, 404, 409, 429, 503."""
        if self.provider is None:
            raise no_provider()
        tries = f"by provider from {address}"  # a stranger's bad tokens must not make others wait
        self.throttle.must_wait(tries, address)
        self.throttle.failed(tries, address)
        try:
            person = await self.provider.person(id_token)
        except Refusal as refusal:
            if refusal.status != HTTPStatus.UNAUTHORIZED:
                self.throttle.succeeded(tries, address)
            raise
        self.throttle.succeeded(tries, address)
        now = self._clock()
        account = self.store.account_of(person.subject)
        if account is None:
            account = Account(User(person.name, role=person.role), "", now, person.subject)
            keys = {key.user.name for key in self._api_keys.list()}  # one of the same name is the same person
            if person.name in RESERVED | keys or self.store.account(person.name) is not None:
                text = f"'{person.name}' is someone else's name here; an administrator can remove that user or key"
                raise Refusal(409, "name_taken", text)
            self.store.add(account)
        elif account.user.role != person.role:
            account = replace(account, user=replace(account.user, role=person.role))
            self.store.put(account)
        return self._begin(account, now=now, lasts=min(IDLE, self.provider.session), address=address)

    def _begin(self, account: Account, *, now: float, lasts: float, address: str) -> Granted:
        refresh = _PREFIX + secrets.token_urlsafe(32)
        name = account.user.name
        login = Login(secrets.token_hex(12), name, _digest(refresh), b"", now, now, now + lasts, address)
        self.store.begin(login, now)
        return self._grant(account, login.id, refresh)

    def renew(self, given: str) -> Granted:
        """A new token. Raises Refusal (401)."""
        now, digest = self._clock(), _digest(given)
        login = self.store.login_of(digest) if given.startswith(_PREFIX) else None
        account = self.store.account(login.name) if login is not None else None
        if login is None or account is None or login.ends <= now:
            raise invalid("its login has ended: log in again")
        if digest == login.previous and now - login.refreshed > AGAIN:
            self.store.end(login.id)
            self._note(f"a refresh token of '{login.name}' came a second time: someone else has it; the login ends")
            raise invalid("it was used before, so that someone else may have it: the login has ended, log in again")
        refresh = _PREFIX + secrets.token_urlsafe(32)
        if not self.store.renew(login, _digest(refresh), now, self._lasts(account, login, now)):
            raise Refusal(409, "renewed_meanwhile", "this login was renewed at the same moment; try again")
        return self._grant(account, login.id, refresh)

    def _lasts(self, account: Account, login: Login, now: float) -> float:
        """Whom a provider vouches for is asked for again in time: it may not do so any more."""
        if not account.subject:
            return now + IDLE
        session = self.provider.session if self.provider is not None else 0.0
        return min(now + IDLE, login.begun + session)

    def log_out(self, secret: bytes) -> None:
        """What came with a key or the cluster's token isn't logged in: nothing ends."""
        if looks_like_one(secret):
            self.store.end(self._tokens.claims(secret).login)

    async def add(self, user: User, password: str) -> Account:
        """Raises Refusal: 400, 409."""
        if user.name in RESERVED:
            raise Refusal(409, "name_taken", f"'{user.name}' is a name of the gateway's own; choose another")
        account = Account(user, await self.passwords.make(password, user.name), self._clock())
        self.store.add(account)
        return account

    async def change(self, name: str, changed: Callable[[User], User], password: str | None) -> Account:
        """A new password ends all logins. Raises Refusal: 400, 404."""
        known = self.known(name)
        if known.subject and password is not None:
            raise Refusal(409, "no_password", f"'{name}' logs in by the OpenID provider, and has no password here")
        kept = await self.passwords.make(password, name) if password is not None else known.password
        account = replace(self.known(name), password=kept)
        account = replace(account, user=changed(account.user))
        self.store.put(account)
        if password is not None:
            self.store.end_all(name)
        return account

    async def change_password(self, user: User, old: str, new: str, address: str) -> None:
        """One's own; all logins end. Raises Refusal: 400, 403, 404, 429."""
        account = self.known(user.name)
        self.throttle.must_wait(user.name, address)
        self.throttle.failed(user.name, address)
        if not await self.passwords.check(old, account.password or None):
            raise Refusal(403, "login_failed", "the old password is another one")
        self.throttle.succeeded(user.name, address)
        await self.change(user.name, lambda it: it, new)

    def known(self, name: str) -> Account:
        """Raises Refusal (404)."""
        account = self.store.account(name)
        if account is None:
            raise no_user(name)
        return account

    def now(self) -> float:
        return self._clock()

    def jwks(self) -> dict[str, Any]:
        return jwks(self.store.keys())

    def _grant(self, account: Account, login: str, refresh: str) -> Granted:
        now = self._clock()
        key = signing(self.store.keys(), now)
        if key is None:
            self.store.rotate(now)
            key = signing(self.store.keys(), now)
        assert key is not None
        token, ends = self._tokens.issue(key, account.user.name, account.user.role, login)
        return Granted(account.user, token, ends, refresh)

    async def _rotate(self) -> None:
        while True:
            with contextlib.suppress(Refusal):  # the disk doesn't take it: the next hour may be better
                self.store.rotate(self._clock())
                self._tokens.forget(self.store.keys())
            await asyncio.sleep(_HOUR)


def no_provider() -> Refusal:
    return Refusal(404, "no_provider", "this cluster has no OpenID provider: security.oidc in cluster.yaml names one")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
