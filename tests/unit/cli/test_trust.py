"""The whole command against real SSH servers; where a person is asked, on a real terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster_ai.config import load
from cluster_ai.errors import ExitCode, HostKeyError
from cluster_ai.inventory import known_hosts
from cluster_ai.inventory.known_hosts import HostKey
from cluster_ai.provision.ssh import calls, run
from cluster_ai.rollout.scope import Scope
from cluster_ai.security.credentials import load_or_create
from tests.rig.sshd import servers

CONFIG = """\
version: '1.0'
cluster:
  name: 'c'
  scheduler: {{host: '127.0.0.1'}}
  workers: [{{name: 'w', host: '127.0.0.1', resources: {{cpu: 1, memory: '1GB'}}}}]
  ssh: {{user: 'nobody', port: {port}}}
"""


@pytest.fixture
def server() -> Iterator[Callable[[], int]]:
    with servers() as start:
        yield start


@pytest.fixture
def config(tmp_path: Path, server: Callable[[], int]) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(CONFIG.format(port=server()))
    return path


def command(config: Path, *words: str, answer: str | None = None) -> tuple[int, str]:
    """Exit code, and all that was said. answer: there is a terminal, and this is typed."""
    argv = [sys.executable, "-m", "cluster_ai", "--config", str(config), *words]
    ours, theirs = pty.openpty()
    try:
        if answer is not None:
            os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL if answer is None else theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"HOME": str(config.parent)},
            timeout=120,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout


def offered(config: Path) -> HostKey:
    key = known_hosts.offered(load(config).ssh, ["127.0.0.1"])["127.0.0.1"]
    assert isinstance(key, HostKey)
    return key


def error(config: Path) -> HostKeyError | None:
    """What speaking to the host gives, when it is about its key."""
    answer = run(calls(Scope(load(config)).argv(), "true"))["w"]
    return answer if isinstance(answer, HostKeyError) else None


def test_a_person_sees_the_fingerprint_and_decides(config: Path) -> None:
    key, file = offered(config), config.parent / "known_hosts"
    code, said = command(config, "trust", answer="n")
    assert code == ExitCode.HOST
    assert key.fingerprint in said
    assert not file.exists()
    assert (unknown := error(config))
    assert not unknown.changed
    assert "cluster-ai trust w" in unknown.remedy
    code, said = command(config, "trust", "w", answer="y")
    assert (code, key.fingerprint in said) == (0, True)
    assert known_hosts.find(file, key.name) == (key,)
    assert error(config) is None
    code, said = command(config, "trust")
    assert (code, "believed already" in said) == (0, True)


def test_without_a_terminal_only_a_fingerprint_that_is_given_is_believed(config: Path) -> None:
    key, file = offered(config), config.parent / "known_hosts"
    code, said = command(config, "trust", "w")
    assert code == ExitCode.HOST
    assert "no terminal" in said
    code, said = command(config, "trust", "w", "--fingerprint", "SHA256:" + "A" * 43)
    assert code == ExitCode.HOST
    assert "not what was given" in said
    assert not file.exists()
    assert command(config, "trust", "w", "--fingerprint", key.fingerprint)[0] == 0
    assert known_hosts.find(file, key.name) == (key,)


def test_a_key_that_changed_is_an_error_with_both_fingerprints_until_somebody_accepts_it(
    config: Path, server: Callable[[], int]
) -> None:
    old, file = offered(config), config.parent / "known_hosts"
    config.write_text(CONFIG.format(port=server()))
    load_or_create(load(config))
    new = offered(config)
    known_hosts.pin(file, [HostKey(new.name, old.kind, old.blob)])
    changed = error(config)
    assert changed
    assert changed.changed
    assert old.fingerprint in changed.what
    assert new.fingerprint in changed.what
    assert f"{file}:1" in changed.what
    assert "cluster-ai trust w" in changed.remedy
    for asked in ("status", "plan"):
        code, said = command(config, asked)
        assert (asked, code) == (asked, {"status": 5, "plan": 3}[asked]), said
        words = " ".join(said.split())
        assert f"shows {new.fingerprint}, but {file}:1 has {old.fingerprint}" in words
        assert "when it is this one: cluster-ai trust w. If nobody knows of it, somebody may stand between" in words
        assert asked != "status" or "shows another SSH host key" in words
    code, said = command(config, "trust", "w", answer="y")
    assert code == 0
    assert "IS ANOTHER ONE" in said
    assert old.fingerprint in said
    assert known_hosts.find(file, new.name) == (new,)
    assert error(config) is None


def test_what_openssh_believed_before_is_taken_over_unasked(config: Path) -> None:
    key = offered(config)
    known_hosts.pin(config.parent / ".ssh" / "known_hosts", [key])
    code, said = command(config, "trust")
    assert (code, "now in" in said) == (0, True)
    assert known_hosts.find(config.parent / "known_hosts", key.name) == (key,)
    code, said = command(config, "trust", "--forget", "w")
    assert (code, "w: forgotten" in said) == (0, True)
    assert not known_hosts.find(config.parent / "known_hosts", key.name)


def test_a_command_that_meets_a_new_host_asks_on_a_terminal_and_goes_on(config: Path) -> None:
    key, file = offered(config), config.parent / "known_hosts"
    _, said = command(config, "plan", answer="y")
    assert key.fingerprint in said
    assert known_hosts.find(file, key.name) == (key,)
    assert "host key is not known" not in said
    assert "refuses our SSH key" in said  # it spoke to the host: nobody may log in there
