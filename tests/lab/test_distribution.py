"""A release goes from host to host: the controller sends a file once, and whatever fails between hosts, it arrives."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cluster_ai import layout
from cluster_ai.config import Config
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.provision.pyinfra import HostOutcome, push
from cluster_ai.rollout.targets import targets
from tests.lab.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]
SIZE = 24_000_000
WORKERS = ("h2", "h3", "h4")
SLOW, QUICK = "8mbit", "40mbit"  # slow, so that something can be done to a host meanwhile


def grown(target: HostTarget, folder: Path, files: dict[str, bytes]) -> HostTarget:
    """What a host runs, and a further part "more" with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    packed = gzip.compress(out.getvalue(), 1, mtime=0)
    sha = hashlib.sha256(packed).hexdigest()
    (folder / f"{sha}.tar.gz").write_bytes(packed)
    manifest = json.loads(Path(target.manifest_path).read_text())
    manifest["parts"]["more"] = sha
    manifest["files"] |= {
        path: {"sha256": hashlib.sha256(it).hexdigest(), "mode": "0644"} for path, it in files.items()
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    place = folder / f"{target.name}-{sha}.json"
    place.write_bytes(text)
    parts = (*target.parts, ("more", sha, str(folder / f"{sha}.tar.gz")))
    return dataclasses.replace(
        target, digest=hashlib.sha256(text).hexdigest(), manifest_path=str(place), parts=parts, credentials=None
    )


def content(seed: int, size: int = SIZE) -> bytes:
    return Random(seed).randbytes(size)


@pytest.fixture(scope="module")
def now(cluster: Cluster) -> list[HostTarget]:
    """What the workers run."""
    return [it for it in targets(cluster.config_path, None)[0] if it.name in WORKERS]


@dataclasses.dataclass(frozen=True)
class Uplink:
    """The controller's side of the lab's network."""

    bridge: str

    @property
    def sent(self) -> int:
        return int(Path(f"/sys/class/net/{self.bridge}/statistics/tx_bytes").read_text())

    def limit(self, rate: str) -> None:
        shape = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "200ms")
        subprocess.run(("tc", "qdisc", "replace", "dev", self.bridge, *shape), check=True)


@pytest.fixture
def uplink(cluster: Cluster) -> Iterator[Uplink]:
    made = Uplink(f"br-{cluster.lab.tag}")
    made.limit(QUICK)
    yield made
    subprocess.run(("tc", "qdisc", "del", "dev", made.bridge, "root"), check=True)


@pytest.fixture(autouse=True)
def tidy(cluster: Cluster) -> Iterator[None]:
    yield
    for host in WORKERS:
        cluster.lab.run_on(host, f"{layout.LIBEXEC}/switch --prune 1")


def arrived(cluster: Cluster, target: HostTarget) -> bool:
    made = f"{layout.RELEASES}/{target.digest}/manifest.json"
    return cluster.lab.run_on(target.name, f"sha256sum <{made}", check=False).split()[:1] == [target.digest]


def left(cluster: Cluster, host: str) -> str:
    """What a push leaves on a host beside its release: archives, and somebody who serves them."""
    look = f"ls -A {layout.INCOMING}; ss -Hltn 'sport = :{layout.PEER_PORT}'"
    return cluster.lab.run_on(host, look).strip()


def under_way(cluster: Cluster) -> str:
    """The host that the controller sends to, as soon as a good part is there."""
    large = f"find {layout.INCOMING} -type f -size +2M | grep -q . && pgrep -x rsync"
    found: list[str] = []

    def look() -> bool:
        found.extend(host for host in WORKERS if cluster.lab.run_on(host, large, check=False).strip())
        return bool(found)

    until(look)
    return found[0]


