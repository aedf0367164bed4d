"""Runs on the host, as root, by the host's own python3: its text travels with each call, so that nothing need be installed for it.

Standard library only, and no import from this package. One JSON object comes on standard input, one goes to standard output; what is
refused comes back as {"error": ..., "remedy": ..., "kind": "host" | "rollout"}.
"""

import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

RESERVE = 64 << 20  # bytes that must stay free
OURS = ("manifest.json", "units.txt")  # in a release, but not of its manifest


class Refused(Exception):
    def __init__(self, error, remedy="", kind="rollout"):
        super().__init__(error)
        self.answer = {"error": error, "remedy": remedy, "kind": kind}


def main():
    order = json.loads(sys.stdin.readline())
    try:
        answer = {
            "inspect": inspect,
            "prepare": prepare,
            "unpack": unpack,
            "assemble": assemble,
            "credentials": credentials,
        }[order["do"]](order)
    except Refused as error:
        answer = error.answer
    except OSError as error:
        full = error.errno in (28, 122)  # ENOSPC, EDQUOT
        answer = {
            "error": "the disk is full: %s" % error if full else str(error),
            "remedy": "free some space, then run it again" if full else "",
            "kind": "host",
        }
    print(json.dumps(answer))


# --- what is here ---------------------------------------------------------------------------------------------------------------


def inspect(order):
    """What of the wanted release is here already. A release that isn't as its manifest says costs the parts concerned."""
    root, state = order["root"], order["state"]
    release = os.path.join(root, "releases", order["digest"])
    parts = {name: sha for name, sha in order["parts"]}
    bad = drift(release, json.loads(order["manifest"])) if os.path.isdir(release) else []
    broken = {owner(path, parts) for path, _ in bad if path not in OURS}
    return {
        "parts": [
            sha for name, sha in order["parts"] if name in broken or not os.path.isdir(os.path.join(root, "parts", sha))
        ],
        "blobs": [sha for sha in order["blobs"] if not os.path.isfile(os.path.join(state, "blobs", sha))],
        "release": os.path.isdir(release) and not bad,
        "drift": ["%s is %s" % item for item in bad],
        "credentials": [
            n for n, sha in order["credentials"].items() if file_digest(os.path.join(order["etc"], n)) != sha
        ],
        "switch": file_digest(os.path.join(root, "libexec", "switch")) == order["switch"],
        "leftovers": leftovers(root),
        "incoming": sizes(os.path.join(state, "incoming")),
        "ready": all(os.path.isdir(d) for d in folders(order)),
        "rsync": bool(shutil.which("rsync")),
    }


def folders(order):
    root, state = order["root"], order["state"]
    return [os.path.join(root, n) for n in ("parts", "releases", "libexec")] + [
        os.path.join(state, n) for n in ("blobs", "incoming", "units")
    ]


def leftovers(root):
    """Folders of a push that was cut off."""
    return [
        os.path.join(root, place, name)
        for place in ("parts", "releases")
        if os.path.isdir(os.path.join(root, place))
        for name in os.listdir(os.path.join(root, place))
        if name.startswith(".")
    ]


def sizes(folder):
    return {n: os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)} if os.path.isdir(folder) else {}


def file_digest(path):
    """SHA-256 of a file; None where there is none."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
            return digest.hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def owner(path, parts):
    """The part that a path of a release comes from: that of its first folder, else the host's own."""
    first = path.split("/", 1)[0]
    return first if first in parts else "host"


def drift(release, manifest):
    """Every path of a release that isn't as the manifest says: (path, "changed" | "missing" | "extra" | "of another mode")."""
    wanted, found = manifest["files"], set()
    for folder, folders_, files in os.walk(release):
        links = [d for d in folders_ if os.path.islink(os.path.join(folder, d))]  # a release has none
        found.update(os.path.relpath(os.path.join(folder, name), release) for name in files + links)
    bad = [(path, "missing") for path in wanted.keys() - found]
    bad += [(path, "extra") for path in found - wanted.keys() if path not in OURS]

    def check(path):
        name, entry = os.path.join(release, path), wanted[path]
        if os.path.islink(name) or file_digest(name) != entry["sha256"]:
            return path, "changed"
        return None if stat.S_IMODE(os.lstat(name).st_mode) == int(entry["mode"], 8) else (path, "of another mode")

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        bad += [item for item in pool.map(check, sorted(found & wanted.keys()), chunksize=64) if item]
    return sorted(bad)


# --- making it be here ------------------------------------------------------------------------------------------------------------


def prepare(order):
    """Folders, the switch script, room on the disks. What an interrupted push left is removed first, as it may be what fills them."""
    for path in leftovers(order["root"]):
        shutil.rmtree(path, ignore_errors=True)
    incoming = os.path.join(order["state"], "incoming")
    for name in sizes(incoming):
        if name not in order["wanted"]:
            os.unlink(os.path.join(incoming, name))
    for folder in folders(order):
        os.makedirs(folder, mode=0o755, exist_ok=True)
    room(order)
    user = pwd.getpwnam(order["user"])
    os.chown(
        incoming, user.pw_uid, user.pw_gid
    )  # rsync comes as this user; what it brings is checked before it is used
    os.chmod(incoming, 0o700)
    replace(os.path.join(order["root"], "libexec", "switch"), order["script"].encode(), 0o755)
    return {}


