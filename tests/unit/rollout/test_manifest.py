from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.release.store import canonical
from cluster_ai.rollout.manifest import Manifest, differences

folders = st.sampled_from(["app", "bin", "engine", "etc", "lib", "units", "lib-2", "é"])
names = st.text(st.sampled_from('ab/.-"{},:é\\'), min_size=1, max_size=8)
trees = st.dictionaries(st.builds("{}/{}".format, folders, names), st.sampled_from(["1", "2"]), max_size=12)


def manifest(files: dict[str, str]) -> dict[str, Any]:
    return {
        "format": 1,
        "arch": "x86_64",
        "files": {path: {"sha256": sha256, "mode": "0644"} for path, sha256 in files.items()},
        "parts": {"app": "a"},
        "units": {"x.service": "u"},
    }


def paths(found: Manifest) -> dict[str, str]:
    return {path: sha256 for folder in found.folders.values() for path, sha256 in folder.items()}


@given(trees)
def test_a_canonical_manifest_is_read_as_any_other(files: dict[str, str]) -> None:
    data = manifest(files)
    found = Manifest.read(canonical(data))
    assert found == Manifest.read_any(canonical(data)) == Manifest.read(json.dumps(data, indent=2).encode())
    assert paths(found) == files
    assert all(found.sha256(path) == sha256 for path, sha256 in files.items())


@given(trees, trees)
def test_differences_are_all_files_that_differ_and_no_other(old: dict[str, str], new: dict[str, str]) -> None:
    found = list(differences(Manifest.read(canonical(manifest(old))), Manifest.read(canonical(manifest(new)))))
    assert {path: (before, after) for path, before, after in found} == {
        path: (old.get(path), new.get(path)) for path in old.keys() | new.keys() if old.get(path) != new.get(path)
    }


def test_packages_are_those_that_say_so_themselves() -> None:
    files = {"lib/dask-2026.8.0.dist-info/METADATA": "1", "lib/dask/core.py": "1", "lib/a_b-1.dist-info/RECORD": "1"}
    assert Manifest.read(canonical(manifest(files))).packages() == {"dask": "2026.8.0"}


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b'{"files":{},"format":1}', b'"files":{"a/b":1},"format":', b"\xff"]
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Manifest.read(raw)
