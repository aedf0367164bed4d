"""What each user has taken of what they may take: requests and tokens in a minute, requests at once."""

from __future__ import annotations

import math
from collections.abc import Callable

from cluster_ai.gateway.admission.rates import Bucket
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.http import Header, Refusal
from cluster_ai.sizes import counted

_KEPT = 4096  # users; beyond that, those with nothing to remember are forgotten


def limits_of(user: User, cluster: Limits) -> Limits:
    """A key's own limits go before the cluster's; 0 there: none."""
    own = user.limits
    if own is None:
        return cluster

    def one(given: int | None, default: int | None) -> int | None:
        return default if given is None else given or None

    return Limits(
        one(own.requests_per_minute, cluster.requests_per_minute),
        one(own.tokens_per_minute, cluster.tokens_per_minute),
        one(own.max_concurrent, cluster.max_concurrent),
    )


class Person:
    """A user with a limit."""

    __slots__ = ("_limits", "_requests", "_tokens", "at_once", "user")

    def __init__(self, user: User, limits: Limits, now: float) -> None:
        self.at_once = 0
        self.limit(user, limits, now)

    def limit(self, user: User, limits: Limits, now: float) -> None:
        """From now on by these; what runs still counts."""
        self.user, self._limits = user, limits
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None

    def enter(self, now: float) -> None:
        """One more request. Raises Refusal (429), and counts nothing then."""
        most = self._limits.max_concurrent
        if most is not None and self.at_once >= most:
            raise self._refusal(f"{counted(most, 'request')} at once", 1.0, now)
        if self._requests is not None and (wait := self._requests.wait(1.0, now)):
            raise self._refusal(f"{counted(self._requests.per_minute, 'request')} a minute", wait, now)
        if self._tokens is not None and (wait := self._tokens.wait(1.0, now)):
            raise self._refusal(f"{counted(self._tokens.per_minute, 'token')} a minute", wait, now)
        if self._requests is not None:
            self._requests.take(1.0, now)
        self.at_once += 1

    def leave(self, tokens: int, now: float) -> None:
        self.at_once -= 1
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    def headers(self, now: float) -> list[Header]:
        """How much is left, by the names that OpenAI's clients know."""
        found: list[Header] = []
        for name, bucket in ((b"requests", self._requests), (b"tokens", self._tokens)):
            if bucket is not None:
                found += [
                    (b"x-ratelimit-limit-" + name, b"%d" % bucket.per_minute),
                    (b"x-ratelimit-remaining-" + name, b"%d" % max(bucket.left(now), 0.0)),
                    (b"x-ratelimit-reset-" + name, _duration(bucket.refill(now))),
                ]
        return found

    def idle(self, now: float) -> bool:
        """Whether forgetting it forgets nothing."""
        buckets = (self._requests, self._tokens)
        return not self.at_once and not any(bucket.refill(now) for bucket in buckets if bucket is not None)

    def _refusal(self, limit: str, wait: float, now: float) -> Refusal:
        text = f"the limit of user '{self.user.name}' is {limit}; try again in {math.ceil(wait)} s"
        return Refusal(429, "too_many_requests", text, [(b"retry-after", b"%d" % math.ceil(wait)), *self.headers(now)])


class People:
    def __init__(self, cluster: Limits, clock: Callable[[], float]) -> None:
        self._cluster, self._clock = cluster, clock
        self._known: dict[tuple[str, str], Person] = {}
        self._unlimited = cluster == Limits()

    def find(self, user: User) -> Person | None:
        """None: nothing limits them."""
        if self._unlimited and user.limits is None:
            return None
        key = (user.name, user.source)
        known = self._known.get(key)
        if known is not None and known.user.limits == user.limits:  # else whoever comes by two ways would begin anew
            return known
        now, limits = self._clock(), limits_of(user, self._cluster)
        if limits == Limits():
            return None
        if known is not None:  # its key was made anew, with other limits
            known.limit(user, limits, now)
            return known
        if len(self._known) >= _KEPT:
            self._known = {k: p for k, p in self._known.items() if not p.idle(now)}
        person = self._known[key] = Person(user, limits, now)
        return person


def _duration(seconds: float) -> bytes:
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    whole = math.ceil(seconds)
    return b"%dm%ds" % divmod(whole, 60) if whole >= 60 else b"%ds" % whole
