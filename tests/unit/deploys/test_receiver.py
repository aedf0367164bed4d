"""What the host does with what it is sent, on folders of this machine."""

from __future__ import annotations

import getpass
import grp
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.deploys import receiver
from cluster_ai.deploys.receiver import RefusedError

FILES = {
    "host": {"etc/a.json": b"{}", "units/cluster-ai-x.service": b"[Unit]\n"},
    "lib": {"lib/m/__init__.py": b"x = 1\n"},
}


class Push:
    """A release on its way to a host whose folders are below `path`."""

    def __init__(self, path: Path) -> None:
        self.root, self.state, self.etc = path / "opt", path / "var", path / "etc"
        self.contents = FILES
        self.make()

    def make(self) -> None:
        self.archives = {name: archive(files) for name, files in self.contents.items()}
        self.parts = [(name, sha256(content)) for name, content in self.archives.items()]
        self.manifest = json.dumps(
            {
                "files": {
                    path: {"sha256": sha256(content), "mode": "0644"}
                    for files in self.contents.values()
                    for path, content in files.items()
                },
                "units": {"cluster-ai-x.service": "b" * 64, "cluster-ai.target": "a" * 64},
            }
        )
        self.digest = sha256(self.manifest.encode())

    @property
    def release(self) -> Path:
        return self.root / "releases" / self.digest

    def order(self, **more: Any) -> dict[str, Any]:
        return {
            "root": str(self.root),
            "state": str(self.state),
            "etc": str(self.etc),
            "system": str(self.root.parent / "system"),
            "parts": self.parts,
            "all": self.parts,
            "blobs": [],
            "digest": self.digest,
            "manifest": self.manifest,
            "credentials": {},
            "reuse": True,
            "keep": [],
            "switch": "",
            "wanted": [sha for _, sha in self.parts],
            "user": getpass.getuser(),
            "script": "#!/bin/sh\n",
            "unpacked": 0,
            "brought": 0,
            "copied": 0,
            **more,
        }

    def arrive(self) -> None:
        for name, sha in self.parts:
            (self.state / "incoming" / sha).write_bytes(self.archives[name])

    def unpack(self, parts: list[tuple[str, str]] | None = None) -> None:
        """What has arrived of these parts, whole."""
        came = [(name, sha, sha) for name, sha in (self.parts if parts is None else parts)]
        receiver.unpack(self.order(parts=came))

    def all(self) -> None:
        receiver.prepare(self.order())
        self.arrive()
        self.unpack()
        receiver.assemble(self.order())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


@pytest.fixture
def push(tmp_path: Path) -> Push:
    return Push(tmp_path)


def test_a_bare_host_lacks_everything(push: Push) -> None:
    found = receiver.inspect(push.order())
    assert found["parts"] == [sha for _, sha in push.parts]
    assert not found["release"]
    assert not found["ready"]


def test_a_release_is_assembled_of_hard_links_into_its_parts(push: Push) -> None:
    push.all()
    inside = push.root / "parts" / dict(push.parts)["lib"] / "lib/m/__init__.py"
    assert (push.release / "lib/m/__init__.py").samefile(inside)
    assert (push.release / "manifest.json").read_text() == push.manifest
    found = receiver.inspect(push.order())
    assert found["release"]
    assert found["parts"] == []
    assert not found["leftovers"]


def test_the_units_of_a_release_are_told_as_lines_that_a_shell_reads(push: Push) -> None:
    push.all()
    lines = (push.release / "units.txt").read_text().splitlines()
    assert lines == ["cluster-ai-x.service " + "b" * 64, "cluster-ai.target " + "a" * 64]


def test_an_archive_with_another_hash_is_refused_and_removed(push: Push) -> None:
    receiver.prepare(push.order())
    push.arrive()
    bad = push.state / "incoming" / push.parts[0][1]
    bad.write_bytes(b"else")
    with pytest.raises(RefusedError, match=f"part host.*expected {push.parts[0][1]}, found {sha256(b'else')}"):
        push.unpack()
    assert not bad.exists()
    assert list((push.root / "parts").iterdir()) == []


def test_a_part_that_lacks_a_file_of_the_manifest_makes_no_release(push: Push) -> None:
    receiver.prepare(push.order())
    push.arrive()
    push.unpack()
    (push.root / "parts" / push.parts[0][1] / "etc/a.json").unlink()
    with pytest.raises(RefusedError, match=r"etc/a\.json is missing"):
        receiver.assemble(push.order())
    assert list((push.root / "releases").iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "told", "brought_again"),
    [
        (lambda release: (release / "etc/a.json").write_text("else"), "etc/a.json is changed", ["host"]),
        (lambda release: (release / "lib/m/__init__.py").unlink(), "lib/m/__init__.py is missing", ["lib"]),
        (lambda release: (release / "lib/m/more.py").write_text(""), "lib/m/more.py is extra", []),
        (lambda release: (release / "etc/a.json").chmod(0o666), "etc/a.json is of another mode", ["host"]),
        (lambda release: (release / "units.txt").unlink(), "units.txt is changed", []),
    ],
)
def test_drift_is_seen_and_repaired_from_the_parts_it_concerns(
    push: Push, spoil: Any, told: str, brought_again: list[str]
) -> None:
    push.all()
    spoil(push.release)
    found = receiver.inspect(push.order())
    assert found["drift"] == [told]
    assert not found["release"]
    assert found["parts"] == [dict(push.parts)[name] for name in brought_again]
    missing = [part for part in push.parts if part[1] in found["parts"]]
    for name, sha in missing:
        (push.state / "incoming" / sha).write_bytes(push.archives[name])
    push.unpack(missing)
    receiver.assemble(push.order())
    assert receiver.inspect(push.order())["release"]


