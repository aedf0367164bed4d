"""How long `apply` takes on real lab hosts, beside plain SSH, Ansible and pyinfra: `make bench-apply` (root).

Writes its table into docs/benchmarks.md. Medians of interleaved rounds: a busy moment of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.lab_files import ROOT, SHARED, furnish  # noqa: E402
from benchmarks.page import put  # noqa: E402

FOLDER = ROOT / ".cluster-ai" / "bench-apply"
NET, TAG = "10.77.98", "bench"
ROUNDS, SLOW_ROUNDS = 7, 3
REST = 5.0  # seconds
STEPS = 10  # folders, and as many files: 20 tasks
CLEAN = """
systemctl stop 'cluster-ai-*' 2>/dev/null
rm -rf /etc/systemd/system/cluster-ai* /etc/systemd/system/*.wants/cluster-ai*; systemctl daemon-reload
cd /opt/cluster-ai && rm -rf parts/* releases/* current previous /etc/cluster-ai/*
cd /var/lib/cluster-ai && rm -rf blobs/* units/* confirmed
"""


@dataclass(frozen=True)
class Bench:
    """A lab of some hosts, and what is timed on them."""

    hosts: int

    @property
    def addresses(self) -> list[str]:
        return [f"{NET}.{10 + number}" for number in range(1, self.hosts + 1)]

    @property
    def config(self) -> Path:
        return FOLDER / "cluster.yaml"

    def lab(self, *arguments: str) -> None:
        SHARED.mkdir(parents=True, exist_ok=True)
        lab = {"LAB_DIR": str(FOLDER), "LAB_TAG": TAG, "LAB_NET": NET, "LAB_BASE": str(SHARED)}
        command = [sys.executable, str(ROOT / "lab/lab.py"), *arguments]
        subprocess.run(command, check=True, env=os.environ | lab, stdout=subprocess.DEVNULL)

    def prepare(self) -> None:
        """Boot hosts, and apply to them once: afterwards everything is built, and each host carries a release."""
        self.lab("up", str(self.hosts))
        furnish(FOLDER)
        workers = "".join(
            f"    - {{name: h{number}, host: {NET}.{10 + number}, resources: {{cpu: 1, memory: 2GB}}}}\n"
            for number in range(2, self.hosts + 1)
        )
        text = (ROOT / "lab/cluster.yaml").read_text().replace("10.77.0.", f"{NET}.")
        before, _, rest = text.partition("  workers:\n")
        _, _, models = rest.partition("  models:\n")
        self.config.write_text(f"{before}  workers:\n{workers}  models:\n{models}")
        self.apply()

    def apply(self) -> None:
        command = [sys.executable, "-m", "cluster_ai", "--config", str(self.config), "apply", "--yes"]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)

    def ssh(self, command: str) -> None:
        """One command on every host at once, each over a new connection."""
        argv = ("ssh", "-F", str(FOLDER / "ssh_config"), "-o", "BatchMode=yes", "-o", "ControlPath=none")
        clients = [subprocess.Popen([*argv, address, command]) for address in self.addresses]
        if any(client.wait() for client in clients):
            raise SystemExit(f"bench: `{command}` fails on a host")

    def forget_connections(self) -> None:
        """End the connections that are kept for the next call."""
        from cluster_ai.config import load
        from cluster_ai.inventory.ssh import ssh_argv

        config = load(self.config)
        for address in self.addresses:
            for light in (True, False):
                *options, _, _ = ssh_argv(config.ssh, address, light=light)
                subprocess.run([*options, "-O", "exit", address], stderr=subprocess.DEVNULL, check=False)

    def ansible(self) -> None:
        inventory = "".join(f"{address}\n" for address in self.addresses)
        (FOLDER / "bench.ini").write_text(inventory)
        folders = [
            f"    - ansible.builtin.file: {{path: /var/lib/bench/{number}, state: directory, mode: '0755'}}\n"
            for number in range(STEPS)
        ]
        files = [
            f"    - ansible.builtin.copy: {{dest: /var/lib/bench/{number}/file, content: 'n={number}', mode: '0644'}}\n"
            for number in range(STEPS)
        ]
        play = "- hosts: all\n  gather_facts: true\n  tasks:\n" + "".join((*folders, *files))
        (FOLDER / "bench.yml").write_text(play)
        settings = {
            "ANSIBLE_SSH_ARGS": f"-F {FOLDER}/ssh_config -o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_FORKS": "32",
            "LC_ALL": "C.UTF-8",
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [str(program), "-i", str(FOLDER / "bench.ini"), str(FOLDER / "bench.yml")]
        subprocess.run(command, check=True, env=os.environ | settings, stdout=subprocess.DEVNULL)

    def pyinfra(self) -> None:
        data = {
            "ssh_user": "root",
            "ssh_key": str(FOLDER / "id_ed25519"),
            "ssh_known_hosts_file": str(FOLDER / "known_hosts"),
        }
        (FOLDER / "bench_inventory.py").write_text(f"hosts = {[(address, data) for address in self.addresses]!r}\n")
        (FOLDER / "bench_deploy.py").write_text(
            "from io import StringIO\nfrom pyinfra.operations import files\n"
            f"for n in range({STEPS}):\n    files.directory(path=f'/var/lib/bench/{{n}}', mode='0755')\n"
            f"for n in range({STEPS}):\n"
            "    files.put(src=StringIO(f'n={n}'), dest=f'/var/lib/bench/{n}/file', mode='0644')\n"
        )
        command = [str(Path(sys.executable).with_name("pyinfra")), "-y", "bench_inventory.py", "bench_deploy.py"]
        subprocess.run(command, check=True, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(action: Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def spent() -> float:
    """Processor seconds of the commands run so far, with what they started here; not of the lab's hosts."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def spent_by_hosts() -> float:
    """Processor seconds of all hosts so far; 0 where their control groups can't be read (those of cgroup v1 are)."""
    usage = Path("/sys/fs/cgroup/cpuacct") / TAG / "cpuacct.usage"
    return int(usage.read_text()) / 1e9 if usage.exists() else 0.0


def quick(bench: Bench) -> dict[str, float]:
    """The no-op beside one command over SSH. cpu: what it costs the controller; hosts: all hosts, beyond their rest."""
    taken: dict[str, list[float]] = {"warm": []}
    bench.apply()
    before = spent_by_hosts()
    rest = timed(lambda: time.sleep(REST))
    idle = (spent_by_hosts() - before) / rest

    def measure(name: str, action: Callable[[], object]) -> None:
        here, there = spent(), spent_by_hosts()
        wall = timed(action)
        found = {name: wall, f"{name} cpu": spent() - here, f"{name} hosts": spent_by_hosts() - there - idle * wall}
        for key, value in found.items():
            taken.setdefault(key, []).append(value)

    for _ in range(ROUNDS):
        measure("ssh", lambda: bench.ssh("true"))
        bench.forget_connections()
        measure("cold", bench.apply)
        taken["warm"].append(timed(bench.apply))
    return {name: statistics.median(values) for name, values in taken.items()}


def slow(bench: Bench) -> dict[str, float]:
    """Ansible's and pyinfra's no-op of the same 20 steps, and the first release to hosts that have none."""
    bench.ansible()
    bench.pyinfra()
    taken: dict[str, list[float]] = {"ansible": [], "pyinfra": []}
    for _ in range(SLOW_ROUNDS):
        taken["ansible"].append(timed(bench.ansible))
        taken["pyinfra"].append(timed(bench.pyinfra))
    found = {name: statistics.median(values) for name, values in taken.items()}
    bench.ssh(CLEAN)
    return {**found, "first": timed(bench.apply)}


def section(quicks: dict[int, dict[str, float]], slows: dict[str, float]) -> str:
    least, most = min(quicks), max(quicks)
    base = quicks[least]
    lines = [
        f"Measured by `make bench-apply` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for controller and"
        f" hosts together, Linux {platform.release()}, Python {platform.python_version()}. Seconds of wall time.",
        "",
        "| hosts | SSH, one command, cold | `apply`, nothing to do: cold | warm | cold / SSH | CPU here: SSH | `apply`"
        " | CPU of all hosts: SSH | `apply` |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {count} | {it['ssh']:.2f} | {it['cold']:.2f} | {it['warm']:.2f} | {it['cold'] / it['ssh']:.1f}"
            f" | {it['ssh cpu']:.2f} | {it['cold cpu']:.2f} | {it['ssh hosts']:.2f} | {it['cold hosts']:.2f} |"
            for count, it in sorted(quicks.items())
        ),
        "",
    ]
    if most > least:
        grows = {way: (quicks[most][way] - base[way]) / (most - least) * 1000 for way in base}
        lines += [
            f"Each further host: {grows['cold']:.0f} ms cold, {grows['warm']:.0f} ms warm; one SSH command alone, cold:"
            f" {grows['ssh']:.0f} ms. The hosts of a lab share the controller's cores: each further host takes"
            f" {grows['cold hosts']:.0f} ms of CPU for itself, to answer (SSH alone: {grows['ssh hosts']:.0f}), which"
            " hosts of one's own do all at once, on cores of their own. What is left to the controller, and grows on"
            f" any machine, is {grows['cold cpu']:.0f} ms of CPU (SSH alone: {grows['ssh cpu']:.0f}).",
            "",
        ]
    lines += [
        f"| on {least} hosts | s | times `apply`'s no-op |",
        "|---|---|---|",
        *(
            f"| {title} | {slows[name]:.1f} | {slows[name] / base['cold']:.0f} |"
            for name, title in (
                ("ansible", "Ansible, 20 tasks, nothing to do"),
                ("pyinfra", "pyinfra, the same 20, nothing to do"),
                ("first", "first release, bundle cached, host layer done"),
            )
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[4, 8, 16])
    counts = sorted(parser.parse_args(arguments).hosts)
    if os.geteuid():
        raise SystemExit("bench: lab hosts need root")
    FOLDER.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the lab is taken down then too
    quicks: dict[int, dict[str, float]] = {}
    slows: dict[str, float] = {}
    try:
        for count in counts:
            bench = Bench(count)
            print(f"bench: preparing {count} hosts", flush=True)
            bench.prepare()
            quicks[count] = quick(bench)
            print(f"bench: {count} hosts: {quicks[count]}", flush=True)
            if count == counts[0]:
                slows = slow(bench)
                print(f"bench: {slows}", flush=True)
            put("apply", "apply", section(quicks, slows))
    finally:
        Bench(0).lab("down")
        shutil.rmtree(FOLDER / "hosts", ignore_errors=True)


if __name__ == "__main__":
    main()
