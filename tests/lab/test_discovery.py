"""From bare hosts to active workers with one command; those that can't be workers are told of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster_ai.config import load
from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, Lab, until, write_config

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]
RIG = Path(__file__).resolve().parents[1] / "rig"
WORKERS = """\
  workers:
    - name: 'h1'
      host: '{net}.11'
      resources: {{cpu: 1, memory: '2GB'}}  # the head's own
"""


# Two connections of a scan are lost, as if nothing listened; later ones, to who was found in another way, are not.
HIDDEN_FROM_A_SCAN = """\
nft add table inet hide
nft add chain inet hide input '{ type filter hook input priority -10; }'
nft add rule inet hide input tcp dport 22 tcp flags syn quota until 125 bytes drop
"""
AVAHI = """\
<service-group><name>%h</name><service><type>_ssh._tcp</type><port>22</port></service></service-group>
"""


def hide(lab: Lab, ollama: Path, gguf: Path) -> Cluster:
    """A head that nothing runs on yet, and six hosts that cluster.yaml doesn't name, each to be found in one way only.

    h2 announces itself with a token: it lets nobody in, and nobody knows its key. h3, h4 and h5 are found by the scan,
    h6 by mDNS, as Avahi does it, h7 by SSDP. h4 has no room; another key is known of h5 than it has.
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
    cluster = Cluster(lab, path, ("h1", "h2", "h3", "h4", "h5", "h6", "h7"))

    (lab.dir / "hosts" / "h2" / "data" / "join.sh").write_text(cluster.run("join-token", "create", check=True).stdout)
    lab.run_on("h2", "systemd-run --unit=join sh /data/join.sh")
    (lab.dir / "hosts" / "h6" / "merged" / "etc" / "avahi" / "services" / "ssh.service").write_text(AVAHI)
    lab.run_on("h6", "systemctl start avahi-daemon")
    shutil.copy(RIG / "ssdp.py", lab.dir / "hosts" / "h7" / "data")
    lab.run_on("h7", f"systemd-run --unit=ssdp python3 /data/ssdp.py {lab.address('h7')}")
    for host in ("h2", "h6", "h7"):
        lab.run_on(host, HIDDEN_FROM_A_SCAN)
    return cluster


@pytest.fixture
def lab(make_lab: Callable[[str, int, int], Lab]) -> Iterator[Lab]:
    """Hosts for this test alone: afterwards they would only take processors from those of others."""
    made = make_lab("disc", 98, 7)
    yield made
    made("down")


def test_bare_hosts_become_workers_by_one_command_and_unfit_ones_are_told_of(
    lab: Lab, ollama: Path, gguf: Path
) -> None:
    cluster = hide(lab, ollama, gguf)
    network = ("--network", f"{lab.net}.0/24", "--seconds", "15")  # each of seven busy hosts is to be heard

    seen = {it["addresses"][0]: it for it in cluster.json("discover", *network)["machines"]}
    ways = {host: seen[lab.address(host)]["found_by"] for host in cluster.hosts[1:]}
    scan = ["scan"]
    assert ways == {"h2": ["beacon"], "h3": scan, "h4": scan, "h5": scan, "h6": ["mdns"], "h7": ["ssdp"]}

    before = cluster.config_path.read_text()
    done = cluster.run("discover", *network, "--add", "--apply", "--yes")

    said = done.stdout + done.stderr
    assert done.returncode == ExitCode.HOST, said  # h4 was to be added, and can't be
    config = load(cluster.config_path)
    assert [worker.name for worker in config.workers] == ["h1", "h2", "h3", "h6", "h7"]
    assert before.splitlines()[:9] == cluster.config_path.read_text().splitlines()[:9]
    assert "# the head's own" in cluster.config_path.read_text()
    assert "GB are free at /opt/cluster-ai" in said
    assert "is another one than known_hosts has" in said
    for host in ("h2", "h3", "h6", "h7"):
        assert f"measuring smollm2:135m on {host}" in said, said  # so it answers prompts

    assert "Accepted" in lab.run_on("h2", "journalctl -u join -o cat")
    (token,) = json.loads(cluster.run("join-token", "list", "--json").stdout)
    assert token["state"] == "used"
    active = dict.fromkeys(("h1", "h2", "h3", "h6", "h7"), "active")

    def states() -> dict[str, str]:
        return {it["name"]: it["state"] for it in cluster.json("status")["gateway"]["workers"]}

    until(lambda: states() == active)

    found = {it["addresses"][0]: it for it in cluster.json("discover", *network)["machines"]}
    standing = {host: found[lab.address(host)]["standing"] for host in cluster.hosts}
    assert standing == {**dict.fromkeys(active, "member"), "h4": "known", "h5": "changed"}
