"""Bundles of .deb files for hosts without a way out: exactly what each lacks, resolved here with its own dpkg status.

A bundle is a flat repository in a tar, in a folder named by the SHA-256 of its SHA256SUMS; role base brings it to the
host and verifies it there. apt checks its signatures here, where packages are fetched; this machine's own apt is left
as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster_ai.config.model import Config, Host
from cluster_ai.config.model import hosts as all_hosts
from cluster_ai.errors import BundleError, ClusterAIError
from cluster_ai.inventory.ssh import ssh_argv
from cluster_ai.provision import host_layer, ssh
from cluster_ai.provision.apt import Apt, Seen, Source, own_sources
from cluster_ai.provision.refusals import Reply

# Cards are told in the words of `lspci -nn`, out of /sys: a host that lacks packages may lack pciutils too.
_ASK = r"""
. /etc/os-release
arch=$(dpkg --print-architecture 2>/dev/null)
echo "id=$ID version=${VERSION_ID:-} codename=${VERSION_CODENAME:-} arch=$arch kernel=$(uname -r)"
for d in /sys/bus/pci/devices/*; do
  [ "$(cat "$d/vendor" 2>/dev/null)" = 0x10de ] || continue
  case "$(cat "$d/class")" in
    0x0300*) echo "${d##*/} VGA compatible controller [0300]: NVIDIA [10de:$(cut -c3- "$d/device")]" ;;
    0x0302*) echo "${d##*/} 3D controller [0302]: NVIDIA [10de:$(cut -c3- "$d/device")]" ;;
  esac
done
nvidia-smi -L >/dev/null 2>&1 && echo driver
echo
cat /var/lib/dpkg/status
"""
_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "debian": ("main", "contrib", "non-free", "non-free-firmware"),
    "ubuntu": ("main", "restricted", "universe", "multiverse"),
}
_MIRROR_SUITES: Mapping[str, tuple[str, ...]] = {
    "debian": ("", "-updates"),
    "ubuntu": ("", "-updates", "-security"),
}


@dataclass(frozen=True, slots=True)
class Bundles:
    """Hosts that lack nothing are in neither."""

    folders: Mapping[str, Path] = field(default_factory=dict)  # host -> its bundle
    failed: Mapping[str, ClusterAIError] = field(default_factory=dict)


def build(config: Config, names: Iterable[str], *, on_step: Callable[[str, str], None] | None = None) -> Bundles:
    """Bundles for these hosts. on_step: told the host and what is being done for it."""
    require_apt()
    step = on_step or (lambda host, text: None)
    wanted = set(names)
    machines = {host.name: host for host in all_hosts(config) if host.name in wanted}
    argvs = {name: tuple(ssh_argv(config.ssh, host.address)) for name, host in machines.items()}
    for name in machines:
        step(name, "See which packages it has")
    read: set[str] = set()  # groups whose package lists are fresh
    folders: dict[str, Path] = {}
    failed: dict[str, ClusterAIError] = {}
    for name, reply in ssh.run(ssh.calls(argvs, _ASK, as_root=False)).items():
        if not isinstance(reply, Reply):
            failed[name] = reply
            continue
        try:
            folder = _bundle(config, machines[name], parse(name, reply.stdout), read, functools.partial(step, name))
        except ClusterAIError as error:
            error.where = error.where or name
            failed[name] = error
        else:
            if folder:
                folders[name] = folder
    return Bundles(folders, failed)


def require_apt() -> None:
    missing = [program for program in ("apt-get", "dpkg-deb") if not shutil.which(program)]
    if missing:
        raise BundleError(
            f"a bundle of .deb files is built with apt, and {' and '.join(missing)} is not on this machine",
            remedy="run cluster-ai on Debian or Ubuntu, or set packages.source in cluster.yaml to mirror",
        )


def parse(host: str, answer: bytes) -> Seen:
    """The answer to _ASK. Raises HostError where the host's distribution is none that the roles are made for."""
    head, _, status = answer.partition(b"\n\n")
    first, *rest = head.decode(errors="replace").splitlines() or [""]
    facts = dict(word.split("=", 1) for word in first.split() if "=" in word)
    host_layer.require_supported(
        host, f"{facts.get('id') or 'an unknown system'}-{facts.get('version', '')}".rstrip("-")
    )
    cards = "\n".join(line for line in rest if "[10de:" in line)
    return Seen(facts["id"], facts["codename"], facts["arch"], facts["kernel"], cards, "driver" in rest, status)


