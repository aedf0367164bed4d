"""pyinfra operations: each asks what the host has (one fact), and does nothing where nothing is missing.

An operation never raises: what goes wrong on a host is kept with it (`failure_of`) and fails that host alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from functools import wraps
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation

from cluster_ai import layout
from cluster_ai.deploys import deltas, exchange, remote, transfer
from cluster_ai.deploys.confirmation import Confirmation
from cluster_ai.deploys.data import HostTarget
from cluster_ai.deploys.events import tell
from cluster_ai.deploys.outcomes import OUTCOMES
from cluster_ai.deploys.remote import MINUTES, Failure

Commands = Generator[FunctionCommand, None, None]
_FAILURE, _HELD, _PACKED = "cluster_ai_failure", "cluster_ai_held", "cluster_ai_packed"  # in a host's connector_data


def failure_of(failed: Host) -> Failure | None:
    """Why a host failed, where it is known."""
    found: Failure | None = failed.connector_data.get(_FAILURE)
    return found


def _do(state: State, host: Host, step: str, work: Callable[[], str]) -> bool:
    """Run a step's work on its host. (pyinfra hands over state and host by these very names.)"""
    host.connector_data.pop(_HELD, None)
    try:
        tell(host, step, "changed", work())
    except Exception as error:
        failure = error if isinstance(error, Failure) else Failure(f"{step} fails: {error!r}", remedy="run it again")
        host.connector_data[_FAILURE] = failure
        tell(host, step, "failed", failure.what)
        exchange.of(state).settle(host, ok=False)
        return False
    return True


def _step(name: str) -> Callable[[Callable[..., Generator[Callable[[], str], None, None]]], Callable[..., Commands]]:
    """An operation from a generator of work: what it yields is done, and says what it did."""

    def wrap(function: Callable[..., Generator[Callable[[], str], None, None]]) -> Callable[..., Commands]:
        @wraps(function)
        def commands(*args: Any, **kwargs: Any) -> Commands:
            tell(host, name, "start")
            worked = False
            try:
                for work in function(*args, **kwargs):
                    worked = True
                    yield FunctionCommand(_do, [name, work], {})
            except Failure as failure:
                raised = failure
                yield FunctionCommand(_do, [name, lambda: _raise(raised)], {})
                return
            if not worked:
                tell(host, name, "ok")

        return commands

    return wrap


def _raise(failure: Failure) -> str:
    raise failure


def _held(target: HostTarget) -> dict[str, Any]:
    """What the host has already; asked again after something was done there."""
    known: dict[str, Any] | None = host.connector_data.get(_HELD)
    if known is not None:
        return known
    first = _PACKED not in host.connector_data
    wanted = {
        "digest": target.digest,
        "reuse": first,  # files are read for it
        "parts": [(name, sha) for name, sha, _ in target.parts],
        "blobs": [sha for sha, _ in target.blobs],
        "credentials": {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in (target.credentials or {}).items()
        },
        "switch": hashlib.sha256(remote.script("switch.sh").encode()).hexdigest(),
        "manifest": _manifest(target),
    }
    found = host.connector_data[_HELD] = remote.held(host, **wanted)
    if first:
        host.connector_data[_PACKED] = _packed(target, found)
    return found


