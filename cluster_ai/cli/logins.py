"""Who is logged in at which gateway: kept in the user's state folder, for every command that asks one.

A token lasts a quarter of an hour; whoever uses it renews it, one command at a time, since a refresh token works once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster_ai.errors import ConfigError

FILE = "logins.json"
_EARLY = 60.0  # seconds before its end in which a token is renewed


@dataclass(frozen=True, slots=True)
class Login:
    """ends: seconds since 1970, by this machine's clock."""

    user: str
    token: str
    ends: float
    refresh: str


def login_of(said: dict[str, Any]) -> Login:
    """From a gateway's answer."""
    return Login(said["user"], said["token"], time.time() + said["expires_in"], said["refresh"])


def folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "cluster-ai"


def kept(url: str) -> Login | None:
    found = _read().get(_key(url))
    return Login(**found) if found is not None else None


def before_tls(url: str) -> Login | None:
    """What is kept of an https:// gateway from when it spoke plain HTTP."""
    old = _plain(url)
    return kept(old) if old else None


def anywhere() -> bool:
    return bool(_read())


def secrets() -> list[str]:
    """All that must not be told."""
    return [word for login in _read().values() for word in (login["token"], login["refresh"])]


def keep(url: str, login: Login) -> None:
    with _changing() as logins:
        logins[_key(url)] = asdict(login)
        logins.pop(_plain(url), None)


def forget(url: str) -> Login | None:
    """What was kept; None: nothing. Of before TLS nothing is left either."""
    with _changing() as logins:
        logins.pop(_plain(url), None)
        found = logins.pop(_key(url), None)
    return Login(**found) if found is not None else None


def token(url: str, renew: Callable[[str], Login | None]) -> str | None:
    """One that is good for now; None: nobody is logged in there. renew: gets the next login with a refresh token; None:
    the gateway doesn't take it any more."""
    login = kept(url)
    if login is None or time.time() < login.ends - _EARLY:
        return login.token if login is not None else None
    with _changing() as logins:
        found = logins.get(_key(url))  # another command may have renewed it
        if found is not None and time.time() >= found["ends"] - _EARLY:
            login = renew(found["refresh"])
            if login is None:
                del logins[_key(url)]
            else:
                logins[_key(url)] = asdict(login)
        found = logins.get(_key(url))
    return found["token"] if found is not None else None


def _key(url: str) -> str:
    return url.rstrip("/")


def _plain(url: str) -> str:
    """Of the same gateway before it spoke TLS; empty: this is of one that doesn't."""
    host = _key(url).removeprefix("https://")
    return f"http://{host}" if host != _key(url) else ""


def _read() -> dict[str, Any]:
    path = folder() / FILE
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"can't be read: {error}", where=str(path), remedy=f"remove it and log in anew: rm {path}"
        ) from error


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, Any]]:
    path = folder() / FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.parent / f"{FILE}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        logins = _read()
        before = json.dumps(logins)
        yield logins
        if json.dumps(logins) != before:
            new = path.with_name(f"{FILE}.new")
            new.unlink(missing_ok=True)
            file = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(file, "w") as out:
                json.dump(logins, out)
            new.replace(path)
    finally:
        os.close(lock)
