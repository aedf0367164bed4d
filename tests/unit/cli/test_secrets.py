"""The whole command, and Ansible's own beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster_ai.config.model import Security
from cluster_ai.errors import ConfigError, ExitCode
from cluster_ai.security.files import write
from cluster_ai.security.password import FILE_VARIABLE, VARIABLE
from cluster_ai.security.vault import Vault, _seal
from tests.unit.config.test_load import SEED

ANSIBLE_VAULT = Path(sys.executable).parent / "ansible-vault"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (VARIABLE, FILE_VARIABLE, "VISUAL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "cluster.yaml").write_text(SEED)
    Vault(tmp_path, {}).write({"gateway_token": "planted-token", "ca_key": "-----BEGIN\nplanted\n-----END\n"})
    return tmp_path


@pytest.fixture
def secrets(folder: Path) -> Command:
    """secrets(*words, typed=..., **environment): `cluster-ai secrets ...`, without a terminal."""

    def run(*words: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cluster_ai", "--config", str(folder / "cluster.yaml"), "secrets", *words],
            input=typed,
            text=True,
            capture_output=True,
            env=os.environ | environment,
            timeout=120,
            check=False,
        )

    return run


def editor(folder: Path, script: str) -> str:
    """An editor that does what a shell script says; $1 is the file."""
    path = folder / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_list_tells_names_and_no_values(secrets: Command) -> None:
    assert secrets("list").stdout == "ca_key\ngateway_token\n"
    assert json.loads(secrets("list", "--json").stdout) == ["ca_key", "gateway_token"]


def test_what_is_set_is_got_and_ansible_reads_it_too(secrets: Command, folder: Path) -> None:
    done = secrets("set", "webhook", typed="über: 'all'\n")
    assert (done.returncode, said(done)) == (0, "")
    assert secrets("get", "webhook").stdout == "über: 'all'"
    assert secrets("get", "ca_key").stdout == "-----BEGIN\nplanted\n-----END\n"
    viewed = subprocess.run(
        [
            ANSIBLE_VAULT,
            "view",
            "--vault-password-file",
            folder / ".cluster-ai/vault-password",
            folder / "secrets.yaml",
        ],
        env=os.environ | {"ANSIBLE_HOME": str(folder / "ansible"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gateway_token: planted-token\n" in viewed.stdout
    assert "über: ''all''" in viewed.stdout


def test_a_name_that_is_not_there_and_a_value_that_is_empty_are_refused(secrets: Command, folder: Path) -> None:
    before = (folder / "secrets.yaml").read_bytes()
    assert secrets("get", "nothing").returncode == ExitCode.USAGE
    assert secrets("set", "a b", typed="x").returncode == ExitCode.CONFIG
    empty = secrets("set", "a", typed="\n")
    assert (empty.returncode, empty.stderr.splitlines()[0]) == (ExitCode.CONFIG, f"{folder}/secrets.yaml: a is empty")
    assert (folder / "secrets.yaml").read_bytes() == before


def test_an_editor_gets_a_file_that_nobody_else_reads_and_that_is_gone_afterwards(
    secrets: Command, folder: Path
) -> None:
    seen = folder / "seen"
    script = f"""stat -c '%a %n' "$1" "$(dirname "$1")" >{seen}; sed -i 's/planted-token/better/; $a new: x' "$1" """
    done = secrets("edit", EDITOR=editor(folder, script))
    assert done.returncode == 0, said(done)
    assert done.stdout == "added: new\nchanged: gateway_token\n"
    (mode, file), (outer, path) = (line.split() for line in seen.read_text().splitlines())
    assert (mode, outer) == ("600", "700")
    assert not Path(file).exists()
    assert not Path(path).exists()
    assert Vault(folder, {}).read() == {
        "gateway_token": "better",
        "new": "x",
        "ca_key": "-----BEGIN\nplanted\n-----END\n",
    }


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("echo 'a: {' >\"$1\"", "not YAML"),
        ("echo 'a: *planted-alias' >\"$1\"", "not YAML: found undefined alias ..."),
        ("echo '[1]' >\"$1\"", "not a mapping"),
        ("echo 'a: 1' >\"$1\"", "a is not a text"),
        ("echo 'secret-name with blanks: x' >\"$1\"", "no name of a secret"),
        ('echo x >"$1"; exit 3', "ended with 3"),
        ('rm "$1"', "no text"),
    ],
)
def test_what_cannot_be_right_is_not_written(secrets: Command, folder: Path, script: str, what: str) -> None:
    before = (folder / "secrets.yaml").read_bytes()
    done = secrets("edit", EDITOR=editor(folder, script))
    assert done.returncode in (ExitCode.USAGE, ExitCode.CONFIG)
    assert what in done.stderr
    assert "planted" not in said(done)
    assert (folder / "secrets.yaml").read_bytes() == before


def test_an_edit_that_changes_nothing_writes_nothing(secrets: Command, folder: Path) -> None:
    before = (folder / "secrets.yaml").read_bytes()
    assert secrets("edit", EDITOR="true").stdout == "Nothing is changed.\n"
    assert (folder / "secrets.yaml").read_bytes() == before


def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(secrets: Command, folder: Path) -> None:
    other = folder / "other"
    other.write_bytes((folder / "secrets.yaml").read_bytes() + b"\n")
    done = secrets("edit", EDITOR=editor(folder, f'cp {other} {folder}/secrets.yaml; echo "a: b" >>"$1"'))
    assert done.returncode == ExitCode.CONFIG
    assert "changed meanwhile" in done.stderr
    assert (folder / "secrets.yaml").read_bytes() == other.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_killed_in_between_it_leaves_nothing_in_clear(folder: Path, number: signal.Signals) -> None:
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    before = (folder / "secrets.yaml").read_bytes()
    script = f'echo "$$ $1" >{fifo}; exec sleep 300'
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster_ai", "--config", str(folder / "cluster.yaml"), "secrets", "edit"],
        env=os.environ | {"EDITOR": editor(folder, script)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pid, path = fifo.read_text().split()
    try:
        assert "planted-token" in Path(path).read_text()
        process.send_signal(number)
        process.wait(60)
        deadline = time.monotonic() + 60
        while Path(path).parent.exists():
            assert time.monotonic() < deadline
            os.sched_yield()
    finally:
        with contextlib.suppress(ProcessLookupError):  # where it could still be ended by the command itself
            os.kill(int(pid), signal.SIGKILL)
        process.wait(60)
    assert (folder / "secrets.yaml").read_bytes() == before


def test_rotation_puts_a_new_password_in_the_old_ones_place(secrets: Command, folder: Path) -> None:
    file = folder / ".cluster-ai" / "vault-password"
    old, before = file.read_bytes(), Vault(folder, {}).read()
    sealed = (folder / "secrets.yaml").read_bytes()
    done = secrets("rotate")
    assert done.returncode == 0, said(done)
    assert file.read_bytes() != old
    assert file.stat().st_mode & 0o777 == 0o600
    assert (folder / "secrets.yaml").read_bytes() != sealed
    assert Vault(folder, {}).read() == before
    assert file.read_text().strip() not in said(done)
    with pytest.raises(ConfigError, match="doesn't open"):
        Vault(folder, {VARIABLE: old.decode().strip()}).read()
    assert sorted(path.name for path in file.parent.iterdir() if "vault" in path.name) == ["vault-password"]


def test_rotation_where_the_password_comes_from_elsewhere_needs_the_new_one(secrets: Command, folder: Path) -> None:
    old = (folder / ".cluster-ai" / "vault-password").read_text().strip()
    (folder / "new").write_text("second\n")
    done = secrets("rotate", **{VARIABLE: old})
    assert done.returncode == ExitCode.CONFIG
    assert "--new-password-file" in done.stderr
    assert secrets("rotate", "--new-password-file", str(folder / "new"), **{VARIABLE: old}).returncode == 0
    assert Vault(folder, {VARIABLE: "second"}).read()["gateway_token"] == "planted-token"


@pytest.mark.parametrize("replaced", [True, False])
def test_a_rotation_that_was_killed_is_ended_by_the_next_reading(folder: Path, replaced: bool) -> None:
    file = folder / ".cluster-ai" / "vault-password"
    content = Vault(folder, {}).read()
    write(file.with_name("vault-password.new"), b"second\n")
    if replaced:
        write(folder / "secrets.yaml", _seal(content, b"second"))
    assert Vault(folder, {}).read() == content
    assert (file.read_bytes() == b"second\n") is replaced
    assert not file.with_name("vault-password.new").exists()


def test_the_password_may_come_from_a_file_or_a_command_of_cluster_yaml(folder: Path) -> None:
    own = folder / ".cluster-ai" / "vault-password"
    own.rename(folder / "elsewhere")
    named = Security(vault_password_file=folder / "elsewhere")
    asked = Security(vault_password_command="cat elsewhere")
    for security in (named, asked):
        assert Vault(folder, {}, security).read()["gateway_token"] == "planted-token"
        with pytest.raises(ConfigError, match="doesn't open"):
            Vault(folder, {VARIABLE: "of the environment"}, security).read()
    (folder / "elsewhere").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        Vault(folder, {}, named).read()


@pytest.mark.parametrize(
    ("command", "what"), [("false", "ended with 1"), ("true", "nothing"), ("no-such", "run"), ("'", "run")]
)
def test_a_command_that_gives_no_password_is_named(folder: Path, command: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        Vault(folder, {}, Security(vault_password_command=command)).read()
    assert caught.value.where == "cluster.security.vault_password_command"