def test_a_folder_in_which_somebody_was_at_work_is_taken_for_right_once_it_was_looked_at(push: Push) -> None:
    push.all()
    passing = next(it for it in push.release.iterdir() if it.is_dir()) / "passing"
    passing.write_text("")
    later = passing.stat().st_mtime_ns + 10**9
    passing.unlink()
    os.utime(passing.parent, ns=(later, later))
    assert not receiver.inspect(push.order())["release"]
    os.utime(passing.parent)
    receiver.assemble(push.order())
    assert receiver.inspect(push.order())["release"]


def test_what_an_interrupted_push_left_is_removed_but_what_is_still_wanted_stays(push: Push) -> None:
    receiver.prepare(push.order())
    (push.root / "parts" / ".cut").mkdir()
    (push.root / "releases" / ".cut").mkdir()
    (push.state / "incoming" / "of-another-release").write_text("x")
    wanted = push.state / "incoming" / push.parts[0][1]
    wanted.write_text("the first half")
    assert receiver.inspect(push.order())["leftovers"]
    receiver.prepare(push.order())
    assert not receiver.inspect(push.order())["leftovers"]
    assert list((push.state / "incoming").iterdir()) == [wanted]


def test_a_disk_that_is_too_small_is_refused_with_what_is_needed_and_what_is_free(push: Push) -> None:
    with pytest.raises(RefusedError, match=r"\d+ MiB are needed, \d+ MiB are free") as refused:
        receiver.prepare(push.order(unpacked=1 << 60))
    assert refused.value.answer["kind"] == "host"
    assert "--prune 1" in refused.value.answer["remedy"]


def more(push: Push, path: Path) -> Push:
    """A release after it, of which one file of "lib" is another one, and one more is there."""
    after = Push(path)
    after.root, after.state = push.root, push.state
    after.contents = {**FILES, "lib": {**FILES["lib"], "lib/m/new.py": b"y = 2\n", "lib/same.py": b"x = 1\n"}}
    after.make()
    return after


def test_of_a_part_only_what_no_release_here_has_must_come(push: Push, tmp_path: Path) -> None:
    push.all()
    after = more(push, tmp_path)
    found = receiver.inspect(after.order())
    assert found["parts"] == [dict(after.parts)["lib"]]
    assert found["reuse"] == {"lib": {"lacks": ["lib/m/new.py"], "size": 12}}
    rest = archive({"lib/m/new.py": b"y = 2\n"})
    (push.state / "incoming" / sha256(rest)).write_bytes(rest)
    receiver.unpack(after.order(parts=[("lib", dict(after.parts)["lib"], sha256(rest))]))
    receiver.assemble(after.order())
    assert receiver.inspect(after.order())["release"]
    assert (after.release / "lib/m/__init__.py").samefile(push.release / "lib/m/__init__.py")


def test_a_file_that_is_not_what_its_release_says_is_not_used_again(push: Push, tmp_path: Path) -> None:
    push.all()
    (push.release / "lib/m/__init__.py").write_bytes(b"x = 3\n")
    assert receiver.inspect(more(push, tmp_path).order())["reuse"] == {}


def test_credentials_are_readable_by_their_owner_alone(push: Push) -> None:
    receiver.credentials(push.order(files={"key.pem": "secret"}))
    assert (push.etc / "key.pem").read_text() == "secret"
    assert stat.S_IMODE((push.etc / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(push.etc.stat().st_mode) == 0o700
    same = receiver.inspect(push.order(credentials={"key.pem": sha256(b"secret"), "cert.pem": sha256(b"")}))
    assert same["credentials"] == ["cert.pem"]


def test_what_tls_needs_is_a_new_folder_behind_a_link_and_for_a_group(push: Push) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    push.state.mkdir(parents=True, exist_ok=True)
    first = {"tls/ca.pem": "root", "tls/cert.pem": "one", "tls/key.pem": "k1", "tls/hosts": "a\n"}
    receiver.credentials(push.order(files=first, group=group))
    link = push.state / "tls/current"
    before = link.resolve()
    receiver.credentials(push.order(files={"tls/cert.pem": "two", "tls/key.pem": "k2"}, group=group))
    assert {path.name: path.read_text() for path in link.iterdir()} == {
        "ca.pem": "root",
        "cert.pem": "two",
        "key.pem": "k2",
        "hosts": "a\n",
    }
    assert (before / "cert.pem").read_text() == "one"  # who is in the midst of reading it reads on
    assert {path.stat().st_mode & 0o777 for path in link.iterdir()} == {0o640}
    assert link.resolve().stat().st_mode & 0o777 == 0o750
    same = receiver.inspect(push.order(credentials={"tls/ca.pem": sha256(b"root"), "tls/cert.pem": sha256(b"one")}))
    assert same["credentials"] == ["tls/cert.pem"]


def test_without_the_group_that_the_host_layer_makes_nothing_is_put_there(push: Push) -> None:
    with pytest.raises(receiver.RefusedError, match="no group nobody-has-this"):
        receiver.credentials(push.order(files={"tls/ca.pem": "x"}, group="nobody-has-this"))
