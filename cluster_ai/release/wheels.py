"""The parts "lib" and "open-webui": the packages of a hashed lock file, for a Python and an architecture that need not
be this machine's.

pip fetches and checks wheels for a foreign platform, but reads a lock's environment markers for the interpreter that it
runs in: markers are therefore decided here, and pip gets what is left. Wheels go straight into the archive.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from itertools import chain
from pathlib import Path
from typing import IO

from cluster_ai.errors import BundleError
from cluster_ai.release.archive import Member, of_bytes
from cluster_ai.release.model import HostFacts
from cluster_ai.release.store import Store, canonical

LAYOUT = 3  # to be raised when what is kept of a wheel changes: parts are then built anew
LIST = "wheels.json"  # in the part: which wheels it was made of, for the release's bill of materials
GLIBC = range(28, 4, -1)  # manylinux_2_x that is asked for: no more than any supported distribution has

# Not needed to run: tests, sources and headers of extensions, type stubs, source maps, bytecode; and of Arrow, which is
# half of all, what it imports only when asked to: Flight and S3.
_NOT_NEEDED = re.compile(
    r"(^|/)(tests|__pycache__)/|^(pyarrow/(include|src)|numpy/_core/include|tornado/test|pydeck/nbextension)/"
    r"|^pyarrow/(_flight|_s3fs|_pyarrow_cpp_tests|libarrow_flight|libarrow_python_flight|libarrow_s3)\b"
)
_SUFFIXES = (".pyc", ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cc", ".cpp", ".a", ".map", ".js.LICENSE.txt")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of a lock file."""

    line: str  # "name==version"
    marker: str  # may be empty
    hashes: tuple[str, ...]  # "sha256:..."


def parse_lock(text: str) -> list[Requirement]:
    found = []
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        entry = entry.split("#", 1)[0].strip()
        if entry:
            head, *hashes = entry.split("--hash=")
            line, _, marker = head.partition(";")
            found.append(Requirement(line.strip(), marker.strip(), tuple(h.strip() for h in hashes)))
    return found


def wanted(requirements: list[Requirement], python: str, arch: str) -> list[Requirement]:
    """Those whose marker holds on a Linux host with this Python."""
    from packaging.markers import Marker

    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": arch,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }
    return [r for r in requirements if not r.marker or Marker(r.marker).evaluate(environment)]


def pip_arguments(requirements: Path, into: Path, facts: HostFacts) -> list[str]:
    platforms = [f"manylinux_2_{minor}_{facts.arch}" for minor in GLIBC]
    platforms += [f"manylinux{old}_{facts.arch}" for old in ("2014", "2010", "1")] + [f"linux_{facts.arch}"]
    return [
        *("download", "--quiet", "--no-input", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *(
            "--implementation",
            "cp",
            "--python-version",
            facts.python,
            "--dest",
            str(into),
            "--requirement",
            str(requirements),
        ),
        *(word for platform in platforms for word in ("--platform", platform)),
    ]


def fetch(lock: Path, facts: HostFacts, store: Store, into: Path) -> list[Path]:
    """Put the wheels of a lock file into a folder: from the store if it has all, else from the package index."""
    todo = wanted(parse_lock(lock.read_text()), facts.python, facts.arch)
    listed = into / "requirements.txt"
    listed.write_text("".join(f"{r.line} {' '.join(f'--hash={h}' for h in r.hashes)}\n" for r in todo))
    store.wheels.mkdir(parents=True, exist_ok=True)
    arguments = [*pip_arguments(listed, into, facts), "--find-links", str(store.wheels)]
    if _pip([*arguments, "--no-index"]).returncode:
        done = _pip(arguments)
        if done.returncode:
            raise _refused(done.stderr, lock, facts)
    wheels = sorted(into.glob("*.whl"))
    for wheel in wheels:
        if not (store.wheels / wheel.name).exists():
            os.link(wheel, store.wheels / wheel.name)
    return wheels


def _pip(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)


def _refused(output: str, lock: Path, facts: HostFacts) -> BundleError:
    told = [line.removeprefix("ERROR: ").strip() for line in output.splitlines() if line.strip()]
    what = f"can't fetch the packages for Python {facts.python} on {facts.arch}: " + " ".join(told[-6:])
    if "No module named pip" in output:
        return BundleError(
            "pip is missing, which fetches packages", where=sys.executable, remedy="python3 -m ensurepip"
        )
    if "DO NOT MATCH THE HASHES" in output:
        remedy = "A package was changed, or its copy in .cluster-ai/store/wheels is damaged: delete that and try again."
    else:
        remedy = "Is the package index reachable? Without one, put the wheels into .cluster-ai/store/wheels."
    return BundleError(what, where=str(lock), remedy=remedy)


def kept(path: str) -> bool:
    return not _NOT_NEEDED.search(path) and not path.endswith(_SUFFIXES)


def place(name: str) -> str | None:
    """Where a wheel's member goes in site-packages; None: it isn't needed there."""
    folder, _, rest = name.partition("/")
    if folder.endswith(".data"):
        scheme, _, rest = rest.partition("/")
        name = rest if scheme in ("purelib", "platlib") else ""
    return name if name and kept(name) else None


class Wheels:
    """The members of the part, to be read while this is open. folder: theirs in the release."""

    def __init__(self, lock: Path, facts: HostFacts, store: Store, folder: str = "lib") -> None:
        self._lock, self._facts, self._store, self._in = lock, facts, store, folder

    def __enter__(self) -> Iterator[Member]:
        self._store.root.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=".wheels.", dir=self._store.root))
        self._open: list[zipfile.ZipFile] = []
        try:
            fetched = fetch(self._lock, self._facts, self._store, self._folder)
            self._open += [zipfile.ZipFile(wheel) for wheel in fetched]
            listed = canonical([told(path, wheel) for path, wheel in zip(fetched, self._open, strict=True)])
        except BaseException:
            self.__exit__()
            raise
        return chain([of_bytes(f"{self._in}/{LIST}", listed)], *(members(wheel, self._in) for wheel in self._open))

    def __exit__(self, *_: object) -> None:
        for wheel in self._open:
            wheel.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def told(path: Path, wheel: zipfile.ZipFile) -> dict[str, str]:
    """A wheel's line in LIST."""
    with path.open("rb") as file:
        found = {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    for name in wheel.namelist():
        if name.endswith(".dist-info/METADATA") and name.count("/") == 1:
            license_ = BytesHeaderParser().parsebytes(wheel.read(name))["License-Expression"]
            found |= {"license": str(license_)} if license_ else {}
    return found


def members(wheel: zipfile.ZipFile, folder: str = "lib") -> Iterator[Member]:
    for info in wheel.infolist():
        path = None if info.is_dir() else place(info.filename)
        if path is not None:
            yield Member(
                f"{folder}/{path}", info.file_size, _opener(wheel, info), bool(info.external_attr >> 16 & 0o111)
            )


def _opener(wheel: zipfile.ZipFile, info: zipfile.ZipInfo):  # type: ignore[no-untyped-def]
    def opened() -> AbstractContextManager[IO[bytes]]:
        return wheel.open(info)

    return opened
