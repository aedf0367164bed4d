from __future__ import annotations

import re
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from cluster_ai.config.model import Ssh
from cluster_ai.errors import ClusterAIError
from cluster_ai.inventory import ssh_argv
from cluster_ai.runtime import folder

NOTHING = Ssh(None, None, None, None, None)


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = Path("/tmp") / tmp_path_factory.mktemp("r").relative_to("/tmp")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


def options(argv: list[str]) -> dict[str, str]:
    return dict(argv[i + 1].split("=", 1) for i, word in enumerate(argv) if word == "-o")


def test_nothing_asks_and_host_keys_are_always_checked() -> None:
    for persist in (True, False):
        found = options(ssh_argv(NOTHING, "h1", persist=persist))
        assert found["BatchMode"] == "yes"
        assert found["StrictHostKeyChecking"] == "yes"
        assert found["ConnectTimeout"] == "10"


def test_what_is_not_said_is_left_to_openssh() -> None:
    argv = ssh_argv(NOTHING, "h1", persist=False)
    assert not {"-l", "-p", "-i", "-J"} & set(argv)
    assert "UserKnownHostsFile" not in options(argv)
    assert argv[-2:] == ["--", "h1"]


def test_what_is_said_stands_in_the_command() -> None:
    ssh = Ssh("admin", 2222, Path("/k/id"), Path("/k/known hosts"), "me@bastion:22")
    argv = ssh_argv(ssh, "10.0.0.1", persist=False)
    text = " ".join(argv)
    assert "-l admin" in text
    assert "-p 2222" in text
    assert "-i /k/id" in text
    assert "-J me@bastion:22" in text
    assert options(argv)["UserKnownHostsFile"] == '"/k/known hosts"'
    assert options(argv)["IdentitiesOnly"] == "yes"


def test_what_is_secret_never_goes_over_a_connection_with_the_light_key_exchange() -> None:
    light, strong = (options(ssh_argv(NOTHING, "h1", light=it)) for it in (True, False))
    assert light["KexAlgorithms"] == "^curve25519-sha256"
    assert "KexAlgorithms" not in strong
    assert light["ControlPath"] != strong["ControlPath"]


def test_connections_are_shared_through_short_sockets_that_others_cannot_reach(runtime: Path) -> None:
    path = options(ssh_argv(NOTHING, "h1"))["ControlPath"]
    folder = Path(path).parent
    assert folder.is_relative_to(runtime)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "ControlPath" not in options(ssh_argv(NOTHING, "h1", persist=False))


def test_another_key_shares_no_connection_that_an_earlier_one_opened() -> None:
    mine, other = (Ssh("admin", None, Path(key), None, None) for key in ("/k/mine", "/k/other"))
    assert options(ssh_argv(mine, "h1"))["ControlPath"] != options(ssh_argv(other, "h1"))["ControlPath"]


def test_the_runtime_directory_is_taken_where_it_is_short(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert folder().is_relative_to(runtime)
    long = runtime / "a-folder-with-a-long-name"
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert not folder().is_relative_to(long)
    with tempfile.TemporaryDirectory(prefix="x", dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        assert folder() == Path(short) / "cluster-ai"


def test_a_folder_that_others_can_open_is_refused() -> None:
    folder().chmod(0o755)
    with pytest.raises(ClusterAIError, match="open to others"):
        ssh_argv(NOTHING, "h1")


UNCHECKED = re.compile(
    r"StrictHostKeyChecking[\"']?[ =:]+[\"']?(no|off|accept)|UserKnownHostsFile[\"']?[ =:]+[\"']?/dev/null"
    r"|host_key_checking\s*[=:]\s*[\"']?(false|no|0)|strict_host_key_checking[\"']?[ =:]+[\"']?(no|off|accept)"
    r"|AutoAddPolicy|WarningPolicy|insecure-skip|StrictHostKeyChecking[=\s]+\$",
    re.IGNORECASE,
)
# It asks for a key that is then shown to a person, and believes nothing.
ASKS = "cluster_ai/inventory/known_hosts.py"


def test_host_keys_are_checked_everywhere() -> None:
    root = Path(__file__).resolve().parents[3]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode()
    found = {}
    for name in listed.split("\0"):
        path = root / name
        if path.is_file() and path.suffix not in {".png", ".lock"} and path != Path(__file__):
            found[name] = [m[0] for m in UNCHECKED.finditer(path.read_text(errors="replace"))]
    assert len(found) > 100
    assert {name: words for name, words in found.items() if words} == {ASKS: ['StrictHostKeyChecking": "accept']}
