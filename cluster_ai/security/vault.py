"""secrets.yaml beside cluster.yaml, encrypted in Ansible Vault's format: `ansible-vault view secrets.yaml` reads it.

Its password comes from where password.py says. Ansible is imported only when the vault is opened: a run with nothing to
do has no use for it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster_ai.config.model import Config, Security
from cluster_ai.errors import ConfigError
from cluster_ai.security import password
from cluster_ai.security.files import write
from cluster_ai.security.password import FILE_VARIABLE as PASSWORD_FILE
from cluster_ai.security.password import VARIABLE as PASSWORD

__all__ = ["PASSWORD", "PASSWORD_FILE", "Vault", "parse"]


class Vault:
    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, security: Security | None = None
    ) -> None:
        """folder: where cluster.yaml is. environment: os.environ."""
        self.path = folder / "secrets.yaml"
        self.source = password.source(
            folder, security or Security(), os.environ if environment is None else environment
        )

    @classmethod
    def of(cls, config: Config) -> Vault:
        return cls(config.path.resolve().parent, security=config.security)

    def exists(self) -> bool:
        return self.path.exists()

    def state(self) -> str:
        """A hash of the file as it is: another one when somebody else has written it."""
        return hashlib.sha256(self._sealed()).hexdigest()

    def read(self) -> dict[str, str]:
        """What is in it; empty when there is none yet."""
        sealed = self._sealed()
        if not sealed:
            return {}
        if not sealed.startswith(b"$ANSIBLE_VAULT;"):
            remedy = f"ansible-vault encrypt {self.path.name}"
            raise ConfigError("is not encrypted", where=str(self.path), remedy=remedy)
        self._settle(sealed)
        opened = _opened(sealed, self.source.read())
        if opened is None:
            what = f"the vault's password, from {self.source}, doesn't open this"
            remedy = (
                f"The password is taken from ${PASSWORD}, the file in ${PASSWORD_FILE}, what security in cluster.yaml "
                "names, or .cluster-ai/vault-password, in this order."
            )
            raise ConfigError(what, where=str(self.path), remedy=remedy)
        return parse(opened.decode(errors="replace"), str(self.path))

    def write(self, content: Mapping[str, str], *, over: str | None = None) -> None:
        """over: the `state` that it was read in; where somebody else has written since, nothing is."""
        if over is not None and self.state() != over:
            remedy = "nothing was written; do it again"
            raise ConfigError("was changed meanwhile by somebody else", where=str(self.path), remedy=remedy)
        write(self.path, _seal(content, self.source.make()))

    def change(self, made: Callable[[Mapping[str, str]], Mapping[str, str]]) -> dict[str, str]:
        """Write what is made of its content, which is returned; where somebody else has written meanwhile, nothing is.

        Of two that make a CA at once, one would lose what the other uses already.
        """
        state, found = self.state(), self.read()
        new = dict(made(found))
        if new != found:
            self.write(new, over=state)
        return new

    def rotate(self, given: bytes | None = None) -> None:
        """Encrypt it anew, by a new password, which takes the place of the old one where that stands in a file.

        given: None makes one. Killed in between, the next `read` ends what was begun: the new password is kept beside
        the old one before secrets.yaml is replaced, and takes its place after.
        """
        content = self.read()
        if not self.exists():
            raise ConfigError("there are no secrets yet", where=str(self.path), remedy="cluster-ai apply makes them")
        fresh = given or password.new()
        sealed = _seal(content, fresh)
        if beside := self._beside:
            write(beside, fresh + b"\n")
        elif given is None:
            raise ConfigError(
                f"its password comes from {self.source}, where this can't put a new one",
                where=str(self.path),
                remedy="give the new one in a file: --new-password-file FILE",
            )
        write(self.path, sealed)
        self._settle(sealed)

    @property
    def _beside(self) -> Path | None:
        """Where a new password waits while secrets.yaml is being replaced."""
        file = self.source.file
        return file.resolve().with_name(f"{file.name}.new") if file else None

    def _settle(self, sealed: bytes) -> None:
        """A new password that opens the file becomes the password; one that doesn't was never used, and goes."""
        beside = self._beside
        if beside is None or not beside.exists():
            return
        assert self.source.file
        if _opened(sealed, password.read_file(beside, private=True)) is None:
            beside.unlink()
        else:
            beside.replace(self.source.file.resolve())

    def _sealed(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ConfigError(f"can't be read: {error.strerror}", where=str(self.path)) from error


def parse(text: str, where: str) -> dict[str, str]:
    """What a decrypted secrets.yaml says: names, and a text each."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:  # its own message quotes the line, which may be secret
        line = f"{where}:{error.problem_mark.line + 1}" if error.problem_mark else where
        problem = re.sub(r"[\"'].*", "...", error.problem or "", flags=re.DOTALL)
        raise ConfigError(f"what is encrypted in it is not YAML: {problem}", where=line) from None
    except yaml.YAMLError:
        raise ConfigError("what is encrypted in it is not YAML", where=where) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError("what is encrypted in it is not a mapping of names to texts", where=where)
    for name, value in found.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
            what = f"{name!r} is no name of a secret: letters, digits and _ . - may stand in one"
            raise ConfigError(what, where=where)
        if not isinstance(value, str):
            raise ConfigError(f"{name} is not a text", where=where, remedy="put it in quotation marks")
        if not value.strip():
            raise ConfigError(f"{name} is empty", where=where, remedy="give it a value, or take it out")
    return found


def _seal(content: Mapping[str, str], by: bytes) -> bytes:
    import yaml

    plain = yaml.safe_dump(dict(content), default_flow_style=False, sort_keys=True, allow_unicode=True).encode()
    return bytes(_lib(by).encrypt(plain))


def _opened(sealed: bytes, by: bytes) -> bytes | None:
    """What is in a file; None where the password doesn't open it."""
    from ansible.errors import AnsibleError

    try:
        return bytes(_lib(by).decrypt(sealed))
    except (AnsibleError, ValueError):
        return None


def _lib(by: bytes) -> Any:
    from ansible.constants import DEFAULT_VAULT_IDENTITY
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib([(DEFAULT_VAULT_IDENTITY, VaultSecret(by))])
