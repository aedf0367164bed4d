"""How a release comes to hosts whose controller has a slow uplink: `make bench-distribution` (root).

Real lab hosts, and pushes as `apply` makes them; the controller's side of the lab's network is held to RATE. Beside it,
in the same rounds, the way without passing on: all of it from the controller to each. Writes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.lab_files import ROOT, SHARED, furnish  # noqa: E402
from benchmarks.page import put  # noqa: E402
from cluster_ai.config import Config, load  # noqa: E402
from cluster_ai.deploys.data import HostTarget  # noqa: E402
from cluster_ai.provision.pyinfra import push  # noqa: E402
from cluster_ai.rollout.targets import targets  # noqa: E402

FOLDER = ROOT / ".cluster-ai" / "bench-distribution"
NET, TAG = "10.77.96", "dist"
WORKERS = ("h2", "h3", "h4", "h5")
RATE = 100  # Mbit/s
LIBRARIES = 60_000_000  # bytes beside Ollama's binary, as CUDA's are in its own releases (there it is gigabytes)
CLEAN = "rm -rf /opt/cluster-ai/* /var/lib/cluster-ai/* /etc/cluster-ai"
CONFIG = """\
version: '1.0'
cluster:
  name: lab
  scheduler: {{host: {net}.11}}
  workers:
{workers}
  models:
    - {{name: 'smollm2:135m', replicas: all, source: ./smollm2.gguf, resources: {{memory: 500MB}}}}
  ssh: {{user: deploy, key: ./id_ed25519, known_hosts: ./known_hosts}}
  engine: {{version: '0.17.4', source: ./ollama}}
"""

Change = Callable[[str, bytes], bytes]  # path, content -> content


@dataclass(frozen=True)
class Sent:
    seconds: float
    bytes: int  # by the controller


def lab(*arguments: str) -> None:
    SHARED.mkdir(parents=True, exist_ok=True)
    where = {"LAB_DIR": str(FOLDER), "LAB_TAG": TAG, "LAB_NET": NET, "LAB_BASE": str(SHARED)}
    command = [sys.executable, str(ROOT / "lab/lab.py"), *arguments]
    subprocess.run(command, check=True, env=os.environ | where, stdout=subprocess.DEVNULL)


@contextmanager
def hosts() -> Iterator[tuple[Config, list[HostTarget]]]:
    """Bare hosts, and what its workers are to become."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lab("down")  # what a killed run may have left
    try:
        lab("up", str(1 + len(WORKERS)))
        furnish(FOLDER)
        for host in WORKERS:  # as the host layer does, without which nothing is pushed
            lab("exec", host, "--", "groupadd", "--system", "cluster-ai")
        each = "    - {{name: {0}, host: {1}.{2}, resources: {{cpu: 1, memory: 2GB}}}}"
        workers = "\n".join(each.format(host, NET, 10 + int(host[1:])) for host in WORKERS)
        (FOLDER / "cluster.yaml").write_text(CONFIG.format(net=NET, workers=workers))
        found = targets(FOLDER / "cluster.yaml", None)[0]
        words = ("tc", "qdisc", "add", "dev", f"br-{TAG}", "root", "tbf", "rate", f"{RATE}mbit", "burst", "128kb")
        subprocess.run([*words, "latency", "100ms"], check=True)
        yield load(FOLDER / "cluster.yaml"), [it for it in found if it.name in WORKERS]
    finally:
        lab("down")  # the bridge goes, and its rate with it
        shutil.rmtree(FOLDER, ignore_errors=True)


def sent(action: Callable[[], None]) -> Sent:
    """The time it takes, and what goes from the controller into the lab's network meanwhile."""
    counter = Path(f"/sys/class/net/br-{TAG}/statistics/tx_bytes")
    before, begin = int(counter.read_text()), time.monotonic()
    action()
    return Sent(time.monotonic() - begin, int(counter.read_text()) - before)


