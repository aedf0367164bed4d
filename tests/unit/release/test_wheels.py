from __future__ import annotations

import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.release.model import HostFacts
from cluster_ai.release.parts import ROOT
from cluster_ai.release.wheels import Requirement, members, parse_lock, pip_arguments, place, wanted

LOCK = """\
# a comment
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:cc
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
tzdata==2026.6 ; sys_platform == 'emscripten' or sys_platform == 'win32' \\
    --hash=sha256:ee
only-arm==1 ; platform_machine == 'aarch64' \\
    --hash=sha256:ff
"""


def test_a_lock_file_is_read_with_its_markers_and_hashes() -> None:
    found = parse_lock(LOCK)
    assert found[0] == Requirement("aiohttp==3.14.5", "", ("sha256:aa", "sha256:bb"))
    assert found[1] == Requirement("numpy==2.4.6", "python_full_version < '3.12'", ("sha256:cc",))
    assert len(found) == 5


@pytest.mark.parametrize(
    ("python", "arch", "lines"),
    [
        ("3.11", "x86_64", ["aiohttp==3.14.5", "numpy==2.4.6"]),
        ("3.13", "x86_64", ["aiohttp==3.14.5", "numpy==2.5.5"]),
        ("3.13", "aarch64", ["aiohttp==3.14.5", "numpy==2.5.5", "only-arm==1"]),
    ],
)
def test_markers_are_decided_for_the_host_and_not_for_this_machine(python: str, arch: str, lines: list[str]) -> None:
    assert [r.line for r in wanted(parse_lock(LOCK), python, arch)] == lines


@pytest.mark.parametrize("name", ["head", "worker"])
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_of_our_locks_each_host_gets_each_package_once_and_with_hashes(name: str, python: str) -> None:
    found = wanted(parse_lock((ROOT / f"requirements/{name}.lock").read_text()), python, "x86_64")
    packages = [r.line.split("==")[0] for r in found]
    assert len(packages) == len(set(packages)) > 20
    assert all(r.hashes and all(h.startswith("sha256:") for h in r.hashes) for r in found)


def test_pip_is_asked_for_wheels_of_the_hosts_python_and_architecture_alone() -> None:
    arguments = pip_arguments(Path("r.txt"), Path("into"), HostFacts("debian-13", "3.13", "aarch64"))
    platforms = [after for word, after in pairwise(arguments) if word == "--platform"]
    assert arguments[0] == "download"
    assert {"--require-hashes", "--no-deps", "--only-binary"} < set(arguments)
    assert arguments[arguments.index("--python-version") + 1] == "3.13"
    assert platforms[0] == "manylinux_2_28_aarch64"
    assert all(platform.endswith("_aarch64") for platform in platforms)


@pytest.mark.parametrize(
    ("member", "placed"),
    [
        ("pandas/core/frame.py", "pandas/core/frame.py"),
        ("pandas/tests/test_x.py", None),
        ("pandas/testing.py", "pandas/testing.py"),
        ("pyarrow/include/arrow/api.h", None),
        ("x/y.pyc", None),
        ("x-1.0.dist-info/METADATA", "x-1.0.dist-info/METADATA"),
        ("x-1.0.data/purelib/x/z.py", "x/z.py"),
        ("x-1.0.data/platlib/x/z.so", "x/z.so"),
        ("x-1.0.data/scripts/x", None),
        ("x-1.0.data/headers/x.h", None),
    ],
)
def test_of_a_wheel_what_runs_is_kept(member: str, placed: str | None) -> None:
    assert place(member) == placed


@given(st.text(min_size=1))
def test_no_member_is_placed_outside_of_where_it_was(name: str) -> None:
    placed = place(name)
    assert placed is None or name.endswith(placed)


def test_members_of_a_wheel_are_read_when_they_are_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x/__init__.py", "X = 1\n")
        wheel.writestr("x/tests/test_x.py", "")
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl") as wheel:
        (found,) = members(wheel)
        assert (found.path, found.size) == ("lib/x/__init__.py", 6)
        with found.open() as file:
            assert file.read() == b"X = 1\n"
