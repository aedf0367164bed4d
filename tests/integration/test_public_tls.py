"""Gateway and dashboard speak TLS 1.3 to people, by certificates that are renewed while they are used."""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout, settings
from cluster_ai.cli.main import main
from cluster_ai.client import Client
from cluster_ai.errors import ExitCode
from cluster_ai.rollout.gate import Gateway
from cluster_ai.tls.trust import trusting
from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE, free_port, running, until

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Site:
    folder: Path
    authority: rig.Authority
    port: int  # TLS
    local: int  # plain, as what runs on the head uses it

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def roots(self) -> Path:
        return self.folder / "root.pem"

    def renew(self) -> None:
        self.authority.credentials(self.folder / "keys", "head", "head")

    def shown(self) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", self.port), PATIENCE) as plain,
            trusting(self.roots).wrap_socket(plain, server_hostname="127.0.0.1") as it,
        ):
            return it.getpeercert(binary_form=True) or b""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with two sockets, handed over as systemd does."""
    folder, authority = tmp_path_factory.mktemp("public"), rig.authority()
    keys = authority.credentials(folder / "keys", "head", "head", token=rig.TOKEN)
    (folder / "root.pem").write_bytes(authority.pair.cert)
    with socket.create_server(("127.0.0.1", 0)) as public, socket.create_server(("127.0.0.1", 0)) as own:
        port, local = public.getsockname()[1], own.getsockname()[1]
        told = rig.gateway_settings(scheduler="tcp://127.0.0.1:9", port=port, shows="host")
        (folder / "gateway.json").write_text(settings.dump(told))
        starter = (
            f"import os; os.dup2({own.fileno()}, 14); os.dup2({public.fileno()}, 13); os.dup2(13, 3); os.dup2(14, 4);"
            " os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()));"
            f" os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'cluster_ai.gateway', 'gateway.json'])"
        )
        with running(
            [sys.executable, "-c", starter],
            folder / "gateway.log",
            environment={"CREDENTIALS_DIRECTORY": str(keys), "STATE_DIRECTORY": str(folder)},
            pass_fds=[public.fileno(), own.fileno()],
            until_ready=lambda: rig.get(f"http://127.0.0.1:{local}/api/v1/cluster/status", token=rig.TOKEN),
        ):
            yield Site(folder, authority, port, local)


def test_clients_that_trust_the_ca_are_served_and_what_runs_there_asks_in_clear_on_loopback(site: Site) -> None:
    with Client(site.url, rig.TOKEN, ca=site.roots) as client:
        assert client.status().total_workers == 0
    direct = Gateway("127.0.0.1", site.port, rig.TOKEN, head="h", argv=("false",), tls=trusting(site.roots))
    assert direct.ask("GET", "/api/v1/whoami")[0] == 200
    assert rig.get(f"http://127.0.0.1:{site.local}/api/v1/whoami", token=rig.TOKEN)["role"] == "admin"


def test_who_speaks_no_tls_or_an_old_one_gets_no_answer(site: Site) -> None:
    old = trusting(site.roots)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for url, context in ((site.url, old), (site.url.replace("https", "http"), None)):
        with pytest.raises((OSError, http.client.HTTPException)):
            rig.fetch(f"{url}/health", context=context)


def test_a_renewal_is_shown_to_new_connections_while_no_request_fails_and_kept_ones_go_on(site: Site) -> None:
    over, failed, answered = threading.Event(), list[str](), [0, 0]

    def ask(number: int, keep: bool) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", site.port, timeout=PATIENCE, context=trusting(site.roots))
        while not over.is_set():
            try:
                connection.request("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer {rig.TOKEN}"})
                reply = connection.getresponse()
                if reply.status != 200:
                    failed.append(str(reply.status))
                reply.read()
                answered[number] += 1
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))
            if not keep:
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask, args=it) for it in enumerate((True, False))]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = site.shown()
        site.renew()
        assert site.shown() != before
        wanted = [count + 5 for count in answered]
        until(partial(_reached, answered, wanted))
    over.set()
    for thread in threads:
        thread.join()
    assert not failed


def _reached(answered: list[int], wanted: list[int]) -> bool:
    return all(count >= least for count, least in zip(answered, wanted, strict=True))


def test_commands_trust_the_ca_that_lies_beside_cluster_yaml_and_say_what_to_do_without_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLUSTER_AI_TOKEN", rig.TOKEN)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = tmp_path / "cluster.yaml"
    config.write_text(
        "version: '1.0'\ncluster:\n  name: 'test'\n  scheduler: {host: '127.0.0.1'}\n"
        f"  gateway: {{port: {site.port}}}\n  workers: [{{name: 'b', resources: {{cpu: 2, memory: '8GB'}}}}]\n"
    )

    def whoami(*more: str) -> tuple[int, str]:
        code = main(["--config", str(config), "whoami", *more])
        said = capsys.readouterr()
        return code, said.out + said.err

    code, said = whoami()
    assert code != 0
    assert f"{site.url}: the gateway's certificate isn't trusted here: " in said
    assert "cluster-ai certs ca" in said
    (tmp_path / ".cluster-ai").mkdir(exist_ok=True)
    (tmp_path / ".cluster-ai" / layout.CA_CERT).write_bytes(site.authority.pair.cert)
    assert whoami()[0] == 0
    assert whoami("--gateway", site.url)[0] == 0
    code, said = whoami("--gateway", f"https://127.0.0.1:{site.local}")
    assert (code != 0, "begins with http://" in said) == (True, True)


def test_the_dashboard_shows_a_renewed_certificate_without_a_restart(site: Site, tmp_path: Path) -> None:
    port = free_port()
    told = settings.DashboardSettings(
        "test",
        "::" if socket.has_dualstack_ipv6() else "127.0.0.1",
        port,
        "127.0.0.1",
        "host",
        None,
        f"http://127.0.0.1:{site.local}",
        "http://127.0.0.1:9",
        "http://127.0.0.1:9",
    )
    (tmp_path / "dashboard.json").write_text(settings.dump(told))
    own = Site(site.folder, site.authority, port, 0)
    environment = {
        "CLUSTER_AI_DASHBOARD_SETTINGS": str(tmp_path / "dashboard.json"),
        layout.TLS_VARIABLE: str(site.folder / "keys"),
        "HOME": str(tmp_path),
    }
    log = tmp_path / "dashboard.log"

    def healthy() -> Any:
        return rig.fetch(f"{own.url}/_stcore/health", context=trusting(site.roots))[1] == b"ok"

    with running([sys.executable, "-m", "dashboard"], log, environment=environment, until_ready=healthy) as process:
        before = own.shown()
        site.renew()
        assert own.shown() != before
        assert healthy()
        assert "html" in rig.fetch(f"{own.url}/", context=trusting(site.roots))[0]["content-type"]
        assert process.alive()


def test_without_its_certificate_the_gateway_does_not_start_in_clear(tmp_path: Path) -> None:
    (tmp_path / layout.GATEWAY_TOKEN).write_text(rig.TOKEN)
    told = rig.gateway_settings(scheduler="tcp://127.0.0.1:9", shows="host")
    (tmp_path / "gateway.json").write_text(settings.dump(told))
    command = [sys.executable, "-m", "cluster_ai.gateway", "gateway.json"]
    with running(command, tmp_path / "log", environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}) as process:
        assert process.popen.wait(PATIENCE) == ExitCode.CONFIG
    assert "certificate for people" in (tmp_path / "log").read_text()
