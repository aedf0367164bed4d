"""secrets.yaml beside cluster.yaml, encrypted in Ansible Vault's format: `ansible-vault view secrets.yaml` reads it.

The password is $CLUSTER_AI_VAULT_PASSWORD, or stands in the file $CLUSTER_AI_VAULT_PASSWORD_FILE, or in
.cluster-ai/vault-password, which is made at the first need. Ansible is imported only when the vault is opened: a run
with nothing to do has no use for it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster_ai.errors import ConfigError

PASSWORD, PASSWORD_FILE = "CLUSTER_AI_VAULT_PASSWORD", "CLUSTER_AI_VAULT_PASSWORD_FILE"


class Vault:
    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """folder: where cluster.yaml is. environment: os.environ."""
        self.path = folder / "secrets.yaml"
        self._own = folder / ".cluster-ai" / "vault-password"
        self._environment = os.environ if environment is None else environment

    def exists(self) -> bool:
        return self.path.exists()

    def read(self) -> dict[str, str]:
        """What is in it; empty when there is none yet."""
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"can't be read: {error.strerror}", where=str(self.path)) from error
        import yaml
        from ansible.errors import AnsibleError

        lib = self._lib(self.password(make=False))
        if not sealed.startswith(b"$ANSIBLE_VAULT;"):
            raise ConfigError(
                "is not encrypted", where=str(self.path), remedy=f"ansible-vault encrypt {self.path.name}"
            )
        try:
            found = yaml.safe_load(lib.decrypt(sealed))
        except (AnsibleError, ValueError) as error:
            remedy = (
                f"The password is taken from ${PASSWORD}, the file in ${PASSWORD_FILE}, or {self._own}, in this order."
            )
            raise ConfigError("the vault's password doesn't open this", where=str(self.path), remedy=remedy) from error
        except yaml.YAMLError as error:
            raise ConfigError("what is encrypted in it is not YAML", where=str(self.path)) from error
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ConfigError("what is encrypted in it is not a mapping of names to texts", where=str(self.path))
        return found

    def write(self, content: Mapping[str, str]) -> None:
        import yaml

        plain = yaml.safe_dump(dict(content), default_flow_style=False, sort_keys=True).encode()
        _write(self.path, bytes(self._lib(self.password(make=True)).encrypt(plain)))

    def password(self, *, make: bool) -> bytes:
        if given := self._environment.get(PASSWORD):
            return given.encode()
        named = self._environment.get(PASSWORD_FILE)
        path = Path(named) if named else self._own
        try:
            found = path.read_bytes().strip()
        except OSError as error:
            if named or not make or not isinstance(error, FileNotFoundError):
                what = f"the vault's password can't be read: {error.strerror}"
                remedy = f"Set ${PASSWORD} or ${PASSWORD_FILE}, or copy the file from where the cluster was set up."
                raise ConfigError(what, where=str(path), remedy=remedy) from error
            found = secrets.token_urlsafe(32).encode()
            _write(path, found + b"\n")
        if not found:
            raise ConfigError("the vault's password is empty", where=str(path))
        return found

    def _lib(self, password: bytes) -> Any:
        from ansible.constants import DEFAULT_VAULT_IDENTITY
        from ansible.parsing.vault import VaultLib, VaultSecret

        return VaultLib([(DEFAULT_VAULT_IDENTITY, VaultSecret(password))])


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and for its owner only from the first byte on."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
