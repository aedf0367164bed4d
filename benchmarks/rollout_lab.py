"""A head and four workers as real systemd hosts, new versions to bring to them, and a load on their gateway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.lab_files import ROOT, SHARED, furnish
from benchmarks.outcomes import Sample, parse

FOLDER = ROOT / ".cluster-ai" / "bench-rollout"
ANSWERS = FOLDER / "answers.json"
NET, TAG = "10.77.97", "roll"
LAB = {"LAB_DIR": str(FOLDER), "LAB_TAG": TAG, "LAB_NET": NET, "LAB_BASE": str(SHARED)}
HEAD, WORKERS = "h1", ("h2", "h3", "h4", "h5")
MODEL = "smollm2:135m"
NOT_COPIED = (".git", ".venv", ".cluster-ai", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "tests")

# What Trial.write alternates: cpu is in nginx' configuration and Dask's command, keep_alive is the engine's, the
# scrape interval Prometheus'; the rest runs from our own code. So each update restarts every unit of every host.
# While a canary bakes, the load brings each worker a few more than the ten streams without which nothing is judged. Its
# limits are wide, since controller, load and hosts share their cores.
CONFIG = """\
version: '1.0'
cluster:
  name: lab
  scheduler: {{host: {net}.11}}
  workers:
{workers}
  models:
    - name: {model}
      replicas: all
      source: {source}
      resources: {{memory: 500MB}}
      options: {{num_ctx: 1024, num_thread: 1}}
  ssh: {{user: deploy, key: ./id_ed25519, known_hosts: ./known_hosts}}
  engine: {{version: '0.17.4', source: {engine}, keep_alive: {keep_alive}}}
  monitoring: {{scrape_interval: {scrape}s}}
  packages: {{source: bundle}}
  security: {{tls: {{enabled: false}}}}
  rollout:
    max_unavailable: 1
    gate_timeout: 3m
    canary: {{hosts: 1, bake: 40s, max_latency_increase: 200%, max_speed_loss: 35%}}
"""


def address(host: str) -> str:
    return f"{NET}.{10 + int(host[1:])}"


@dataclass
class Trial:
    """The lab and what is brought to it."""

    builds: list[str] = field(default_factory=lambda: ["first"])  # of which the last is what hosts are to run
    code: Path = field(default_factory=lambda: FOLDER / "code")

    @property
    def config(self) -> Path:
        return FOLDER / "cluster.yaml"

    # --- hosts ------------------------------------------------------------------------------------------------

    def lab(self, *arguments: str, check: bool = True) -> str:
        SHARED.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "lab/lab.py"), *arguments]
        done = subprocess.run(command, check=False, env=os.environ | LAB, text=True, capture_output=True)
        if check and done.returncode:
            raise SystemExit(f"bench: lab {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def on(self, host: str, script: str, *, check: bool = True) -> str:
        """A shell script inside a host, not through its network."""
        return self.lab("exec", host, "--", "sh", "-c", script, check=check)

    def watch(self, host: str, script: str, seconds: float) -> subprocess.Popen[str]:
        """The same as a process, in a group of its own."""
        limited = ("timeout", "--foreground", f"{seconds:.0f}", "sh", "-c", script)
        command = [sys.executable, str(ROOT / "lab/lab.py"), "exec", host, "--", *limited]
        return subprocess.Popen(command, env=os.environ | LAB, text=True, start_new_session=True)

    def up(self, *, kept: bool) -> None:
        """kept: with the hosts that an earlier run has left up, if it did."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        if not kept:
            ANSWERS.unlink(missing_ok=True)  # those to what an earlier load asked
            self.lab("down")  # what a killed run may have left
        self.lab("up", str(1 + len(WORKERS)))
        furnish(FOLDER)
        shutil.rmtree(self.code, ignore_errors=True)
        shutil.copytree(ROOT, self.code, ignore=shutil.ignore_patterns(*NOT_COPIED))
        self._be()

    def down(self) -> None:
        self.lab("down", check=False)
        shutil.rmtree(FOLDER / "hosts", ignore_errors=True)
        shutil.rmtree(self.code, ignore_errors=True)

    # --- what they are to run ---------------------------------------------------------------------------------

    def write(self, **changed: str) -> None:
        """cluster.yaml of this build; `changed` replaces values in it."""
        odd = (len(self.builds) - 1) % 2
        workers = "\n".join(
            f"    - {{name: {host}, host: {address(host)}, resources: {{cpu: {1 + odd}, memory: 2GB}}}}"
            for host in WORKERS
        )
        values = {
            "net": NET,
            "workers": workers,
            "model": MODEL,
            "source": "./smollm2.gguf",
            "engine": "./ollama",
            "keep_alive": f"{20 + odd}h",
            "scrape": str(4 + odd),
        }
        self.config.write_text(CONFIG.format(**values | changed))

    def bump(self, **changed: str) -> None:
        """A build of our own code that no host has ever had, and settings by which everything else restarts too."""
        self.builds.append(str(time.time_ns()))
        self._be(**changed)

    def unbump(self) -> None:
        """The build before: what hosts run to which the new one was not brought."""
        self.builds.pop()
        self._be()

    def _be(self, **changed: str) -> None:
        module = self.code / "cluster_ai/__init__.py"
        module.write_text((ROOT / "cluster_ai/__init__.py").read_text() + f'\n__build__ = "{self.builds[-1]}"\n')
        self.write(**changed)

    # --- the product's command, run from the copied code ------------------------------------------------------

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cluster_ai", "--config", str(self.config), *arguments],
            env=os.environ | {"PYTHONPATH": str(self.code)},
            cwd=self.code,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that `kill` reaches what it has started, too
        )

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        """SIGKILL to the command and all that it runs, as when its machine dies."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def run(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill(process)
            out, err = process.communicate()
            err += f"\nbench: it took longer than {timeout:.0f} s"
        finally:
            self.kill(process)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def must(self, *arguments: str) -> str:
        done = self.run(*arguments, timeout=1200)
        if done.returncode:
            raise SystemExit(
                f"bench: cluster-ai {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout or "{}")


class Load:
    """benchmarks/load.py as a process, between `with` and its end."""

    def __init__(self, trial: Trial, name: str, token: str) -> None:
        self.out = FOLDER / f"load-{name.replace(' ', '-')}.jsonl"
        self.samples: list[Sample] = []
        self._command: Sequence[str] = (
            *(sys.executable, str(ROOT / "benchmarks/load.py"), "--url", f"http://{address(HEAD)}:11435"),
            *(f"--token={token}", "--model", MODEL, "--out", str(self.out)),
            *("--answers", str(ANSWERS)),
        )

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        line = self._process.stdout.readline()
        if "running" not in line:
            self._process.wait()
            raise SystemExit(f"bench: the load doesn't start: {line}")
        return self

    def for_a_while(self, seconds: float) -> None:
        """Let it run, undisturbed."""
        time.sleep(seconds)
        if self._process.poll() is not None:
            raise SystemExit("bench: the load has ended by itself")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=180)
        self.samples = parse(self.out.read_text().splitlines())