class Push(threading.Thread):
    """A push under way; `result()` waits for it."""

    def __init__(self, config: Config, to: list[HostTarget]) -> None:
        super().__init__()
        self._config, self._to = config, to
        self.events: list[Event] = []
        self._outcomes: dict[str, HostOutcome] = {}
        self.start()

    def run(self) -> None:
        self._outcomes = push(self._config, self._to, sudo_password=None, on_event=self.events.append)

    def result(self) -> dict[str, HostOutcome]:
        self.join()
        return self._outcomes

    def told(self) -> str:
        return "\n".join(event.detail for event in self.events if (event.step, event.status) == ("transfer", "changed"))


def test_the_controller_sends_a_file_once_and_later_only_what_is_new_in_it(
    cluster: Cluster, config: Config, now: list[HostTarget], uplink: Uplink, tmp_path: Path
) -> None:
    files = {"more/large": content(1), "more/small": content(2, 2_000_000)}
    first = [grown(it, tmp_path, files) for it in now]
    before = uplink.sent
    pushed = Push(config, first)
    assert all(outcome.ok for outcome in pushed.result().values()), pushed.result()
    assert all(arrived(cluster, it) for it in first)
    assert SIZE < uplink.sent - before < 1.5 * SIZE
    assert "from other hosts" in pushed.told()
    until(lambda: not any(left(cluster, host) for host in WORKERS))  # who serves ends with its connection

    second = [grown(it, tmp_path, files | {"more/small": content(3, 2_000_000)}) for it in now]
    before = uplink.sent
    pushed = Push(config, second)
    assert all(outcome.ok for outcome in pushed.result().values()), pushed.result()
    assert all(arrived(cluster, it) for it in second)
    assert uplink.sent - before < 0.4 * SIZE  # and what SSH says besides: manifests


def test_a_source_that_dies_midway_costs_no_host_its_release(
    cluster: Cluster, config: Config, now: list[HostTarget], uplink: Uplink, tmp_path: Path
) -> None:
    wanted = [grown(it, tmp_path, {"more/large": content(4)}) for it in now]
    uplink.limit(SLOW)
    before = uplink.sent
    pushed = Push(config, wanted)
    source = under_way(cluster)
    cluster.lab.run_on(source, "pkill -9 -f '[g]ives to other hosts'")  # words of peer.py's, which is its command line
    uplink.limit(QUICK)
    assert all(outcome.ok for outcome in pushed.result().values()), pushed.result()
    assert all(arrived(cluster, it) for it in wanted)
    assert uplink.sent - before < 2.5 * SIZE  # to that one, and once more to the others


def test_a_source_that_gives_something_wrong_is_found_out(
    cluster: Cluster, config: Config, now: list[HostTarget], uplink: Uplink, tmp_path: Path
) -> None:
    wanted = [grown(it, tmp_path, {"more/large": content(5)}) for it in now]
    uplink.limit(SLOW)
    pushed = Push(config, wanted)
    source = under_way(cluster)
    # Zeros, which it gives to its followers at once; its own transfer writes over them.
    cluster.lab.run_on(source, f"truncate -s {SIZE} {layout.INCOMING}/*")
    until(lambda: any(f"{source} is no source" in event.detail for event in pushed.events))
    uplink.limit(QUICK)
    assert all(outcome.ok for outcome in pushed.result().values()), pushed.result()
    assert f"{source}: gives a file whose SHA-256 is" in pushed.told()
    assert all(arrived(cluster, it) for it in wanted)


def test_hosts_that_cannot_reach_each_other_get_all_from_the_controller_which_says_so(
    cluster: Cluster, config: Config, now: list[HostTarget], tmp_path: Path
) -> None:
    wanted = [grown(it, tmp_path, {"more/large": content(6)}) for it in now]
    pairs = list(itertools.combinations(WORKERS, 2))
    for pair in pairs:
        cluster.lab("partition", *pair, "on")
    try:
        pushed = Push(config, wanted)
        assert all(outcome.ok for outcome in pushed.result().values()), pushed.result()
    finally:
        for pair in pairs:
            cluster.lab("partition", *pair, "off")
    assert all(arrived(cluster, it) for it in wanted)
    assert "timed out" in pushed.told()
