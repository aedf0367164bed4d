"""Runs on the host, as root, by the host's own python3: its text travels with each call, so nothing need be installed.

Standard library only, and no import from this package. One JSON object comes on standard input, one goes to standard
output; what is refused comes back as {"error": ..., "remedy": ..., "kind": "host" | "rollout"}.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Order = dict[str, Any]
Pairs = list[tuple[str, str]]

RESERVE = 64 << 20  # bytes that must stay free
OURS = ("manifest.json", "units.txt")  # in a release, but not of its manifest
GUARD = "cluster-ai-guard.service"
FRONT = "cluster-ai-front.service"
TLS = "tls/"  # before the names of credentials that are renewed while units run
FULL = (errno.ENOSPC, errno.EDQUOT)


class RefusedError(Exception):
    def __init__(self, error: str, remedy: str = "", kind: str = "rollout") -> None:
        super().__init__(error)
        self.answer = {"error": error, "remedy": remedy, "kind": kind}


def main() -> None:
    order = json.loads(sys.stdin.readline())
    os.umask(0o022)
    does = {
        "inspect": inspect,
        "prepare": prepare,
        "unpack": unpack,
        "assemble": assemble,
        "credentials": credentials,
    }
    try:
        answer = does[order["do"]](order)
    except RefusedError as error:
        answer = error.answer
    except OSError as error:
        answer = disk_full().answer if error.errno in FULL else {"error": str(error), "remedy": "", "kind": "host"}
    print(json.dumps(answer))


def disk_full() -> RefusedError:
    return RefusedError("the disk is full", "free some space there, then run it again", "host")


# --- what is here ----------------------------------------------------------------------------------------------------


def inspect(order: Order) -> Order:
    """What of the wanted release is here already. A release that has drifted costs the parts concerned."""
    root, state = Path(order["root"]), Path(order["state"])
    release = root / "releases" / order["digest"]
    parts = dict(order["parts"])
    bad = drift(release, order["manifest"]) if release.is_dir() else []
    broken = {owner(path, parts) for path, what in bad if path not in OURS and what != "extra"}
    return {
        "parts": [sha for name, sha in parts.items() if name in broken or not (root / "parts" / sha).is_dir()],
        "reuse": reuse(root, order["manifest"], parts) if order["reuse"] else {},
        "blobs": [sha for sha in order["blobs"] if not (state / "blobs" / sha).is_file()],
        "release": release.is_dir() and not bad and not newer(release),
        "drift": ["{} is {}".format(*item) for item in bad],
        "credentials": [
            name for name, sha in order["credentials"].items() if file_digest(credential(order, name)) != sha
        ],
        "switch": file_digest(root / "libexec" / "switch") == order["switch"] and guarded(Path(order["system"])),
        "leftovers": bool(leftovers(root)),
        "incoming": sizes(state / "incoming"),
        "ready": all(folder.is_dir() for folder in folders(root, state)),
        "rsync": bool(shutil.which("rsync")),
    }


def folders(root: Path, state: Path) -> list[Path]:
    return [root / name for name in ("parts", "releases", "libexec")] + [
        state / name for name in ("blobs", "incoming", "units")
    ]


def leftovers(root: Path) -> list[Path]:
    """Folders of a push, or of a removal, that was cut off."""
    return [path for place in ("parts", "releases") for path in (root / place).glob(".*")]


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.is_dir() else {}


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
            return digest.hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def owner(path: str, parts: dict[str, str]) -> str:
    """The part that a path of a release comes from: that of its first folder, else the host's own."""
    first = path.split("/", 1)[0]
    return first if first in parts else "host"


def drift(release: Path, text: str) -> Pairs:
    """Every path of a release that isn't as its manifest (given as text) says, with what is wrong with it."""
    manifest = json.loads(text)
    wanted: dict[str, dict[str, str]] = manifest["files"]
    found: set[str] = set()
    for folder, inside, files in os.walk(release):
        links = [name for name in inside if Path(folder, name).is_symlink()]  # a release has none
        found.update(os.path.relpath(Path(folder, name), release) for name in files + links)
    bad = [(path, "missing") for path in wanted.keys() - found]
    bad += [(path, "extra") for path in found - wanted.keys() if path not in OURS]
    for name, content in zip(OURS, (text.encode(), units(manifest)), strict=True):
        if file_digest(release / name) != hashlib.sha256(content).hexdigest():
            bad.append((name, "changed"))

    def check(path: str) -> tuple[str, str] | None:
        file, entry = release / path, wanted[path]
        if file.is_symlink() or file_digest(file) != entry["sha256"]:
            return path, "changed"
        return None if stat.S_IMODE(file.lstat().st_mode) == int(entry["mode"], 8) else (path, "of another mode")

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        bad += [item for item in pool.map(check, sorted(found & wanted.keys()), chunksize=64) if item]
    return sorted(bad)


