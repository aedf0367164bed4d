from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import BundleError
from cluster_ai.release import archive
from cluster_ai.release.archive import Member, of_bytes, of_file
from cluster_ai.release.store import Store, digest


def test_the_same_members_are_the_same_bytes_in_whatever_order_and_at_whatever_time_they_come(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    members = [
        of_bytes("etc/b.json", b"{}"),
        of_file("lib/x/y.so", tmp_path / "file", executable=True),
        of_bytes("bin/launch", b"#!/bin/sh\n", executable=True),
    ]
    one = archive.build(Store(tmp_path / "one"), "host", "key", members)
    (tmp_path / "file").touch()
    two = archive.build(Store(tmp_path / "two"), "host", "key", reversed(members))
    assert one.part.path.read_bytes() == two.part.path.read_bytes()
    assert (one.part.sha256, one.part.size, one.tree) == (two.part.sha256, two.part.size, two.tree)


def test_an_archive_is_what_its_digest_size_and_tree_say(tmp_path: Path) -> None:
    store = Store(tmp_path)
    built = archive.build(store, "app", "key", [of_bytes("app/a.py", b"a"), of_bytes("app/run", b"r", executable=True)])
    content = built.part.path.read_bytes()
    assert built.part.sha256 == hashlib.sha256(content).hexdigest()
    assert built.part.size == len(content)
    assert store.tree(built.tree) == [
        ("app/a.py", hashlib.sha256(b"a").hexdigest(), "0644"),
        ("app/run", hashlib.sha256(b"r").hexdigest(), "0755"),
    ]
    with tarfile.open(built.part.path) as file:
        assert [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname) for m in file] == [
            ("app", 0o755, 0, 0, 0, ""),
            ("app/a.py", 0o644, 0, 0, 0, ""),
            ("app/run", 0o755, 0, 0, 0, ""),
        ]


def test_a_link_is_a_hard_link_in_the_archive_and_a_plain_file_in_the_tree(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    real = of_bytes("engine/lib/z.so.1.2", b"library")
    link = Member("engine/lib/a.so", 0, real.open, same_as="engine/lib/z.so.1.2")
    built = archive.build(store, "engine", "key", [link, real])
    sha256 = hashlib.sha256(b"library").hexdigest()
    assert store.tree(built.tree) == [("engine/lib/a.so", sha256, "0644"), ("engine/lib/z.so.1.2", sha256, "0644")]
    with tarfile.open(built.part.path) as file:
        file.extractall(tmp_path / "out", filter="data")
    lib = tmp_path / "out/engine/lib"
    assert (lib / "a.so").stat().st_ino == (lib / "z.so.1.2").stat().st_ino


@pytest.mark.parametrize("path", ["/etc/passwd", "lib/../../etc/passwd"])
def test_a_path_that_leads_out_of_the_release_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BundleError, match="leads out of the release"):
        archive.build(Store(tmp_path), "lib", "key", [of_bytes(path, b"")])
    assert not list((tmp_path / "parts").glob("*"))


def test_two_packages_may_bring_the_same_file_but_not_two_different_ones(tmp_path: Path) -> None:
    same = [of_bytes("lib/google/__init__.py", b""), of_bytes("lib/google/__init__.py", b"")]
    assert archive.build(Store(tmp_path), "lib", "key", same)
    with pytest.raises(BundleError, match="two packages bring this file"):
        archive.build(Store(tmp_path), "lib", "other", [*same, of_bytes("lib/google/__init__.py", b"x")])


def test_a_part_is_found_by_its_inputs_until_its_archive_is_gone_or_cut_short(tmp_path: Path) -> None:
    store = Store(tmp_path)
    built = archive.build(store, "app", "key", [of_bytes("app/a.py", b"a")])
    assert store.part("app", "key") == built
    assert store.part("app", "other") is None
    built.part.path.write_bytes(built.part.path.read_bytes()[:-1])
    assert store.part("app", "key") is None
    built.part.path.unlink()
    assert store.part("app", "key") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), json_values))
def test_a_digest_knows_no_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))
