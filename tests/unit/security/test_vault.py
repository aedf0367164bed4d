from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster_ai.errors import ConfigError
from cluster_ai.security.vault import PASSWORD, PASSWORD_FILE, Vault, _lib

ANSIBLE_VAULT = Path(sys.executable).parent / "ansible-vault"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_read_and_stands_nowhere_in_clear(tmp_path: Path) -> None:
    vault = Vault(tmp_path, {})
    assert not vault.exists()
    assert vault.read() == {}
    vault.write({"gateway_token": "geheim", "ca_key": "-----BEGIN\nx\n"})
    assert Vault(tmp_path, {}).read() == {"gateway_token": "geheim", "ca_key": "-----BEGIN\nx\n"}
    assert vault.path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    assert b"geheim" not in vault.path.read_bytes()
    assert (mode(vault.path), mode(tmp_path / ".cluster-ai/vault-password")) == (0o600, 0o600)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cluster-ai", "secrets.yaml"]


@pytest.mark.skipif(not ANSIBLE_VAULT.exists(), reason="ansible-vault is not installed beside Python")
def test_ansibles_own_command_reads_it_and_we_read_what_it_wrote(tmp_path: Path) -> None:
    Vault(tmp_path, {}).write({"gateway_token": "t"})
    password = tmp_path / ".cluster-ai/vault-password"
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "LC_ALL": "C.UTF-8"}

    def run(*words: str | Path) -> str:
        command = [str(ANSIBLE_VAULT), *map(str, words), "--vault-password-file", str(password)]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    assert yaml.safe_load(run("view", tmp_path / "secrets.yaml")) == {"gateway_token": "t"}
    (tmp_path / "secrets.yaml").write_text("gateway_token: theirs\n")
    run("encrypt", tmp_path / "secrets.yaml")
    assert Vault(tmp_path, {}).read() == {"gateway_token": "theirs"}


def test_the_password_comes_from_the_environment_then_from_the_named_file_then_from_our_own(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("from a file\n")
    named = {PASSWORD_FILE: str(tmp_path / "elsewhere")}
    assert Vault(tmp_path, {PASSWORD: "given", **named}).source.read() == b"given"
    assert Vault(tmp_path, named).source.read() == b"from a file"
    own = Vault(tmp_path, {}).source.make()
    assert Vault(tmp_path, {}).source.read() == own
    assert len(own) > 40


def test_a_wrong_password_is_said_with_where_passwords_come_from(tmp_path: Path) -> None:
    Vault(tmp_path, {PASSWORD: "right"}).write({"a": "b"})
    with pytest.raises(ConfigError, match="doesn't open this") as caught:
        Vault(tmp_path, {PASSWORD: "wrong"}).read()
    assert PASSWORD_FILE in caught.value.remedy
    assert caught.value.where.endswith("secrets.yaml")


def test_for_a_vault_that_exists_no_new_password_is_made(tmp_path: Path) -> None:
    Vault(tmp_path, {PASSWORD: "right"}).write({"a": "b"})
    with pytest.raises(ConfigError, match="can't be read"):
        Vault(tmp_path, {}).read()
    assert not (tmp_path / ".cluster-ai").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [("a: b\n", "is not encrypted"), ("$ANSIBLE_VAULT;1.1;AES256\nzz\n", "doesn't open this")],
)
def test_what_is_no_vault_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "secrets.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        Vault(tmp_path, {PASSWORD: "x"}).read()


def test_what_is_no_mapping_of_texts_is_refused(tmp_path: Path) -> None:
    vault = Vault(tmp_path, {PASSWORD: "x"})
    vault.write({"a": "b"})
    vault.path.write_bytes(_lib(b"x").encrypt(b"[1, 2]"))
    with pytest.raises(ConfigError, match="not a mapping"):
        vault.read()


def test_an_empty_password_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        Vault(tmp_path, {PASSWORD_FILE: str(tmp_path / "empty")}).write({})
