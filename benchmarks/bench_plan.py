"""How long `plan` takes for hundreds of hosts whose answers are simulated: `make bench-plan`. No root, no hosts.

Everything but the hosts is real: configuration, placement, releases from a store, the reading of answers, the plan, its
printing. In the second measurement, a whole process, a stand-in for ssh on PATH prints each host's answer. Writes its
table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.page import put  # noqa: E402
from cluster_ai import layout  # noqa: E402
from cluster_ai.config import load  # noqa: E402
from cluster_ai.config.model import Config, Host, hosts  # noqa: E402
from cluster_ai.placement.place import place  # noqa: E402
from cluster_ai.provision.host_layer import stamp  # noqa: E402
from cluster_ai.release.build import desired  # noqa: E402
from cluster_ai.release.model import HostFacts, Release  # noqa: E402
from cluster_ai.release.store import Store  # noqa: E402
from cluster_ai.release.units import units  # noqa: E402
from cluster_ai.rollout import credentials, survey  # noqa: E402
from cluster_ai.rollout.observe import parse  # noqa: E402
from cluster_ai.rollout.scope import Scope  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".cluster-ai" / "bench-plan"
ROUNDS = 5
FACTS = HostFacts("debian-12", "3.11", "x86_64")
CASES = {
    "same": "nothing to do",
    "old": "every host gets another engine and other settings",
    "new": "every host is new",
}

# Instead of ssh: what the host that is named last but one would answer.
SSH = """\
#!/bin/sh
for word; do address=$last last=$word; done
exec cat "$ANSWERS/$address"
"""


@dataclass(frozen=True)
class Bench:
    """A cluster that is nowhere. Its hosts answer as in one of CASES."""

    count: int

    def config(self, version: str, context: int) -> Config:
        """cluster.yaml, and what it names. The engine is a stand-in: a plan reads of it no more than its hash."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"ollama-{version}").write_text(f"#!/bin/sh\necho ollama {version}\n")
        workers = "".join(
            f"    - {{name: w{n:03}, host: 10.98.{n // 250}.{n % 250 + 1}, resources: {{cpu: 8, memory: 32GB"
            f"{', gpu: 1, gpu_memory: 12GB' if n % 3 else ''}}}}}\n"
            for n in range(1, self.count)
        )
        models = "".join(
            f"    - {{name: 'model-{n:02}:7b', replicas: {max(1, self.count // 20)}, resources: {{memory: 5GB}}}}\n"
            for n in range(min(20, self.count))
        )
        path = FOLDER / "cluster.yaml"
        path.write_text(
            "version: '1.0'\ncluster:\n  name: bench\n  scheduler: {host: 10.98.0.1}\n"
            f"  workers:\n{workers}  models:\n{models}"
            f"  engine: {{version: '{version}', source: ./ollama-{version}, context_length: {context}}}\n"
        )
        return load(path)

    def prepare(self) -> None:
        """Build both releases of every host, and write what hosts answer in each case."""
        wheels, kept = FOLDER / ".cluster-ai/store/wheels", ROOT / ".cluster-ai/lab-tests/store/wheels"
        if kept.is_dir() and not wheels.exists():  # fetched once for all
            wheels.parent.mkdir(parents=True, exist_ok=True)
            wheels.symlink_to(kept)
        old = self._releases(self.config("0.17.3", 2048))
        config = self.config("0.17.4", 4096)
        same = self._releases(config)
        made = {host.name: credentials.files(config, host)[f"{layout.IN_TLS}{layout.CERT}"] for host in hosts(config)}
        sums = credentials.sums(config)
        for case in CASES:
            folder = FOLDER / "answers" / case
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for host in hosts(config):
                release = None if case == "new" else {"same": same, "old": old}[case][host.name]
                text = _answer(config, host, release, made[host.name], credentials.of_host(sums, host))
                (folder / host.address).write_text(text)
        stand_in = FOLDER / "bin/ssh"
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(SSH)
        stand_in.chmod(0o755)

    def _releases(self, config: Config) -> Mapping[str, Release]:
        facts = {host.name: FACTS for host in hosts(config)}
        return desired(config, place(config), facts, Store.of(config))

    def in_process(self, case: str) -> None:
        """From cluster.yaml and the answers' text to the plan."""
        config = load(FOLDER / "cluster.yaml")
        scope = Scope(config)
        seen = {
            host.name: parse(host.name, (FOLDER / "answers" / case / host.address).read_text()) for host in scope.hosts
        }
        found = survey.take(scope, place(config), seen)
        if found.plan.changes == (case == "same") or found.plan.errors:
            raise SystemExit(f"bench: case {case} is not what it should be")

    def process(self, case: str, *options: str) -> None:
        """`cluster-ai plan`."""
        path = {"PATH": f"{FOLDER}/bin:{os.environ['PATH']}", "ANSWERS": str(FOLDER / "answers" / case)}
        command = [sys.executable, "-m", "cluster_ai", "--config", str(FOLDER / "cluster.yaml"), "plan", *options]
        done = subprocess.run(command, env=os.environ | path, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != (0 if case == "same" else 2):
            raise SystemExit(f"bench: plan of case {case} ends with {done.returncode}")


def _answer(config: Config, host: Host, release: Release | None, certificate: str, sums: Mapping[str, str]) -> str:
    """As rollout/observe.py's script prints it on a host with this release, or on one that has nothing yet."""
    lines = ["cluster-ai-probe=1", "os_id=debian", "os_version=12", "python=Python 3.11.2", "arch=x86_64"]
    lines += [f"clock={int(time.time())}"]
    if release is not None:
        lines += [f"{layout.CURRENT}=releases/{release.digest}", f"{layout.RELEASES}/{release.digest}="]
        lines += [f"{layout.PARTS}/{part.sha256}=" for part in release.parts]
        lines += [f"stamp={stamp(config, host, FACTS.distribution)}"]
        lines += certificate.splitlines()
        folders = {layout.IN_TLS.rstrip("/"): layout.TLS}
        paths = {name: folders.get(name.rpartition("/")[0], layout.CREDENTIALS) / Path(name).name for name in sums}
        lines += [f"{digest}  {paths[name]}" for name, digest in sums.items()]
        lines += [f"{unit.name} loaded active running Cluster AI" for unit in units(config, host)]
    lines += ["/dev/sda1 100000000 20000 80000000 20% /", "cluster-ai-probe=end"]
    return "\n".join(lines) + "\n"


def timed(action: Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def measure(bench: Bench) -> dict[str, tuple[float, float]]:
    """Case -> seconds in this process, and as a process."""
    found = {}
    for case in CASES:
        bench.in_process(case)
        inside = [timed(lambda case=case: bench.in_process(case)) for _ in range(ROUNDS)]  # type: ignore[misc]
        whole = [timed(lambda case=case: bench.process(case)) for _ in range(ROUNDS)]  # type: ignore[misc]
        found[case] = min(inside), min(whole)
        print(f"bench: {bench.count} hosts, {CASES[case]}: {json.dumps(found[case])}", flush=True)
    return found


def section(results: Mapping[int, Mapping[str, tuple[float, float]]]) -> str:
    lines = [
        f"Measured by `make bench-plan` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores, Linux"
        f" {platform.release()}, Python {platform.python_version()}. Hosts are simulated, all else is real. Seconds:"
        " from the answers' text to the plan, and the whole command, printing included. The least of"
        f" {ROUNDS}, for whatever else a machine does can only add to it.",
        "",
        "| hosts | case | planning | `cluster-ai plan` |",
        "|---|---|---|---|",
    ]
    for count, cases in sorted(results.items()):
        lines += [
            f"| {count} | {CASES[case]} | {inside:.2f} | {whole:.2f} |" for case, (inside, whole) in cases.items()
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[4, 50, 200])
    results = {}
    for count in sorted(parser.parse_args(arguments).hosts):
        bench = Bench(count)
        print(f"bench: building the releases of {count} hosts", flush=True)
        bench.prepare()
        results[count] = measure(bench)
    put("plan", "plan", section(results))


if __name__ == "__main__":
    main()