def installed(status: bytes) -> frozenset[str]:
    """Names of the packages that a dpkg status says are installed."""
    names = set()
    for stanza in status.decode(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            names.add(fields["Package"])
    return frozenset(names)


def wanted_packages(config: Config, host: Host, seen: Seen) -> tuple[str, ...]:
    """What the host layer will install there, the driver for its cards included."""
    names = host_layer.packages(config, host.roles)
    if "worker" in host.roles and seen.cards and not seen.driver:
        branch = host_layer.default("nvidia_driver", "nvidia_driver_ubuntu_branch")
        facts = {"lspci": seen.cards, "kernel": seen.kernel, "works": False, "on_disk": None, "nouveau": False}
        plan = _driver().plan(facts, seen.distribution.capitalize(), branch)
        names = (*names, *plan.packages, *plan.headers)
    return names


def sources(
    seen: Seen, mirror: str | None, own: Sequence[Source], codename: str, distribution: str
) -> tuple[Source, ...]:
    """Where packages for a host are fetched from: the mirror, or this machine's own sources (`own`, of its release
    `codename` of `distribution`), put to the host's release."""
    components = _COMPONENTS.get(seen.distribution)
    if components is None:
        raise BundleError(
            f"there are no bundles for {seen.distribution} {seen.codename}",
            remedy="use Debian 12 or 13, or Ubuntu 24.04",
        )
    if mirror:
        return tuple(Source(mirror, seen.codename + tail, components) for tail in _MIRROR_SUITES[seen.distribution])
    mine = [
        Source(source.uri, seen.codename + source.suite.removeprefix(codename), components)
        for source in own
        if re.fullmatch(rf"{re.escape(codename)}(-updates|-security)?", source.suite)
        and set(source.components) & set(components)
    ]
    if distribution != seen.distribution or not mine:
        raise BundleError(
            f"this machine has no package sources for {seen.distribution} {seen.codename}",
            remedy="set packages.mirror in cluster.yaml to one of it, or run cluster-ai on a machine that has it",
        )
    return tuple(dict.fromkeys(mine))


def _bundle(config: Config, host: Host, seen: Seen, read: set[str], step: Callable[[str], None]) -> Path | None:
    packages = wanted_packages(config, host, seen)
    if not set(packages) - installed(seen.status):
        return None
    own, codename, distribution = own_sources()
    entries = sources(seen, config.packages.mirror, own, codename, distribution)
    store = config.path.parent / ".cluster-ai" / "store" / "debs"
    asked = json.dumps([packages, [repr(entry) for entry in entries], seen.group]).encode()
    key = hashlib.sha256(asked + b"\0" + seen.status).hexdigest()
    known = store / "asked" / key
    if known.is_file():
        folder = store / "bundles" / known.read_text().strip()
        if _whole(folder):
            return folder
    with _locked(store / "apt" / seen.group):
        apt = Apt(store / "apt" / seen.group, seen, entries)
        if seen.group not in read:
            step("Read package lists")
            apt.update()
            read.add(seen.group)
        step("Fetch the .deb files it lacks")
        folder = _make(sorted(apt.fetch(packages)), store / "bundles")
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(folder.name + "\n")
    return folder


def _whole(folder: Path) -> bool:
    try:
        return _sha256(folder / "debs.tar") == (folder / "debs.tar.sha256").read_text().strip()
    except OSError:
        return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time: clusters may share a store, and a folder of apt's has the status of one host at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(files: Sequence[Path], bundles: Path) -> Path:
    index = "".join(_stanza(file) for file in files).encode()
    sums = {"Packages": hashlib.sha256(index).hexdigest(), **{file.name: _sha256(file) for file in files}}
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    folder = bundles / hashlib.sha256(text).hexdigest()
    bundles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundles, prefix=".new-") as new:
        path = Path(new) / "debs.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in (("SHA256SUMS", text), ("Packages", index)):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o644
                tar.addfile(member, io.BytesIO(content))
            for file in files:
                tar.add(file, file.name, filter=_plain)
        (Path(new) / "debs.tar.sha256").write_text(_sha256(path) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for entry in Path(new).iterdir():
            entry.rename(folder / entry.name)
    return folder


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime, member.mode = 0, 0o644
    return member


def _stanza(file: Path) -> str:
    control = subprocess.run(["dpkg-deb", "--field", file], capture_output=True, text=True, check=True).stdout
    return f"{control.rstrip()}\nFilename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {_sha256(file)}\n\n"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.cache
def _driver() -> Any:
    """The role's own decision which driver a card gets, so that there is one."""
    path = host_layer.ROOT / "roles" / "nvidia_driver" / "filter_plugins" / "nvidia_driver.py"
    spec = importlib.util.spec_from_file_location("cluster_ai_role_nvidia_driver", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