def reuse(root: Path, text: str, parts: dict[str, str]) -> dict[str, Order]:
    """Of each part that isn't here, which paths no release here has a file for, and how many bytes the others are."""
    missing = [name for name, sha in parts.items() if not (root / "parts" / sha).is_dir()]
    places = [root / name for name in ("parts", "releases")]
    if not missing or not all(it.is_dir() for it in places) or len({it.stat().st_dev for it in places}) > 1:
        return {}  # hard links stay on their disk
    found, files = {}, Content(root)
    for name in missing:
        have = files.of(text, name, parts)
        size = sum(file.stat().st_size for file in have.values() if file)
        if size:
            found[name] = {"lacks": [path for path, file in have.items() if file is None], "size": size}
    return found


class Content:
    """Files of the releases here by their SHA-256 and mode, as their manifests say."""

    def __init__(self, root: Path) -> None:
        self._found: dict[tuple[str, str], list[Path]] = {}
        for manifest in sorted(root.glob("releases/*/manifest.json")):
            for path, entry in json.loads(manifest.read_bytes())["files"].items():
                self._found.setdefault((entry["sha256"], entry["mode"]), []).append(manifest.parent / path)

    def of(self, text: str, part: str, parts: dict[str, str]) -> dict[str, Path | None]:
        """For each path of a part of a manifest a file that is the same; it is read, whatever a manifest says."""
        wanted = {path: it for path, it in json.loads(text)["files"].items() if owner(path, parts) == part}

        def same(entry: dict[str, str]) -> Path | None:
            for file in self._found.get((entry["sha256"], entry["mode"]), ()):
                with contextlib.suppress(OSError):
                    regular = not file.is_symlink() and stat.S_IMODE(file.stat().st_mode) == int(entry["mode"], 8)
                    if regular and file_digest(file) == entry["sha256"]:
                        return file
            return None

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return dict(zip(wanted, pool.map(same, wanted.values(), chunksize=64), strict=True))


def newer(release: Path) -> bool:
    """Whether somebody was at work since the release was made: the probe goes by the same."""
    made = (release / "units.txt").stat().st_mtime_ns
    for folder, inside, files in os.walk(release):
        if any(Path(folder, name).lstat().st_mtime_ns > made for name in inside + files):
            return True
    return False


# --- making it be here -----------------------------------------------------------------------------------------------


def prepare(order: Order) -> Order:
    """Folders, the switch script, room. What an interrupted push left goes first, as it may be what fills the disk."""
    root, state = Path(order["root"]), Path(order["state"])
    for path in leftovers(root):
        shutil.rmtree(path, ignore_errors=True)
    for name in sizes(state / "incoming"):
        if name not in order["wanted"]:
            (state / "incoming" / name).unlink()
    for folder in folders(root, state):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    room(order)
    user = pwd.getpwnam(order["user"])
    for path in (state / "incoming", *(state / "incoming").iterdir()):  # by this user; all is checked before it is used
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    (state / "incoming").chmod(0o700)
    replace(root / "libexec" / "switch", order["script"].encode(), 0o755)
    guard(Path(order["system"]), root, state)
    return {}


def guarded(system: Path) -> bool:
    return (system / GUARD).is_file() and (system / "multi-user.target.wants" / GUARD).is_symlink()


