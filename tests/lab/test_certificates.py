"""Every port of every host asks for a certificate of the cluster; certificates and their CA change under load."""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster_ai import layout
from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

MODEL = "smollm2:135m"
PUBLIC = {22, 11435, 8501}  # SSH; gateway and dashboard, which ask people and programs for keys
INSIDE = {
    "head": {8786, layout.ISSUER_PORT, layout.NODE_EXPORTER_PORT},
    "worker": {layout.FRONT_PORT, layout.NODE_EXPORTER_PORT, *range(8790, 8810)},
}

# What the ports of other hosts say to somebody with TLS 1.2, with no certificate, and with the one in a folder.
ASK = """
import json, socket, ssl, sys
from concurrent.futures import ThreadPoolExecutor
folder, targets = sys.argv[1], json.loads(sys.argv[2])
def ask(address, port, version, shown):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    if shown:
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
    try:
        with socket.create_connection((address, port), 60) as plain, context.wrap_socket(plain) as end:
            end.settimeout(15)
            end.sendall(b"GET /certificate HTTP/1.0\\r\\n\\r\\n")
            try:
                said = end.recv(200)
            except TimeoutError:
                return "open"
            return "refused" if not said or b" 400 " in said or b" 403 " in said else "open"
    except OSError:
        return "refused"
def answers(target):
    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    return [ask(*target, *how) for how in ((old, True), (new, False), (new, True))]
with ThreadPoolExecutor(len(targets)) as pool:
    told = {f"{address}:{port}": it for (address, port), it in zip(targets, pool.map(answers, targets))}
print(json.dumps(told))
"""


