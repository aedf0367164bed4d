"""Commands on the host that pyinfra is at, as root. What is refused, in whichever way, becomes a Failure."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from paramiko import SSHException
from pyinfra.api import FactBase, Host, QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_fact

from cluster_ai import layout

MINUTES = 60


class Failure(Exception):  # noqa: N818 (it is one host's, told beside the others)
    """What went wrong on one host. said: what ssh, sudo or rsync had to say, for the one who words it."""

    def __init__(self, what: str, *, remedy: str = "", kind: str = "rollout", said: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy, self.kind, self.said = what, remedy, kind, said

    def as_dict(self) -> dict[str, str]:
        return {"what": self.what, "remedy": self.remedy, "kind": self.kind, "said": self.said}


class Privilege(FactBase[tuple[str, str]]):  # type: ignore[misc]
    """How to become root on the host ("root", "sudo", "password" or "none"), and the name of the user that we are."""

    def command(self) -> str:
        return (
            'if [ "$(id -u)" = 0 ]; then echo root; elif ! command -v sudo >/dev/null; then echo none; '
            "elif sudo -n true 2>/dev/null; then echo sudo; else echo password; fi; id -un"
        )

    def process(self, output: list[str]) -> tuple[str, str]:
        how, user = output[-2:]
        return how, user


class Held(FactBase[dict[str, Any]]):  # type: ignore[misc]
    """What a host has already of a wanted release: the answer of receiver.py's `inspect`."""

    def command(self, receive: str) -> str:
        return receive

    def process(self, output: list[str]) -> dict[str, Any]:
        return dict(json.loads(output[-1]))


@cache
def script(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


def as_root(host: Host) -> tuple[list[str], list[str], str]:
    """(words before a command, lines before its standard input, our user). Found once for each host.

    The password goes through standard input: pyinfra's own `_sudo_password` is in a command line that others can see.
    """
    known: tuple[list[str], list[str], str] | None = host.connector_data.get("cluster_ai_root")
    if known is None:
        known = host.connector_data["cluster_ai_root"] = _find_root(host)
    return known


def _find_root(host: Host) -> tuple[list[str], list[str], str]:
    found = get_fact(host.state, host, Privilege, kwargs={"_sudo": False}, apply_failed_hosts=False)
    if found is None:
        raise Failure(
            "runs no commands for us", kind="host", remedy="see what a plain command says there: ssh HOST true"
        )
    how, user = found
    if how == "root":
        return [], [], user
    if how == "sudo":
        return ["sudo", "-n", "--"], [], user
    password = host.data.get("cluster_ai_sudo_password") or os.environ.get("CLUSTER_AI_SUDO_PASSWORD")
    if how == "none" or not password:
        said = "sudo: not found" if how == "none" else "sudo: a password is required"
        raise Failure("we can't become root", kind="host", said=said)
    sudo = ["sudo", "-S", "-k", "-p", "''", "--"]
    ok, _, err = run(host, StringCommand("LC_ALL=C", *sudo, "true"), [password], timeout=MINUTES)
    if not ok:
        raise Failure("we can't become root", kind="host", said=err or "Sorry, try again")
    return sudo, [password], user


class Secret(list[str]):
    """Lines for standard input that no log shows."""

    def __repr__(self) -> str:
        return "***"


def run(host: Host, command: StringCommand, stdin: list[str], *, timeout: int) -> tuple[bool, list[str], str]:
    """(exit status 0, lines of standard output, standard error)."""
    try:
        ok, output = host.run_shell_command(command, _stdin=stdin, _timeout=timeout)
    except TimeoutError:
        raise Failure(
            f"gave no answer in {timeout} s", kind="host", remedy="see that it is up and not overloaded"
        ) from None
    except (OSError, EOFError, SSHException, PyinfraError) as error:
        raise Failure(
            f"the connection was lost ({error or type(error).__name__})",
            kind="host",
            remedy="see that it is up, then run it again",
            said=str(error),
        ) from error
    return ok, output.stdout_lines, output.stderr


def receiver(prefix: list[str]) -> StringCommand:
    return StringCommand(*prefix, "python3", "-I", "-c", QuoteString(script("receiver.py")))


def order(host: Host, do: str, *, timeout: int, **fields: Any) -> dict[str, Any]:
    """Have receiver.py do something there."""
    prefix, before, _ = as_root(host)
    ok, lines, err = run(host, receiver(prefix), [*before, json.dumps(envelope(do, fields))], timeout=timeout)
    return answer(json.loads(lines[-1]) if ok and lines else None, err)


def held(host: Host, **fields: Any) -> dict[str, Any]:
    prefix, before, _ = as_root(host)
    stdin = Secret([*before, json.dumps(envelope("inspect", fields))])
    kwargs = {"receive": receiver(prefix), "_stdin": stdin, "_sudo": False, "_timeout": 10 * MINUTES}
    return answer(get_fact(host.state, host, Held, kwargs=kwargs, apply_failed_hosts=False), "")


def envelope(do: str, fields: dict[str, Any]) -> dict[str, Any]:
    places = {"root": layout.ROOT, "state": layout.STATE, "etc": layout.CREDENTIALS, "system": layout.SYSTEM}
    return {"do": do, **{name: str(path) for name, path in places.items()}, **fields}


def answer(found: dict[str, Any] | None, said: str) -> dict[str, Any]:
    if found is None:
        last = (said.strip().splitlines() or ["no answer"])[-1]
        raise Failure(
            f"can't be worked on: {last}", kind="host", said=said, remedy="see that it has python3, and room in /tmp"
        )
    if "error" in found:
        raise Failure(found["error"], remedy=found["remedy"], kind=found["kind"])
    return found