def guard_unit(root: Path, state: Path) -> str:
    """The unit that goes back at boot, after a power cut in the midst of a switch. Like the script, of no release.

    Our socket comes after it, and sockets are before most others: so it has no default dependencies.
    """
    return (
        "[Unit]\nDescription=Cluster AI: puts back a release that was never confirmed\n"
        "DefaultDependencies=no\nAfter=local-fs.target\nConflicts=shutdown.target\nBefore=shutdown.target\n"
        f"ConditionPathExists={state}/pending\nRequiresMountsFor={root} {state}\n\n"
        "[Service]\n"
        "# Exposure: it is root, in no sandbox. It puts links, owners and units back, and has systemd read and start\n"
        "# them: what a sandbox took from it could be what it needs to bring the host back. It reads only files that\n"
        "# are root's, runs once at boot, and ends before anything of ours listens.\n"
        f"Type=oneshot\nExecStart={root}/libexec/switch --recover\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def guard(system: Path, root: Path, state: Path) -> None:
    text = guard_unit(root, state)
    link = system / "multi-user.target.wants" / GUARD
    link.parent.mkdir(parents=True, exist_ok=True)
    replace(system / GUARD, text.encode(), 0o644)
    if not link.is_symlink():
        link.symlink_to(f"../{GUARD}")
    subprocess.run(["systemctl", "daemon-reload"], check=False, stderr=subprocess.DEVNULL)


def room(order: Order) -> None:
    """Refuse what the disks can't hold, with numbers, before anything is brought."""
    root, state = Path(order["root"]), Path(order["state"])
    needed: dict[int, tuple[Path, int]] = {}
    wants = ((root / "parts", order["unpacked"]), (state / "incoming", order["brought"]), (state, order["copied"]))
    for folder, size in wants:
        device = folder.stat().st_dev
        needed[device] = (folder, needed.get(device, (folder, 0))[1] + size)
    for folder, size in needed.values():
        disk = os.statvfs(folder)
        free, wanted = disk.f_bavail * disk.f_frsize, size + RESERVE
        if size and free < wanted:
            raise RefusedError(
                f"no room on the disk of {folder}: {mib(wanted)} are needed, {mib(free)} are free",
                f"free {mib(wanted - free)} there; old releases go with: sudo {root}/libexec/switch --prune 1",
                kind="host",
            )


def mib(size: int) -> str:
    return f"{-(-size // (1 << 20))} MiB"


def unpack(order: Order) -> Order:
    """Archives and blobs that have come in: checked, then moved to their place in one step.

    parts: (name, SHA-256, that of the archive which came: the part's own, or one of what is lacking here).
    """
    root, state = Path(order["root"]), Path(order["state"])
    for name, sha, packed in order["parts"]:
        archive, new = state / "incoming" / packed, root / "parts" / f".{sha}"
        checked(f"part {name}", archive, packed)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        command = ["tar", "-xzf", str(archive), "-C", str(new), "--no-same-owner", "-p"]
        done = subprocess.run(command, stderr=subprocess.PIPE)
        if done.returncode:
            shutil.rmtree(new, ignore_errors=True)
            said = done.stderr.decode(errors="replace")
            if "No space left" in said or "quota exceeded" in said:
                raise disk_full()
            raise RefusedError(
                f"part {name} can't be unpacked: {(said.strip() or 'tar fails').splitlines()[0]}", "", "host"
            )
        if packed != sha:
            complete(new, name, order)
        swap(new, root / "parts" / sha)
        if packed not in order["keep"]:
            archive.unlink()
    for sha in order["blobs"]:
        archive = state / "incoming" / sha
        checked("model file", archive, sha)
        os.chown(archive, 0, 0)
        archive.chmod(0o644)
        archive.replace(state / "blobs" / sha)
    return {}


def complete(new: Path, part: str, order: Order) -> None:
    """Link into a part what other releases here have of it."""
    for path, file in Content(Path(order["root"])).of(order["manifest"], part, dict(order["all"])).items():
        place = new / path
        if not place.exists():
            if file is None:
                raise RefusedError(f"part {part}: {path} was here, and isn't any more", "run it again", "host")
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, place)


def checked(what: str, path: Path, sha: str) -> None:
    found = file_digest(path)
    if found != sha:
        if found:
            path.unlink()  # it would be resumed, and stay wrong
        raise RefusedError(
            f"{what}: its SHA-256 is not what it must be (expected {sha}, found {found or 'no file'})",
            "build the release anew; if it comes again, the controller's store or the way to the host corrupts files",
        )