def _packed(target: HostTarget, found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What is to be brought of each missing part: all of it, or what is lacking. Part -> archive (SHA-256, path)."""
    packed = {}
    for name, sha, path in target.parts:
        if sha in found["parts"]:
            packed[sha] = (sha, path)
            there = found["reuse"].get(name)
            big = Path(path).stat().st_size >= deltas.WORTH
            if there and big and there["size"] >= deltas.SHARE * unpacked_size(path):
                less = deltas.delta(Path(path), there["lacks"])
                packed[sha] = less or packed[sha]
    return packed


def _parts(target: HostTarget) -> list[tuple[str, str, str, str]]:
    """Missing parts: name, SHA-256, and the archive that is to come (SHA-256, path here)."""
    missing, packed = _held(target)["parts"], host.connector_data[_PACKED]
    return [(name, sha, *packed.get(sha, (sha, path))) for name, sha, path in target.parts if sha in missing]


def _blobs(target: HostTarget) -> list[tuple[str, str]]:
    missing = _held(target)["blobs"]
    return [(sha, path) for sha, path in target.blobs if sha in missing]


def unpacked_size(archive: str) -> int:
    """Bytes in a .tar.gz, from its last four bytes, which count them modulo 4 GiB."""
    path = Path(archive)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, 2)
        counted = int.from_bytes(file.read(4), "little")
    return counted + (-(-max(0, size - counted) >> 32) << 32)


def _here(target: HostTarget) -> None:
    """What is to be pushed must be on this machine."""
    for path in (target.manifest_path, *(path for _, _, path in target.parts), *(path for _, path in target.blobs)):
        if not Path(path).is_file():
            raise Failure(f"{path} isn't here", remedy="build the release again: cluster-ai release build")


@operation()  # type: ignore[untyped-decorator]
@_step("make room")
def prepare(target: HostTarget) -> Generator[Callable[[], str], None, None]:
    """Folders, the switch script, and room on the disks for what is missing."""
    _here(target)
    found = _held(target)
    parts = [(archive, path) for _, _, archive, path in _parts(target)]
    blobs = _blobs(target)
    wanted = {sha for sha, _ in parts + blobs}
    if found["ready"] and found["switch"] and not found["leftovers"] and not wanted and not found["incoming"]:
        return
    if wanted and not found["rsync"]:
        raise transfer.no_rsync()
    size = {sha: Path(path).stat().st_size for sha, path in parts + blobs}
    there = sum(min(found["incoming"].get(sha, 0), size[sha]) for sha in wanted)

    def work() -> str:
        remote.order(
            host,
            "prepare",
            timeout=5 * MINUTES,
            wanted=sorted(wanted),
            user=exchange.owner(remote.as_root(host)[2]),
            script=remote.script("switch.sh"),
            unpacked=sum(unpacked_size(path) for _, path in parts),
            brought=sum(size.values()) - there,
            copied=sum(size[sha] for sha, _ in blobs),  # the engine keeps a copy of each model file
        )
        return ""

    yield work


@operation()  # type: ignore[untyped-decorator]
@_step("transfer")
def bring(target: HostTarget, common: frozenset[str]) -> Generator[Callable[[], str], None, None]:
    """Archives and model files that the host lacks, into layout.INCOMING. common: parts and blobs of several hosts."""
    ours = exchange.of(host.state)
    brought = [(sha, archive, path) for _, sha, archive, path in _parts(target)]
    brought += [(sha, sha, path) for sha, path in _blobs(target)]
    if not brought:
        ours.settle(host, ok=True)
        return
    files = {archive: path for _, archive, path in brought}
    shared = {
        archive for sha, archive, path in brought if sha in common and Path(path).stat().st_size >= exchange.SMALL
    }

    here = host.connector.host  # not pyinfra's `host`, which other greenlets can't use

    def work() -> str:
        told = ours.bring(here, target, files, shared, lambda text: tell(host, "transfer", "start", text))
        ours.settle(host, ok=True)
        return told

    yield work


@operation()  # type: ignore[untyped-decorator]
@_step("unpack")
def unpack(target: HostTarget) -> Generator[Callable[[], str], None, None]:
    """Check what came in, and put it in its place. Archives that other hosts may still want stay for `pass_on`."""
    parts = [(name, sha, archive) for name, sha, archive, _ in _parts(target)]
    blobs = [sha for sha, _ in _blobs(target)]
    if not parts and not blobs:
        return
    keep = [archive for _, _, archive in parts] if exchange.of(host.state).takes_part(host) else []

    def work() -> str:
        remote.order(
            host,
            "unpack",
            timeout=60 * MINUTES,
            parts=parts,
            keep=keep,
            blobs=blobs,
            all=[(name, sha) for name, sha, _ in target.parts],
            manifest=_manifest(target) if any(sha != archive for _, sha, archive in parts) else "",
        )
        return ", ".join([name for name, _, _ in parts] + [f"{len(blobs)} model file(s)"] * bool(blobs))

    yield work


@operation()  # type: ignore[untyped-decorator]
@_step("assemble")
def assemble(target: HostTarget) -> Generator[Callable[[], str], None, None]:
    """The release's folder, every file of it checked against its SHA-256."""
    found = _held(target)
    if found["release"]:
        return

    def work() -> str:
        parts = [(name, sha) for name, sha, _ in target.parts]
        remote.order(
            host, "assemble", timeout=30 * MINUTES, digest=target.digest, parts=parts, manifest=_manifest(target)
        )
        return target.digest[:12] + "".join(f"; {line}" for line in found["drift"][:3])

    yield work


@operation()  # type: ignore[untyped-decorator]
@_step("pass on")
def pass_on(target: HostTarget) -> Generator[Callable[[], str], None, None]:
    """Wait until no host wants anything of this one any more."""
    ours, archives = exchange.of(host.state), [archive for archive, _ in host.connector_data[_PACKED].values()]
    if not ours.takes_part(host):
        return

    def work() -> str:
        ours.end(host, archives)
        return ""

    yield work


@operation()  # type: ignore[untyped-decorator]
@_step("credentials")
def credentials(target: HostTarget) -> Generator[Callable[[], str], None, None]:
    """Keys, certificates, tokens; units get the new ones when they are started next, which `switch` sees to."""
    if target.credentials is None:
        return
    given, differing = target.credentials, _held(target)["credentials"]
    if not differing:
        return

    def work() -> str:
        remote.order(host, "credentials", timeout=MINUTES, files={name: given[name] for name in differing})
        return ", ".join(sorted(differing))

    yield work


@operation()  # type: ignore[untyped-decorator]
@_step("credentials")
def renew(target: HostTarget) -> Generator[Callable[[], str], None, None]:
    """New ones, whatever is there. For hosts that have a release, since that brings all else that these need."""

    def work() -> str:
        remote.order(host, "credentials", timeout=MINUTES, files=target.credentials)
        return "new certificate"

    yield work


def _runs(target: HostTarget) -> bool:
    """Whether a host runs this release already, healthy as it was, each unit with what it is to run from."""
    prefix, before, _ = remote.as_root(host)
    command = StringCommand(*prefix, str(layout.LIBEXEC / "switch"), "--check", target.digest)
    return remote.run(host, command, before, timeout=MINUTES)[0]


@operation()  # type: ignore[untyped-decorator]
@_step("switch")
def switch_to(target: HostTarget, timeout: int) -> Generator[Callable[[], str], None, None]:
    """Make a release the current one; a host that doesn't become healthy is put back by its own switch script."""
    if _runs(target):
        return

    def work() -> str:
        prefix, before, _ = remote.as_root(host)
        script = str(layout.LIBEXEC / "switch")
        words = [*prefix, script, "--timeout", str(timeout), target.digest, ";", "echo", "status=$?"]
        with Confirmation(host, target.digest) as confirmation:
            ok, lines, err = remote.run(host, StringCommand(*words), before, timeout=24 * 60 * MINUTES)
        status = lines.pop() if lines else ""
        if status == "status=0":
            if not _runs(target):
                raise Failure("was switched, but isn't as it must be now", remedy="see what it says: cluster-ai verify")
            return target.digest[:12]
        code = int(status.removeprefix("status=")) if status.startswith("status=") and status[7:].isdigit() else -1
        what, remedy = OUTCOMES.get(
            code, (f"the switch ends with {status or err or ok}", "see journalctl -u cluster-ai-switch there")
        )
        raise Failure("\n    ".join([what, *lines[-40:], *confirmation.refused]), remedy=remedy)

    yield work


def _manifest(target: HostTarget) -> str:
    return Path(target.manifest_path).read_text()
