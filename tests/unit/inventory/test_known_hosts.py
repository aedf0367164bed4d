"""Keys of hosts are asked for by the real ssh; what answers is a real SSH server (paramiko's)."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.config.model import Ssh
from cluster_ai.errors import HostError
from cluster_ai.inventory.known_hosts import HostKey, find, forget, name_of, offered, pin
from tests.rig.sshd import servers

KEY = HostKey("worker-1", "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIHu0KWxqXfSNMY6CbP8pHr4jM2o4PCKBtNyLzaL6zKyq")
OTHER = HostKey("worker-1", "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIJxGTBdmg2Nm8EKfHqbEC8DfnP9r5rf2m6UqYRX1aaaa")


@pytest.fixture
def server() -> Iterator[Callable[[], int]]:
    with servers() as start:
        yield start


def ssh(port: int, known_hosts: Path | None = None) -> Ssh:
    return Ssh("nobody", port, None, known_hosts, None)


def test_a_key_that_was_asked_for_and_pinned_is_the_one_that_openssh_believes(
    server: Callable[[], int], tmp_path: Path
) -> None:
    file, port = tmp_path / "known_hosts", server()
    key = offered(ssh(port), ["127.0.0.1"])["127.0.0.1"]
    assert isinstance(key, HostKey)
    assert key.name == f"[127.0.0.1]:{port}" == name_of(ssh(port), "127.0.0.1")
    pin(file, [key])
    listed = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True).stdout
    assert key.fingerprint in listed
    assert subprocess.run(["ssh-keygen", "-F", key.name, "-f", file], capture_output=True, check=True)
    assert find(file, key.name) == (key,)


def test_a_host_that_is_not_there_gives_an_error_beside_the_keys_of_others(server: Callable[[], int]) -> None:
    port = server()
    found = offered(ssh(port), ["127.0.0.1", "127.0.0.2"])
    assert isinstance(found["127.0.0.1"], HostKey)
    assert isinstance(found["127.0.0.2"], HostError)
    assert "refuses connections" in found["127.0.0.2"].what


def test_a_new_key_takes_the_place_of_the_old_and_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(
        f"# ours\n{KEY.line} comment\nother,worker-1 {OTHER.kind} {OTHER.blob}\n@cert-authority * ssh-rsa AA==\n"
    )
    pin(file, [OTHER])
    assert find(file, "worker-1") == (OTHER,)
    assert file.read_text() == (
        f"# ours\nother {OTHER.kind} {OTHER.blob}\n@cert-authority * ssh-rsa AA==\n{OTHER.line}\n"
    )
    assert forget(file, ["worker-1"])
    assert not forget(file, ["worker-1"])
    assert find(file, "worker-1") == ()
    assert [key.blob for key in find(file, "other")] == [OTHER.blob]


def test_hashed_names_are_found_and_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    pin(file, [KEY])
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "worker-1" not in file.read_text()
    assert find(file, "worker-1") == (KEY,)
    assert not find(file, "worker-2")
    assert forget(file, ["worker-1"])
    assert not file.read_text()


def test_patterns_mean_what_they_mean_to_openssh(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"*.lan,!secret.lan {KEY.kind} {KEY.blob}\n[h?]:2222 {KEY.kind} {KEY.blob}\n")
    for name, there in (("a.lan", True), ("A.LAN", True), ("secret.lan", False), ("[h1]:2222", True), ("h1", False)):
        asked = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, check=False)
        assert bool(find(file, name)) == there == (asked.returncode == 0), name


def test_a_name_that_a_pattern_means_is_excepted_from_it(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"worker-*,head {OTHER.kind} {OTHER.blob}\n")
    pin(file, [KEY])
    assert find(file, "worker-1") == (KEY,)
    assert [key.blob for name in ("worker-2", "head") for key in find(file, name)] == [OTHER.blob] * 2
    listed = subprocess.run(["ssh-keygen", "-lF", "worker-1", "-f", file], capture_output=True, text=True, check=True)
    assert KEY.fingerprint in listed.stdout
    assert OTHER.fingerprint not in listed.stdout


@given(text=st.text(max_size=200))
def test_whatever_stands_in_the_file_is_kept(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "known_hosts"
        file.write_text(text)
        kept = [line for line in file.read_text().split("\n") if line and "worker-1" not in line]
        pin(file, [KEY])
        assert find(file, "worker-1") == (KEY,)
        assert [line for line in file.read_text().split("\n") if line and "worker-1" not in line] == kept
