"""A part without what a host has already."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from cluster_ai.deploys import deltas
from cluster_ai.deploys.remote import Failure

FILES = {"engine/bin/ollama": b"new", "engine/lib/cuda.so": b"c" * 5000}


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A part whose "engine/lib/link.so" is a hard link to "engine/lib/cuda.so"."""
    path = tmp_path / "part.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("engine/lib/link.so")
        link.type, link.linkname, link.mode = tarfile.LNKTYPE, "engine/lib/cuda.so", 0o644
        archive.addfile(link)
    return path


def content(path: str) -> dict[str, tuple[bytes, int]]:
    with tarfile.open(path) as archive:
        files = {member.name: (archive.extractfile(member), member.mode) for member in archive}
        return {name: (file.read(), mode) for name, (file, mode) in files.items() if file}


def test_it_has_the_members_that_are_lacking_alone(part: Path) -> None:
    made = deltas.delta(part, ["engine/bin/ollama"])
    assert made
    assert content(made[1]) == {"engine/bin/ollama": (b"new", 0o755)}
    assert hashlib.sha256(Path(made[1]).read_bytes()).hexdigest() == made[0]


def test_a_link_comes_without_what_it_leads_to(part: Path) -> None:
    made = deltas.delta(part, ["engine/lib/link.so"])
    assert made
    assert content(made[1]) == {"engine/lib/link.so": (FILES["engine/lib/cuda.so"], 0o644)}


def test_the_same_rest_is_the_same_bytes(part: Path) -> None:
    made = deltas.delta(part, ["engine/bin/ollama", "engine/lib/link.so"])
    assert made
    Path(made[1]).unlink()
    assert deltas.delta(part, ["engine/lib/link.so", "engine/bin/ollama"]) == made


def test_hosts_that_all_lack_something_else_get_the_whole_part(part: Path) -> None:
    made = [deltas.delta(part, [f"engine/{number}"]) for number in range(deltas.KINDS + 1)]
    assert made[-1] is None
    assert None not in made[:-1]
    assert deltas.delta(part, ["engine/0"]) == made[0]


def test_an_archive_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "part.tar.gz").write_bytes(b"no archive")
    with pytest.raises(Failure, match="can't be packed"):
        deltas.delta(tmp_path / "part.tar.gz", ["engine/bin/ollama"])