def room(order):
    """Refuse what the disks can't hold, with numbers, before anything is brought."""
    needed = {}  # by disk
    for folder, size in ((order["root"], order["unpacked"]), (order["state"], order["brought"])):
        device = os.stat(folder).st_dev
        needed[device] = (folder, needed.get(device, (folder, 0))[1] + size)
    for folder, size in needed.values():
        disk = os.statvfs(folder)
        free = disk.f_bavail * disk.f_frsize
        if size and free < size + RESERVE:
            raise Refused(
                "no room on the disk of %s: %s are needed, %s are free" % (folder, mib(size + RESERVE), mib(free)),
                "free %s there; old releases go with: %s/libexec/switch --prune 1"
                % (mib(size + RESERVE - free), order["root"]),
                kind="host",
            )


def mib(size):
    return "%d MiB" % -(-size // (1 << 20))


def unpack(order):
    """Archives and blobs that have come in: checked, then moved to their place in one step."""
    root, state = order["root"], order["state"]
    for name, sha in order["parts"]:
        archive, tmp = os.path.join(state, "incoming", sha), os.path.join(root, "parts", "." + sha)
        checked("part %s" % name, archive, sha)
        shutil.rmtree(tmp, ignore_errors=True)
        os.mkdir(tmp)
        done = subprocess.run(["tar", "-xzf", archive, "-C", tmp, "--no-same-owner", "-p"], stderr=subprocess.PIPE)
        if done.returncode:
            shutil.rmtree(tmp, ignore_errors=True)
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["tar fails"]
            full = any("No space left" in line for line in said)
            raise Refused("part %s can't be unpacked: %s" % (name, said[0]), "free some space" if full else "", "host")
        swap(tmp, os.path.join(root, "parts", sha))
        os.unlink(archive)
    for sha in order["blobs"]:
        archive = os.path.join(state, "incoming", sha)
        checked("model file", archive, sha)
        os.chown(archive, 0, 0)
        os.chmod(archive, 0o644)
        os.replace(archive, os.path.join(state, "blobs", sha))
    return {}


def checked(what, path, sha):
    found = file_digest(path)
    if found != sha:
        if found:
            os.unlink(path)  # it would be resumed, and stay wrong
        raise Refused(
            "%s: its SHA-256 is not what it must be (expected %s, found %s)" % (what, sha, found or "no file"),
            "build the release anew; if it comes again, the controller's store or the way to the host corrupts files",
        )


def swap(new, place):
    """Put a folder in its place, also where an older one is."""
    old = os.path.join(os.path.dirname(place), ".old-" + os.path.basename(place))
    if os.path.isdir(place):
        os.rename(place, old)
    os.rename(new, place)
    shutil.rmtree(old, ignore_errors=True)


def assemble(order):
    """Make releases/<digest> of hard links into the parts, check every file of it, then give it its name."""
    root, manifest = order["root"], json.loads(order["manifest"])
    digest = hashlib.sha256(order["manifest"].encode()).hexdigest()
    if digest != order["digest"]:
        raise Refused(
            "the manifest's SHA-256 is %s, the release's name %s" % (digest, order["digest"]), "build the release anew"
        )
    place, parts = os.path.join(root, "releases", digest), dict(order["parts"])
    if os.path.isdir(place):
        return repair(place, root, parts, order["manifest"], manifest)
    tmp = os.path.join(root, "releases", "." + digest)
    shutil.rmtree(tmp, ignore_errors=True)
    os.mkdir(tmp, 0o755)
    try:
        for sha in parts.values():  # each has its files under their paths in the release
            subprocess.run(["cp", "-al", os.path.join(root, "parts", sha, "."), tmp], check=True)
        describe(tmp, order["manifest"], manifest)
        told(drift(tmp, manifest), digest)
        subprocess.run(
            ["sync", "-f", tmp], check=True
        )  # a power cut must not leave a release with empty files under its name
    except (subprocess.CalledProcessError, OSError, Refused):
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    os.rename(tmp, place)
    return {}


def repair(place, root, parts, text, manifest):
    """Make a release that has drifted what it was, file by file: processes may live in it."""
    for path, what in drift(place, manifest):
        name = os.path.join(place, path)
        if what == "extra":
            os.unlink(name)
            continue
        os.makedirs(os.path.dirname(name), exist_ok=True)
        os.link(os.path.join(root, "parts", parts[owner(path, parts)], path), name + ".new")
        os.replace(name + ".new", name)
    describe(place, text, manifest)
    told(drift(place, manifest), os.path.basename(place))
    return {}


def describe(release, text, manifest):
    """manifest.json, and its units as lines, so that the switch script needs nothing but a shell."""
    replace(os.path.join(release, "manifest.json"), text.encode(), 0o444)
    lines = "".join("%s %s\n" % item for item in sorted(manifest["units"].items()))
    replace(os.path.join(release, "units.txt"), lines.encode(), 0o444)


def told(bad, digest):
    if bad:
        more = ", and %d more" % (len(bad) - 3) if len(bad) > 3 else ""
        shown = ", ".join("%s is %s" % item for item in bad[:3])
        raise Refused(
            "release %s isn't what its manifest says: %s%s" % (digest[:12], shown, more), "build the release anew"
        )


def credentials(order):
    """Keys and certificates: root's alone, from the first byte on."""
    os.makedirs(order["etc"], mode=0o700, exist_ok=True)
    for name, text in order["files"].items():
        replace(os.path.join(order["etc"], name), text.encode(), 0o600)
    return {}


def replace(path, content, mode):
    tmp = path + ".new"
    if os.path.lexists(tmp):
        os.unlink(tmp)
    with os.fdopen(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(tmp, path)


if __name__ == "__main__":
    main()
