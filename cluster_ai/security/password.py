"""Where the password of secrets.yaml comes from, and how another takes its place.

In this order: $CLUSTER_AI_VAULT_PASSWORD; the file in $CLUSTER_AI_VAULT_PASSWORD_FILE; what `security` in cluster.yaml
names, a file or a command; .cluster-ai/vault-password, which is made at the first need.
"""

from __future__ import annotations

import secrets
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_ai.config.model import Security
from cluster_ai.errors import ConfigError
from cluster_ai.security.files import write

VARIABLE, FILE_VARIABLE = "CLUSTER_AI_VAULT_PASSWORD", "CLUSTER_AI_VAULT_PASSWORD_FILE"
TIMEOUT = 120  # seconds for a command, which may ask a person


@dataclass(frozen=True, slots=True)
class Source:
    """One of the places. Exactly one of the three is set."""

    given: str | None = None
    file: Path | None = None
    command: str | None = None
    own: bool = False  # the file may be made
    private: bool = True  # nobody else may read the file
    folder: Path = Path()  # of cluster.yaml

    def __str__(self) -> str:
        if self.given is not None:
            return f"${VARIABLE}"
        return str(self.file) if self.file else f"the command {self.command!r}"

    def read(self) -> bytes:
        if self.given is not None:
            return self.given.encode()
        if self.command is not None:
            return _answer(self.command, self.folder)
        assert self.file
        return read_file(self.file, private=self.private)

    def make(self) -> bytes:
        """Like `read`; our own file is made where it isn't there yet."""
        if not self.own or not self.file or self.file.exists():
            return self.read()
        password = new()
        write(self.file, password + b"\n")
        return password


def source(folder: Path, security: Security, environment: Mapping[str, str]) -> Source:
    """folder: where cluster.yaml is."""
    if given := environment.get(VARIABLE):
        return Source(given=given)
    if named := environment.get(FILE_VARIABLE):
        return Source(file=Path(named), private=False)  # of a CI, which makes it as it likes
    if security.vault_password_file:
        return Source(file=security.vault_password_file)
    if security.vault_password_command:
        return Source(command=security.vault_password_command, folder=folder)
    return Source(file=folder / ".cluster-ai" / "vault-password", own=True)


def new() -> bytes:
    return secrets.token_urlsafe(32).encode()


def read_file(file: Path, *, private: bool) -> bytes:
    """The password in a file. private: one that others may read is refused."""
    try:
        mode = file.stat().st_mode
        found = file.read_bytes().strip()
    except OSError as error:
        remedy = f"Set ${VARIABLE} or ${FILE_VARIABLE}, or copy the file from where the cluster was set up."
        what = f"the vault's password can't be read: {error.strerror}"
        raise ConfigError(what, where=str(file), remedy=remedy) from error
    if private and mode & 0o077 and file.is_file():
        raise ConfigError("others may read the vault's password", where=str(file), remedy=f"chmod 600 {file}")
    if not found:
        raise ConfigError("the vault's password is empty", where=str(file))
    return found


def _answer(command: str, folder: Path) -> bytes:
    where = "cluster.security.vault_password_command"
    try:
        argv = shlex.split(command)
        done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, timeout=TIMEOUT, check=False)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{command!r} can't be run: {error}", where=where) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{command!r} gave no answer in {TIMEOUT} s", where=where) from error
    found = done.stdout.split(b"\n")[0].strip()
    if done.returncode or not found:
        what = f"{command!r} ended with {done.returncode}" if done.returncode else f"{command!r} printed nothing"
        raise ConfigError(what, where=where, remedy="try it by hand in the folder of cluster.yaml")
    return found
