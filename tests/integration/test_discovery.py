"""The ways to find machines, and joining by a token, between two network namespaces with real packets."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cluster_ai.config import load
from cluster_ai.discovery import networks
from cluster_ai.discovery.flow import Flow
from cluster_ai.discovery.merging import Machine
from cluster_ai.discovery.search import Search
from cluster_ai.inventory.known_hosts import HostKey

ROOT = Path(__file__).resolve().parents[2]
NET = "10.201.7"
DEADLINE = 240
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        os.geteuid() != 0
        or not shutil.which("ip")
        or not shutil.which("ssh-keygen")
        or not Path("/usr/bin/python3").exists(),
        reason="network namespaces need root, iproute2, openssh-client and Debian's python3",
    ),
]
CONFIG = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.201.7.200'}
  workers:
    - name: 'w1'
      host: '10.201.7.201'
      resources: {cpu: 1, memory: '2GB'}
  ssh: {user: 'root', key: './id'}
"""


def run(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=60)


@dataclass(frozen=True)
class Other:
    """The other namespace; `enter` is how to run something in it."""

    name: str
    folder: Path

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *(str(word) for word in words)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def join(self, token: str = "") -> subprocess.Popen[str]:
        """The script of bare machines, by the system's Python, with files of its own in /etc/ssh and /root."""
        binds = f'mount --bind {self.folder}/ssh /etc/ssh && mount --bind {self.folder}/root /root && exec "$@"'
        script = self.folder / "join.py"
        shutil.copy(ROOT / "cluster_ai" / "discovery" / "join.py", script)
        return self.start("sh", "-c", binds, "sh", "/usr/bin/python3", script, *([token] if token else []))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    name = f"cai{os.getpid() % 10000}"
    for folder in ("ssh", "root"):
        (tmp_path / folder).mkdir()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ssh" / "ssh_host_ed25519_key")
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "addr", "add", f"{NET}.1/24", "broadcast", "+", "dev", name)
        run("ip", "addr", "add", "fd77::1/64", "dev", name, "nodad")
        run("ip", "link", "set", name, "up")
        for number in (2, 3, 4, 5, 6):
            run("ip", "-n", name, "addr", "add", f"{NET}.{number}/24", "broadcast", "+", "dev", "eth0")
        run("ip", "-n", name, "addr", "add", "fd77::5/64", "dev", "eth0", "nodad")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        yield Other(name, tmp_path)
    finally:
        subprocess.run(
            ["ip", "link", "delete", name], capture_output=True, check=False
        )  # with the namespace it lingers
        run("ip", "netns", "delete", name)


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id")
    (tmp_path / "cluster.yaml").write_text(CONFIG)
    return Flow(load(tmp_path / "cluster.yaml"))


@asynccontextmanager
async def searching(flow: Flow) -> AsyncIterator[tuple[Search, Callable[[Callable[[], bool]], object]]]:
    """A search of the other namespace while it lasts, and how to wait for what it sees."""
    wanted = networks.parse([f"{NET}.0/24", "fd77::/64"])
    mine = networks.own()
    here = networks.chosen(mine, wanted)
    changed = asyncio.Event()
    search = Search(
        flow.config.ssh, here, wanted, networks.targets(here, wanted, [it.address for it in mine]), flow.secret
    )
    search.on_seen = lambda _: changed.set()

    async def until(condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise AssertionError(f"seen: {sorted(search.seen)}; {search.notes}") from None

    task = asyncio.create_task(search.run(3600))
    try:
        yield search, until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def test_machines_are_found_by_each_way_though_one_floods_and_one_has_an_evil_name(
    other: Other, flow: Flow
) -> None:
    neighbours = other.start(sys.executable, ROOT / "tests" / "rig" / "neighbourhood.py", NET)
    joining = other.join()
    try:
        assert neighbours.stdout
        assert await asyncio.to_thread(neighbours.stdout.readline) == "ready\n"
        wanted = {("beacon", f"{NET}.2"), ("mdns", f"{NET}.3"), ("ssdp", f"{NET}.4"), ("scan", f"{NET}.5")}
        wanted.add(("scan", "fd77::5"))
        async with searching(flow) as (search, until):
            await until(lambda: wanted <= search.seen.keys())  # type: ignore[misc]
        seen = search.seen
        assert seen["mdns", f"{NET}.3"].name == "[31mevil"
        assert seen["ssdp", f"{NET}.4"].system == "Debian"
        assert seen["scan", f"{NET}.5"].software == "OpenSSH_9.2p1 Debian-2"
        assert not any(address == f"{NET}.6" for _, address in seen)
        assert search.damper.ignored
    finally:
        end(joining)
        end(neighbours)


async def test_a_machine_with_a_token_lets_the_operators_key_in_once(other: Other, flow: Flow) -> None:
    token = flow.tokens.create("00")
    flow = Flow(flow.config)
    joining = other.join(token.text)
    try:
        async with searching(flow) as (search, until):
            await until(lambda: ("beacon", f"{NET}.2") in search.seen)  # type: ignore[misc]
        kind, blob = (other.folder / "ssh" / "ssh_host_ed25519_key.pub").read_text().split()[:2]
        it = next(found for found in search.machines() if f"{NET}.2" in found.addresses)
        machine: Machine = replace(it, key=HostKey(f"{NET}.2", kind, blob))
        (judged,) = flow.judged([machine])
        assert judged.trust.standing == "token"
        assert await asyncio.to_thread(flow.let_in, [machine]) == {}
        out, _ = await asyncio.to_thread(joining.communicate, timeout=DEADLINE)
        assert joining.returncode == 0
        assert "Accepted" in out
        key = " ".join((flow.config.path.parent / "id.pub").read_text().split()[:2])
        assert (other.folder / "root" / ".ssh" / "authorized_keys").read_text() == f"{key} cluster-ai\n"
    finally:
        end(joining)
    again = other.join(token.text)
    try:
        flow.tokens.use(token.id, "SHA256:someone")
        async with searching(flow) as (search, until):
            await until(lambda: ("beacon", f"{NET}.2") in search.seen)  # type: ignore[misc]
        it = next(found for found in search.machines() if f"{NET}.2" in found.addresses)
        stranger = replace(it, key=HostKey(f"{NET}.2", "ssh-ed25519", "AAAA"))
        assert (await asyncio.to_thread(flow.let_in, [stranger]))[f"{NET}.2"].what == "its join token is used"
        _, errors = await asyncio.to_thread(again.communicate, timeout=DEADLINE)
        assert errors == "refused: its join token is used\n"
        assert again.returncode == 1
    finally:
        end(again)
