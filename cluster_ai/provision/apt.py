"""apt beside this machine's own: another host's packages, resolved by its dpkg status, fetched and checked here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster_ai.errors import BundleError

_FILE = re.compile(r"^'[^']+' (?P<name>\S+\.deb) (?P<size>\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a host says of itself: enough to resolve packages for it elsewhere."""

    distribution: str  # "debian"
    codename: str
    arch: str
    kernel: str
    cards: str  # as `lspci -nn` lists them
    driver: bool  # an NVIDIA driver works there
    status: bytes  # /var/lib/dpkg/status

    @property
    def group(self) -> str:
        return f"{self.distribution}-{self.codename}-{self.arch}"


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of apt's sources."""

    uri: str
    suite: str
    components: tuple[str, ...]


class Apt:
    """apt with a configuration, lists, cache and dpkg status of its own."""

    def __init__(self, folder: Path, seen: Seen, entries: Sequence[Source]) -> None:
        self._folder = folder.resolve()
        for name in ("lists/partial", "archives/partial", "none/partial", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        keyring = f"/usr/share/keyrings/{seen.distribution}-archive-keyring.gpg"
        if not Path(keyring).exists():
            raise BundleError(
                f"{keyring} is missing on this machine, so packages of {seen.distribution} can't be checked",
                remedy=f"apt-get install {seen.distribution}-{'archive-' * (seen.distribution == 'debian')}keyring",
            )
        (folder / "status").write_bytes(seen.status)
        (folder / "extended_states").touch()
        (folder / "cluster-ai.sources").write_text("\n".join(_deb822(entry, keyring) for entry in entries))
        (folder / "apt.conf").write_text(self._conf(seen.arch))
        self._title = f"{seen.distribution} {seen.codename}"

    def _conf(self, arch: str) -> str:
        own = {
            "Dir::State": self._folder,
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::State::extended_states": self._folder / "extended_states",
            "Dir::Cache": self._folder,
            "Dir::Cache::archives": self._folder / "archives",
            "Dir::Etc::sourcelist": self._folder / "cluster-ai.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Log": self._folder / "log",
            "APT::Architecture": arch,
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",  # the folder is the caller's, and closed to apt's own user
            "APT::Update::Error-Mode": "any",
            "Debug::NoLocking": "true",
        }
        lines = [f'{name} "{value}";' for name, value in own.items()]
        # How this machine reaches package servers (proxies, certificates, credentials) holds for them too.
        dump = _run(["apt-config", "dump", "--format", '%f "%v";%n']).stdout.splitlines()
        return "\n".join(
            [
                *(line for line in dump if line.startswith("Acquire::http")),
                *lines,
                f'APT::Architectures {{ "{arch}"; }};\n',
            ]
        )

    def update(self) -> None:
        done = self._apt("update", "-qq")
        if done.returncode:
            raise BundleError(
                f"can't read the package lists of {self._title}: {_complaint(done)}",
                remedy="see that this machine reaches its package sources (apt-get update), has the distribution's "
                "keyring, and that packages.mirror is right",
            )

    def fetch(self, packages: Sequence[str]) -> list[Path]:
        """The files that `packages` need beside what the status has, fetched and checked by apt."""
        argv = ("install", "--yes", "--no-install-recommends", "-qq")
        # Into an empty archive: what is there already would not be listed.
        listed = self._apt(*argv, "--print-uris", "-o", f"Dir::Cache::archives={self._folder}/none", *packages)
        if listed.returncode:
            raise BundleError(
                f"can't resolve packages of {self._title}: {_complaint(listed)}",
                remedy="repair the host's packages (apt-get --fix-broken install), or the sources of this machine",
            )
        done = self._apt(*argv, "--download-only", *packages)
        if done.returncode:
            raise BundleError(f"can't fetch packages of {self._title}: {_complaint(done)}", remedy="try again")
        return [self._folder / "archives" / match["name"] for match in _FILE.finditer(listed.stdout)]

    def _apt(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return _run(["apt-get", *argv], APT_CONFIG=str(self._folder / "apt.conf"), DEBIAN_FRONTEND="noninteractive")


def own_sources() -> tuple[tuple[Source, ...], str, str]:
    """This machine's package sources, the codename and the name of its distribution."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    plain = {name: "".join(shlex.split(value)) for name, value in release.items() if name in ("ID", "VERSION_CODENAME")}
    form = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)"
    rows = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).stdout.splitlines()
    fields = (row.split("\t") for row in rows)
    found = [Source(uri, suite, (component,)) for uri, suite, component in fields if component]
    return tuple(dict.fromkeys(found)), plain.get("VERSION_CODENAME", ""), plain.get("ID", "")


def _deb822(source: Source, keyring: str) -> str:
    lines = {
        "Types": "deb",
        "URIs": source.uri,
        "Suites": source.suite,
        "Components": " ".join(source.components),
        "Signed-By": keyring,
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return "; ".join(line.partition(":")[2].strip() for line in lines[:3]) or f"apt-get ended with {done.returncode}"


def _run(argv: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C", **env},
    )
