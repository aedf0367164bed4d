"""From bare hosts to active workers with one command; those that can't be workers are told of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster_ai.config import load
from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, Lab, write_config

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
WORKERS = """\
  workers:
    - name: 'h1'
      host: '{net}.11'
      resources: {{cpu: 1, memory: '2GB'}}  # the head's own
"""


def bare(lab: Lab, ollama: Path, gguf: Path) -> Cluster:
    """A head that nothing runs on yet, and four hosts that cluster.yaml doesn't name.

    h2 lets nobody in, and nobody knows its key; h3's is known; h4 has no room; another key is known of h5 than it has.
    """
    path = write_config(lab, ollama, gguf)
    text = path.read_text()
    begin, end = text.index("  workers:"), text.index("  models:")
    text = text[:begin] + WORKERS.format(net=lab.net) + text[end:]
    path.write_text(text.replace("replicas: 2", "replicas: all"))
    lab.run_on("h2", "userdel -r deploy 2>/dev/null; rm -r /root/.ssh /etc/sudoers.d/deploy")
    lab.run_on("h4", "mkdir -p /opt/cluster-ai && mount -t tmpfs -o size=1g none /opt/cluster-ai")
    lines = lab.known_hosts.read_text().splitlines()
    key = next(line.split()[1:] for line in lines if line.startswith("h2,"))
    kept = [line for line in lines if not line.startswith(("h2,", "h5,"))]
    lab.known_hosts.write_text("\n".join([*kept, " ".join([f"h5,{lab.address('h5')}", *key])]) + "\n")
    return Cluster(lab, path, ("h1", "h2", "h3", "h4", "h5"))


def test_bare_hosts_become_workers_by_one_command_and_unfit_ones_are_told_of(
    make_lab: Callable[[str, int, int], Lab], ollama: Path, gguf: Path
) -> None:
    lab = make_lab("disc", 98, 5)
    cluster = bare(lab, ollama, gguf)
    line = cluster.run("join-token", "create", check=True).stdout
    (lab.dir / "hosts" / "h2" / "data" / "join.sh").write_text(line)
    lab.run_on("h2", "systemd-run --unit=join sh /data/join.sh")

    before = cluster.config_path.read_text()
    done = cluster.run("discover", "--network", f"{lab.net}.0/24", "--add", "--apply", "--yes")

    said = done.stdout + done.stderr
    assert done.returncode == ExitCode.HOST, said  # h4 was to be added, and can't be
    config = load(cluster.config_path)
    assert [worker.name for worker in config.workers] == ["h1", "h2", "h3"]
    assert before.splitlines()[:9] == cluster.config_path.read_text().splitlines()[:9]
    assert "# the head's own" in cluster.config_path.read_text()
    assert "GB are free at /opt/cluster-ai" in said
    assert "is another one than known_hosts has" in said
    assert all(f"measuring smollm2:135m on {host}" in said for host in ("h2", "h3")), said  # so they answer prompts

    assert "Accepted" in lab.run_on("h2", "journalctl -u join -o cat")
    (token,) = json.loads(cluster.run("join-token", "list", "--json").stdout)
    assert token["state"] == "used"
    status = cluster.json("status")["gateway"]
    assert {it["name"]: it["state"] for it in status["workers"]} == {"h1": "active", "h2": "active", "h3": "active"}

    found = {it["addresses"][0]: it for it in cluster.json("discover", "--network", f"{lab.net}.0/24")["machines"]}
    standing = {host: found[lab.address(host)]["standing"] for host in cluster.hosts}
    assert standing == {"h1": "member", "h2": "member", "h3": "member", "h4": "known", "h5": "changed"}