def swap(new: Path, place: Path) -> None:
    """Put a folder in its place, also where an older one is."""
    old = place.with_name(f".old-{place.name}")
    if place.is_dir():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def assemble(order: Order) -> Order:
    """Make releases/<digest> of hard links into the parts, check every file of it, then give it its name."""
    root, text = Path(order["root"]), order["manifest"]
    digest, parts = hashlib.sha256(text.encode()).hexdigest(), dict(order["parts"])
    if digest != order["digest"]:
        raise RefusedError(
            f"the manifest's SHA-256 is {digest}, the release's name {order['digest']}", "build the release anew"
        )
    place, new = root / "releases" / digest, root / "releases" / f".{digest}"
    if place.is_dir():
        return repair(place, root, parts, text)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(0o755)
    try:
        for sha in parts.values():  # each has its files under their paths in the release
            subprocess.run(["cp", "-al", f"{root / 'parts' / sha}/.", str(new)], check=True, stderr=subprocess.PIPE)
        describe(new, text)
        told(drift(new, text), digest)
        subprocess.run(["sync", "-f", str(new)], check=True)  # a power cut must not leave empty files under its name
    except subprocess.CalledProcessError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise disk_full() if b"No space left" in (error.stderr or b"") else RefusedError(str(error)) from error
    except (OSError, RefusedError):
        shutil.rmtree(new, ignore_errors=True)
        raise
    new.rename(place)
    return {}


def repair(place: Path, root: Path, parts: dict[str, str], text: str) -> Order:
    """Make a release that has drifted what it was, file by file: processes may live in it."""
    describe(place, text)
    for path, what in drift(place, text):
        file = place / path
        if what == "extra":
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        os.link(root / "parts" / parts[owner(path, parts)] / path, new)
        new.replace(file)
    describe(place, text)  # once more: what is newer than this was changed by others
    told(drift(place, text), place.name)
    return {}


def describe(release: Path, text: str) -> None:
    """manifest.json, and its units as lines, so that the switch script needs nothing but a shell."""
    replace(release / "manifest.json", text.encode(), 0o444)
    replace(release / "units.txt", units(json.loads(text)), 0o444)


def units(manifest: Order) -> bytes:
    return "".join("{} {}\n".format(*item) for item in sorted(manifest["units"].items())).encode()


def told(bad: Pairs, digest: str) -> None:
    if bad:
        shown = ", ".join("{} is {}".format(*item) for item in bad[:3])
        more = f", and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise RefusedError(
            f"release {digest[:12]} isn't what its manifest says: {shown}{more}", "build the release anew"
        )


def credentials(order: Order) -> Order:
    """Keys and tokens: root's alone, from the first byte on. What TLS needs goes to the units that run, too."""
    etc = Path(order["etc"])
    etc.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls = {}
    for name, text in order["files"].items():
        if name.startswith(TLS):
            tls[name[len(TLS) :]] = text
        else:
            replace(etc / name, text.encode(), 0o600)
    if tls:
        certificates(Path(order["state"]), tls, order.get("group", "cluster-ai"))
    return {}


def credential(order: Order, name: str) -> Path:
    if name.startswith(TLS):
        return Path(order["state"], TLS, "current", name[len(TLS) :])
    return Path(order["etc"], name)


def certificates(state: Path, files: dict[str, str], group: str) -> None:
    """A new folder with these files, and those of the one before that aren't given; a link to it is set anew."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise RefusedError(f"there is no group {group}", "cluster-ai apply --converge makes it", "host") from None
    folder = state / TLS  # units that have no use for it can be shut out from this one, whatever the link is
    link = folder / "current"
    before = {path.name: path.read_text() for path in link.iterdir()} if link.is_dir() else {}
    place, last = folder / str(time.time_ns()), link.resolve()
    place.mkdir(mode=0o700, parents=True)
    for name, text in {**before, **files}.items():
        replace(place / name, text.encode(), 0o640)
        os.chown(place / name, -1, gid)
    for it in (place, folder):
        os.chown(it, -1, gid)
        it.chmod(0o750)
    new = folder / "new"
    new.unlink(missing_ok=True)
    new.symlink_to(place.name)
    new.replace(link)
    for old in folder.iterdir():
        if old not in (link, place, last):  # somebody may be in the midst of reading
            shutil.rmtree(old, ignore_errors=True)
    if before and before.get("ca.pem") != files.get("ca.pem", before.get("ca.pem")):
        # nginx takes a new certificate by itself, but not whose it trusts; a host without one has none that runs
        subprocess.run(
            ["systemctl", "kill", "--signal=HUP", "--kill-who=main", FRONT], check=False, capture_output=True
        )


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step."""
    new = path.with_name(path.name + ".new")
    if new.is_symlink() or new.exists():
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


if __name__ == "__main__":
    main()