def listening(cluster: Cluster, host: str) -> set[int]:
    """Ports on which something listens for others."""
    found = set()
    for line in cluster.lab.run_on(host, "ss -Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if not address.startswith(("127.", "[::1]")):
            found.add(int(port))
    return found


def asked(cluster: Cluster, host: str, folder: str, targets: list[tuple[str, int]]) -> dict[str, list[str]]:
    script = f"python3 -c {shlex.quote(ASK)} {folder} {shlex.quote(json.dumps(targets))}"
    told: dict[str, list[str]] = json.loads(cluster.lab.run_on(host, script))
    return told


def shown(cluster: Cluster) -> dict[str, Any]:
    told: dict[str, Any] = cluster.json("certs", "show")
    return told


def nodes_up(cluster: Cluster) -> int:
    url = "http://127.0.0.1:9090/api/v1/query?query=sum(up%7Bjob%3D%22node%22%7D)"
    result = json.loads(cluster.lab.run_on("h1", f"curl -s '{url}'"))["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


def active(cluster: Cluster) -> set[str]:
    """Workers that the scheduler knows and the gateway uses."""
    workers = cluster.json("status")["gateway"]["workers"]
    return {it["name"] for it in workers if it["state"] == "active"}


class Load:
    """Requests over connections of their own, some of which are kept, until the end."""

    def __init__(self, cluster: Cluster) -> None:
        self._address = cluster.lab.address("h1")
        token = cluster.run("status", "--token", check=True).stdout.strip()
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._over = threading.Event()
        self.answered, self.failed = 0, list[str]()
        self._threads = [threading.Thread(target=self._ask, args=(keep,)) for keep in (True, False)]

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _ask(self, keep: bool) -> None:
        body = json.dumps({"model": MODEL, "prompt": "Hello", "stream": False, "options": {"num_predict": 2}})
        connection = http.client.HTTPConnection(self._address, 11435, timeout=600)
        while not self._over.is_set():
            try:
                connection.request("POST", "/api/generate", body, self._headers)
                reply = connection.getresponse()
                text = reply.read()
                if reply.status != 200:
                    self.failed.append(f"{reply.status}: {text!r}")
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
            if not keep:
                connection.close()
        connection.close()


def test_only_expected_ports_are_open_and_each_wants_tls_1_3_and_a_certificate(cluster: Cluster) -> None:
    targets = []
    for host in cluster.hosts:
        expected = PUBLIC | INSIDE["head" if host == "h1" else "worker"]
        assert listening(cluster, host) <= expected, host
        targets += [(cluster.lab.address(host), port) for port in sorted(listening(cluster, host) - PUBLIC)]
    assert {port for _, port in targets} >= {8786, layout.FRONT_PORT, layout.ISSUER_PORT, 9100, 8790}
    told = asked(cluster, "h1", str(layout.TLS), targets)
    assert told == {f"{address}:{port}": ["refused", "refused", "open"] for address, port in targets}


def test_the_engines_own_port_cant_be_reached_from_another_host(cluster: Cluster) -> None:
    reach = f"timeout 3 python3 -c \"import socket; socket.create_connection(('{cluster.lab.address('h2')}', 11434))\""
    assert cluster.lab.run_on("h1", f"{reach} 2>/dev/null && echo reached", check=False) == ""
    assert cluster.lab.run_on("h2", "curl -s http://127.0.0.1:11434/api/version")


def test_all_certificates_and_both_cas_change_under_load_and_no_request_fails(cluster: Cluster) -> None:
    before = shown(cluster)
    restarts = f"systemctl show -p NRestarts,ExecMainStartTimestampMonotonic {layout.FRONT} {layout.WORKER}"
    ran = cluster.lab.run_on("h2", restarts)
    with Load(cluster).running() as load:
        cluster.run("certs", "rotate", "root", check=True)
        for host in cluster.hosts:
            renew = (
                f"{layout.CURRENT}/bin/launch python3 -m cluster_ai.host renew --now {layout.CURRENT}/etc/renew.json"
            )
            assert "renewed" in cluster.lab.run_on(host, f"{layout.TLS_VARIABLE}={layout.TLS} {renew}")
            cluster.lab.run_on(host, f"systemctl start {layout.RENEW}")  # by its unit: too young
        cluster.run("certs", "rotate", "issuing", check=True)
        cluster.run("certs", "retire", check=True)
        more = load.answered + 10
        until(lambda: load.answered > more)
    assert load.failed == []
    after = shown(cluster)
    root, issuing = ({it["use"]: it["sha256"] for it in told["authorities"]} for told in (before, after))
    assert not set(root.values()) & set(issuing.values())
    assert len(after["authorities"]) == 2
    assert all(it["current"] and not it["note"] for it in after["hosts"])
    assert cluster.lab.run_on("h2", restarts) == ran  # nothing was started anew
    until(lambda: nodes_up(cluster) == len(cluster.hosts))
    planned = cluster.run("plan")
    assert planned.returncode == ExitCode.OK, planned.stdout


def test_a_stolen_certificate_of_a_host_that_left_is_refused_within_a_minute(cluster: Cluster) -> None:
    stolen = {name: cluster.lab.run_on("h4", f"cat {layout.TLS}/{name}") for name in (layout.CERT, layout.KEY)}
    put = "".join(f"cat >/root/stolen/{name} <<'PEM'\n{text}PEM\n" for name, text in stolen.items())
    cluster.lab.run_on("h3", f"mkdir -p /root/stolen\n{put}")
    doors = [(cluster.lab.address("h1"), 8786), (cluster.lab.address("h1"), layout.ISSUER_PORT)]
    doors += [(cluster.lab.address("h2"), 8790)]
    assert {it[2] for it in asked(cluster, "h3", "/root/stolen", doors).values()} == {"open"}
    text = cluster.config_path.read_text()
    begin = text.index("    - name: 'h4'")
    try:
        cluster.config_path.write_text(text[:begin] + text[text.index("  models:") :])
        cluster.run("certs", "rotate", "issuing", check=True)
        assert {it[2] for it in asked(cluster, "h3", "/root/stolen", doors).values()} == {"refused"}
    finally:
        cluster.config_path.write_text(text)
        cluster.run("certs", "rotate", "issuing", check=True)
        cluster.lab.run_on("h3", "rm -rf /root/stolen")
    until(lambda: active(cluster) == {"h2", "h3", "h4"})
    # What lost its connections meanwhile may still be between two starts, or noted so by its host's own check.
    until(lambda: cluster.run("verify").returncode == ExitCode.OK, what="hosts have settled")
    until(lambda: cluster.run("plan").returncode == ExitCode.OK, what="a plan has nothing to do")


def test_gateway_and_dashboard_speak_tls_1_3_to_people_and_renewals_go_unnoticed(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    edited("tls: {enabled: false}", "tls: {enabled: true}")
    cluster.run("apply", "--yes", check=True)
    head = cluster.lab.address("h1")
    told = asked(cluster, "h2", str(layout.TLS), [(head, 11435), (head, 8501)])
    assert {it[0] for it in told.values()} == {"refused"}  # TLS 1.2
    trusted = cluster.config_path.parent / "people.pem"
    trusted.write_text(cluster.run("certs", "ca", check=True).stdout)
    for url in (f"https://{head}:11435/health", f"https://{head}:8501/"):
        with urllib.request.urlopen(url, context=ssl.create_default_context(cafile=str(trusted)), timeout=120) as reply:
            assert reply.status == 200
    assert cluster.json("status")["error"] is None
    cluster.run("certs", "rotate", "issuing", check=True)
    assert cluster.json("status")["error"] is None
    until(lambda: nodes_up(cluster) == len(cluster.hosts))