def pushed(config: Config, to: Sequence[HostTarget]) -> None:
    outcomes = push(config, to, sudo_password=None, on_event=lambda event: None)
    wrong = {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
    if wrong:
        raise SystemExit(f"bench: a push fails: {wrong}")


def alone(config: Config, to: Sequence[HostTarget]) -> None:
    """Each by a push of its own, all at once: so none has another one to pass on to."""
    with ThreadPoolExecutor(len(to)) as pool:
        list(pool.map(lambda it: pushed(config, [it]), to))


def first_release(config: Config, to: Sequence[HostTarget], rounds: int) -> dict[str, Sent]:
    ways: dict[str, Callable[[], None]] = {
        "one host": lambda: pushed(config, to[:1]),
        "host to host": lambda: pushed(config, to),
        "all from the controller": lambda: alone(config, to),
    }
    return medians(ways, CLEAN, rounds)


def medians(ways: Mapping[str, Callable[[], None]], cleaning: str, rounds: int) -> dict[str, Sent]:
    """Of each way, the median round; before each the hosts are cleaned by that command."""
    taken: dict[str, list[Sent]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, action in ways.items():
            for host in WORKERS:
                lab("exec", host, "--", "sh", "-c", cleaning)
            taken[way].append(sent(action))
            print(f"bench: {way}: {taken[way][-1]}", flush=True)
    return {
        way: Sent(statistics.median(it.seconds for it in all_), int(statistics.median(it.bytes for it in all_)))
        for way, all_ in taken.items()
    }


# --- changes ----------------------------------------------------------------------------------------------------------


def changed(target: HostTarget, part: str, change: Change, more: Mapping[str, bytes] | None = None) -> HostTarget:
    """What a host is to become, but for the content of some files of a part, and with some more."""
    archive = next(path for name, _, path in target.parts if name == part)
    manifest, out = json.loads(Path(target.manifest_path).read_text()), io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new:
        for member in old:
            file = old.extractfile(member) if member.isfile() else None
            if file is None:
                new.addfile(member)
            else:
                content = change(member.name, file.read())
                add(new, member.name, content, member.mode, manifest)
        for path, content in (more or {}).items():
            add(new, path, content, 0o644, manifest)
    packed = gzip.compress(out.getvalue(), 6, mtime=0)
    sha = hashlib.sha256(packed).hexdigest()
    place = FOLDER / "parts" / f"{sha}.tar.gz"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(packed)
    manifest["parts"][part] = sha
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    (FOLDER / f"{digest}.json").write_text(text)
    parts = tuple((name, sha, str(place)) if name == part else (name, was, path) for name, was, path in target.parts)
    return dataclasses.replace(
        target, digest=digest, manifest_path=str(FOLDER / f"{digest}.json"), parts=parts, credentials=None
    )


def add(archive: tarfile.TarFile, path: str, content: bytes, mode: int, manifest: dict[str, dict[str, object]]) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), mode
    archive.addfile(info, io.BytesIO(content))
    manifest["files"][path] = {"sha256": hashlib.sha256(content).hexdigest(), "mode": f"{mode:04o}"}


def comment(*starts: str) -> Change:
    """A line more in those files."""
    return lambda path, content: content + b"\n# another one\n" if path.startswith(starts) else content


def relinked(path: str, content: bytes) -> bytes:
    """Another build of the binary: everywhere a little different."""
    if path != "engine/bin/ollama":
        return content
    return bytes(byte ^ 1 if at % 64 == 0 else byte for at, byte in enumerate(content))


def changes(config: Config, to: Sequence[HostTarget]) -> dict[str, tuple[int, Sent]]:
    """For each kind of change, one after the other: (bytes of the archives that are new, all hosts', what was sent)."""
    libraries = {f"engine/lib/ollama/{n}.so": Random(n).randbytes(LIBRARIES // 10) for n in range(10)}  # noqa: S311
    now = [changed(it, "engine", lambda path, content: content, libraries) for it in to]
    pushed(config, now)
    kinds: dict[str, tuple[str, Change]] = {
        "a setting": ("host", lambda path, content: content + b"\n" if path == "etc/worker.json" else content),
        "our own code": ("app", comment("app/cluster_ai/__init__.py")),
        "one Python package": ("lib", comment("lib/distributed/")),
        "a new engine, whose libraries stay": ("engine", relinked),
    }
    found = {}
    for kind, (part, change) in kinds.items():
        new = [changed(it, part, change) for it in now]
        size = sum(Path(path).stat().st_size for it in new for name, _, path in it.parts if name == part)
        found[kind] = (size, sent(lambda new=new: pushed(config, new)))  # type: ignore[misc]
        print(f"bench: {kind}: {size} bytes whole, {found[kind][1]}", flush=True)
        now = new
    return found


# --- report -----------------------------------------------------------------------------------------------------------


def section(first: Mapping[str, Sent], later: Mapping[str, tuple[int, Sent]], rounds: int) -> str:
    one = first["one host"].seconds
    titles = {
        "one host": "1 host",
        "host to host": f"{len(WORKERS)} hosts, which pass it on",
        "all from the controller": f"{len(WORKERS)} hosts, all of it from the controller",
    }
    return "\n".join(
        [
            f"Measured by `make bench-distribution` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for"
            f" controller and lab hosts together, Linux {platform.release()}, Python {platform.python_version()}; the"
            f" controller's uplink is held to {RATE} Mbit/s, between hosts there is what the machine gives. Whole"
            f" pushes, with unpacking and checking. Rounds: {rounds}; medians.",
            "",
            "| a first release, with a model | s | times one host | the controller sends, MB |",
            "|---|---|---|---|",
            *(
                f"| {title} | {it.seconds:.1f} | {it.seconds / one:.2f} | {it.bytes / 1e6:.0f} |"
                for title, it in ((titles[way], first[way]) for way in titles)
            ),
            "",
            f"| what is new on {len(WORKERS)} hosts | whole archives to each, MB | the controller sends, MB | s |",
            "|---|---|---|---|",
            *(
                f"| {kind} | {size / 1e6:.2f} | {it.bytes / 1e6:.2f} | {it.seconds:.1f} |"
                for kind, (size, it) in later.items()
            ),
            "",
            "What is sent includes all that SSH says, and the scripts that travel with each call. The engine here is"
            f" Ollama's binary and {LIBRARIES / 1e6:.0f} MB of random libraries; the new one has every 64th byte of"
            " that binary changed. The package is Dask's `distributed`, with a line more in every file.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    if os.geteuid():
        raise SystemExit("bench: lab hosts need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the lab is taken down then too
    with hosts() as (config, to):
        first = first_release(config, to, rounds)
        later = changes(config, to)
    put("distribution", "Distribution", section(first, later, rounds))


if __name__ == "__main__":
    main()
