"""What is done from here, in the audit log beside cluster.yaml: `.cluster-ai/audit/`, chained as the gateway's is.

The second place is this machine's syslog, where it has one. Never a secret's value.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import logging.handlers
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cluster_ai.audit.chain import Event
from cluster_ai.audit.file import AuditFile
from cluster_ai.errors import ExitCode

FOLDER = Path(".cluster-ai") / "audit"  # beside cluster.yaml
_SYSLOG = "/dev/log"
_CHANGING = frozenset(
    (
        "apply",
        "rollback",
        "rollouts",
        "cordon",
        "drain",
        "undrain",
        "keys",
        "users",
        "secrets",
        "certs",
        "trust",
        "join-token",
    )
)
_LEADING = frozenset(("apply", "rollback", "rollouts"))  # also told when they begin: the head gets a copy at their end
_LOOKING = frozenset(("list", "show", "status"))
_USERINFO = re.compile(r"//[^/@\s]*@")
_NAMES_ALONE = 2  # words after `secrets` that are told: what is done, and the secret's name


def folder_of(config: Path) -> Path:
    return config.resolve().parent / FOLDER


def event_of(words: Sequence[str]) -> Event | None:
    """words: the command line, `--config` aside. None: it changes nothing that is told of."""
    if not words or words[0] not in _CHANGING or {"-h", "--help"} & set(words):
        return None
    said = [word for word in words[1:] if not word.startswith("-")]
    if said and said[0] in _LOOKING:
        return None
    if words[0] == "rollouts" and not {"resume", "undo"} & set(said):
        return None
    on = " ".join(said[:_NAMES_ALONE] if words[0] == "secrets" else words[1:])
    on = _USERINFO.sub("//", on)  # no option of ours takes a secret, but a URL may have one
    return Event(_who(), f"cli.{words[0]}", on=on[:500], address=socket.gethostname(), role="cli")


@contextlib.contextmanager
def audited(config: Path, words: Sequence[str]) -> Iterator[list[int]]:
    """Around a command; it puts its exit code into the list. Where there is no cluster.yaml, nothing is kept."""
    event = event_of(words)
    ended: list[int] = []
    if event is not None and words[0] in _LEADING and config.exists():
        _write(folder_of(config), replace(event, result="begun"))
    try:
        yield ended
    finally:
        if event is not None and config.exists():
            code = ended[0] if ended else ExitCode.INTERNAL
            result = "done" if code == ExitCode.OK else "failed"
            note = "" if code == ExitCode.OK else f"exit code {int(code)}"
            _write(folder_of(config), replace(event, result=result, note=note))


def _write(folder: Path, event: Event) -> None:
    try:
        lines = AuditFile(folder).write(event)
    except OSError as error:
        print(f"{folder}: this command isn't in the audit log: {error}", file=sys.stderr)
        return
    if Path(_SYSLOG).exists():
        with contextlib.suppress(OSError):
            handler = logging.handlers.SysLogHandler(_SYSLOG, logging.handlers.SysLogHandler.LOG_AUTHPRIV)
            handler.ident = "cluster-ai: "
            try:
                for line in lines:
                    handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))
            finally:
                handler.close()


def _who() -> str:
    """Whose session it is, also under sudo."""
    with contextlib.suppress(OSError, KeyError):
        name = getpass.getuser()
        behind = os.environ.get("SUDO_USER")
        return f"{behind} as {name}" if behind and behind != name else name
    return f"uid {os.getuid()}"
