from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_ai.deploys import remote, transfer
from cluster_ai.deploys.operations import unpacked_size
from cluster_ai.deploys.outcomes import OUTCOMES


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_the_unpacked_size_of_an_archive_is_read_from_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "part.tar.gz"
    path.write_bytes(gzip.compress(b"\0" * size))
    assert unpacked_size(str(path)) == size or size < path.stat().st_size


def test_every_way_in_which_the_switch_ends_is_worded() -> None:
    told = remote.script("switch.sh").split("# Exit status:", 1)[1].split("set -u", 1)[0]
    for code in (10, 11, 12, 13, 14, 15, 16, 75):
        assert f"{code} " in told
        assert OUTCOMES[code]


def test_the_switch_script_is_a_posix_shell_script() -> None:
    subprocess.run(["sh", "-n"], input=remote.script("switch.sh"), text=True, check=True)


@pytest.mark.parametrize(
    ("code", "said", "word"),
    [
        (11, "rsync: write failed: No space left on device (28)", "the disk is full"),
        (127, "sh: 1: rsync: not found", "has no rsync"),
        (255, "ssh: connect to host h port 22: Connection refused", "files can't be brought"),
    ],
)
def test_a_transfer_that_fails_says_why(code: int, said: str, word: str) -> None:
    failure = transfer._failure(code, said)
    assert word in failure.what
    assert failure.remedy
    assert failure.kind == "host"


def test_what_is_imported_into_pyinfras_process_has_no_asyncio_and_no_configuration() -> None:
    script = (
        "import sys, cluster_ai.deploys.release\n"
        "print([m for m in sys.modules if m.startswith('cluster_ai.') and not m.startswith('cluster_ai.deploys')"
        " and m not in ('cluster_ai.layout', 'cluster_ai.errors')])"
    )
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
