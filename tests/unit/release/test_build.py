from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout, settings
from cluster_ai.config.model import Config, hosts
from cluster_ai.errors import BundleError, ConfigError, HostError
from cluster_ai.placement.place import place
from cluster_ai.release import parts, wheels
from cluster_ai.release import units as release_units
from cluster_ai.release.build import desired
from cluster_ai.release.model import HostFacts, Release
from cluster_ai.release.store import Store
from cluster_ai.security import ca
from tests.unit.release.conftest import Cluster

FACTS = HostFacts("debian-12", "3.11", "x86_64")


@pytest.fixture(autouse=True)
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of the package index: one small wheel for every lock file. Lists the locks that were asked for."""
    asked: list[str] = []

    def fetch(lock: Path, facts: HostFacts, store: Store, into: Path) -> list[Path]:
        asked.append(lock.stem)
        with zipfile.ZipFile(into / "x-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("x.py"), f"NAME = {lock.stem!r}\n")
        return [into / "x-1-py3-none-any.whl"]

    monkeypatch.setattr(wheels, "fetch", fetch)
    return asked


def releases(config: Config) -> dict[str, Release]:
    facts = {host.name: FACTS for host in hosts(config)}
    return desired(config, place(config), facts, Store.of(config))


def units(release: Release) -> dict[str, str]:
    found: dict[str, str] = json.loads(release.manifest)["units"]
    return found


def changed(before: dict[str, Release], after: dict[str, Release]) -> dict[str, set[str]]:
    """Host -> units that a switch would restart."""
    return {
        host: {name for name, inputs in units(release).items() if units(before[host]).get(name) != inputs}
        for host, release in after.items()
    }


def text(release: Release, path: str) -> str:
    part = next(part for part in release.parts if part.name == "host")
    with tarfile.open(part.path) as file:
        content = file.extractfile(path)
        assert content is not None
        return content.read().decode()


def test_the_same_configuration_is_the_same_release_in_whatever_store(cluster: Cluster, tmp_path: Path) -> None:
    config = cluster.config()
    one = releases(config)
    shutil.rmtree(tmp_path / ".cluster-ai")
    assert releases(config) == one


def test_a_release_that_is_built_is_neither_built_nor_told_again(cluster: Cluster, fetched: list[str]) -> None:
    config = cluster.config()
    one = releases(config)
    told: list[str] = []
    facts = {host.name: FACTS for host in hosts(config)}
    again = desired(
        config, place(config), facts, Store.of(config), progress=lambda what, done, total: told.append(what)
    )
    assert again == one
    assert told == []
    assert sorted(fetched) == ["head", "worker"]


def test_a_manifest_says_every_file_of_the_release(cluster: Cluster) -> None:
    for release in releases(cluster.config()).values():
        manifest: dict[str, Any] = json.loads(release.manifest)
        assert hashlib.sha256(release.manifest).hexdigest() == release.digest
        assert manifest["parts"] == {part.name: part.sha256 for part in release.parts}
        assert manifest["blobs"] == [blob.sha256 for blob in release.blobs]
        held = {}
        for part in release.parts:
            assert hashlib.sha256(part.path.read_bytes()).hexdigest() == part.sha256
            with tarfile.open(part.path) as file:
                for info in (info for info in file if info.isfile()):
                    content = file.extractfile(info)
                    assert content is not None
                    held[info.name] = {
                        "sha256": hashlib.sha256(content.read()).hexdigest(),
                        "mode": f"{info.mode:04o}",
                    }
        assert held == manifest["files"]


def test_hosts_get_what_their_roles_need(cluster: Cluster) -> None:
    found = releases(cluster.config())
    assert list(found) == ["a", "b", "c"]  # the head, which is a worker too, first
    everywhere = {layout.VERIFY, layout.VERIFY_TIMER, layout.RENEW, layout.RENEW_TIMER, layout.TARGET}
    assert set(units(found["a"])) == {*layout.HEAD_UNITS, *layout.WORKER_UNITS, *everywhere} - {
        layout.ALERTMANAGER,
        layout.OPEN_WEBUI,
    }
    assert set(units(found["b"])) == {*layout.WORKER_UNITS, *everywhere}
    lib = {host: next(part.sha256 for part in release.parts if part.name == "lib") for host, release in found.items()}
    assert lib["b"] == lib["c"] != lib["a"]
    blobs = {host for host, release in found.items() if release.blobs}
    placed = {assignment.worker for assignment in place(cluster.config()).of("small")}
    assert blobs == {"a", *placed}  # the head has all files, for a worker that takes over from another


def test_without_a_dashboard_there_is_no_unit_and_no_setting_of_it(cluster: Cluster) -> None:
    found = releases(cluster.config("  engine:\n", "  interface: {dashboard: false}\n  engine:\n"))
    assert layout.DASHBOARD not in units(found["a"])
    assert "etc/dashboard.json" not in json.loads(found["a"].manifest)["files"]
    assert json.loads(text(found["a"], "etc/host.json"))["dashboard_url"] is None


def test_more_replicas_restart_what_sends_work_to_them_and_the_workers_that_get_one(cluster: Cluster) -> None:
    before = releases(cluster.config())
    config = cluster.config("replicas: 1", "replicas: 2")
    after = releases(config)
    got = {a.worker for a in place(config).of("small")} - {a.worker for a in place(cluster.config()).of("small")}
    assert len(got) == 1
    expected: dict[str, set[str]] = {host: {layout.WORKER} if host in got else set() for host in ("a", "b", "c")}
    expected["a"] |= {layout.GATEWAY, layout.TASKS}
    assert changed(before, after) == expected
    assert [host for host in after if after[host].digest == before[host].digest] == [
        host for host, names in expected.items() if not names
    ]


@pytest.mark.parametrize(
    ("old", "new", "head", "worker"),
    [
        ("version: '0.17.4'", "version: '0.17.4'\n    keep_alive: '1h'", {layout.ENGINE}, {layout.ENGINE}),
        ("  engine:\n", "  monitoring: {scrape_interval: '7s'}\n  engine:\n", {layout.PROMETHEUS}, set()),
        ("  engine:\n", "  gateway: {policy: 'round_robin'}\n  engine:\n", {layout.GATEWAY}, set()),
        (
            "  engine:\n",
            "  gateway: {port: 11499}\n  engine:\n",
            {layout.GATEWAY, layout.GATEWAY_SOCKET},
            set(),
        ),
        (
            "  engine:\n",
            "  security: {tls: {enabled: false}}\n  engine:\n",
            {layout.GATEWAY, layout.GATEWAY_SOCKET, layout.PROMETHEUS, layout.DASHBOARD},
            set(),
        ),
        ("num_ctx: 2048", "num_ctx: 4096", {layout.GATEWAY}, set()),
        (
            "  engine:\n",
            "  monitoring: {alerts: {webhook: 'http://chat.test/x'}}\n  engine:\n",
            {layout.PROMETHEUS, layout.ALERTMANAGER, layout.TARGET},
            set(),
        ),
    ],
)
def test_a_change_restarts_only_what_reads_it(
    cluster: Cluster, old: str, new: str, head: set[str], worker: set[str]
) -> None:
    before, after = releases(cluster.config()), releases(cluster.config(old, new))
    assert changed(before, after) == {"a": head, "b": worker, "c": worker}


def test_another_engine_restarts_the_engines_alone(cluster: Cluster) -> None:
    before = releases(cluster.config())
    (cluster.folder / "ollama").write_bytes(b"another")
    assert changed(before, releases(cluster.config())) == {host: {layout.ENGINE} for host in "abc"}


def test_our_own_code_restarts_only_what_runs_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = releases(cluster.config())
    monkeypatch.setattr(parts, "ON_HOSTS", (*parts.ON_HOSTS, "__main__.py"))
    after = releases(cluster.config())
    assert changed(before, after)["b"] == {layout.WORKER}
    head = {layout.SCHEDULER, layout.ISSUER, layout.TASKS, layout.GATEWAY, layout.DASHBOARD}
    assert changed(before, after)["a"] == {layout.WORKER, *head}


def test_settings_are_what_components_read(cluster: Cluster, tmp_path: Path) -> None:
    found = releases(cluster.config())

    def read(kind: type[Any], host: str, name: str) -> Any:
        (tmp_path / name).write_text(text(found[host], f"etc/{name}"))
        return settings.load(kind, tmp_path / name)

    gateway = read(settings.GatewaySettings, "a", "gateway.json")
    assert [(u.name, u.url, u.gpu) for u in gateway.upstreams] == [
        ("a", "https://10.9.9.1:11443", 0),
        ("b", "https://b.cluster.test:11443", 1),
        ("c", "https://10.9.9.3:11443", 0),
    ]
    assert [u.on_gpu for u in gateway.upstreams] == [(), ("pulled", "small"), ()]
    assert gateway.models == {"small": 2048, "pulled": 4096}
    host = read(settings.HostSettings, "b", "host.json")
    assert host.units == (
        *layout.WORKER_UNITS,
        layout.VERIFY_TIMER,
        layout.RENEW_TIMER,
    )  # not the service, which the timer starts
    assert {it.unit for it in host.listeners} == {*layout.WORKER_UNITS, layout.NODE_EXPORTER}
    assert (host.gateway_url, host.engine_url) == (None, "http://127.0.0.1:11434")
    assert {model.name: model.processor for model in host.models}["pulled"] == "gpu"
    head = read(settings.HostSettings, "a", "host.json")
    assert (head.gateway_url, head.roles) == ("http://127.0.0.1:11436", ("head", "worker"))
    assert head.dashboard_url == "https://127.0.0.1:8501"
    assert gateway.shows == "host"
    assert read(settings.WorkerSettings, "b", "worker.json").scheduler == "tls://10.9.9.1:8786"
    assert read(settings.DashboardSettings, "a", "dashboard.json").dask_url == "http://127.0.0.1:8787"


def test_what_is_secret_of_the_provider_reaches_the_dashboard_as_a_credential_alone(cluster: Cluster) -> None:
    oidc = "oidc: {issuer: 'https://login.test', client_id: 'board', roles: {user: ['staff']}}"
    config = cluster.config("  engine:\n", f"  security: {{{oidc}}}\n  engine:\n")
    texts = {unit.name: unit.text for unit in release_units.units(config, hosts(config)[0])}
    handed = f"LoadCredential={layout.OIDC_SECRET}:{layout.CREDENTIALS / layout.OIDC_SECRET}"
    assert {name for name, text in texts.items() if handed in text} == {layout.DASHBOARD}


def test_a_host_that_cant_be_built_for_is_named(cluster: Cluster) -> None:
    config = cluster.config()
    for facts in (HostFacts("debian-12", "3.11", "riscv64"), HostFacts("ubuntu-22.04", "3.10", "x86_64")):
        with pytest.raises(HostError) as caught:
            desired(config, place(config), {"c": facts}, Store.of(config))
        assert caught.value.where == "c"


def test_missing_files_are_named_with_what_names_them(cluster: Cluster) -> None:
    config = cluster.config()
    (cluster.folder / "ollama").unlink()
    with pytest.raises(BundleError, match=r"engine\.source"):
        releases(config)
    (cluster.folder / "small.gguf").unlink()
    with pytest.raises(ConfigError, match=r"small\.gguf"):
        releases(config)


def test_a_release_is_found_again_by_the_beginning_of_its_digest(cluster: Cluster) -> None:
    config = cluster.config()
    release = releases(config)["b"]
    assert Store.of(config).manifest(release.digest[:20]) == (release.digest, json.loads(release.manifest))
    for start in ("", "zz", "../../secrets"):
        with pytest.raises(BundleError):
            Store.of(config).manifest(start)


def test_a_file_is_hashed_again_only_when_it_was_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"one")
    one = Store(tmp_path / "store").sha256_of(path)
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", None)
        assert Store(tmp_path / "store").sha256_of(path) == one
    path.write_bytes(b"other")
    assert Store(tmp_path / "store").sha256_of(path) == hashlib.sha256(b"other").hexdigest()


def test_code_for_hosts_imports_nothing_that_stays_here() -> None:
    """What a release carries is closed: each import of ours within it leads to something in it."""
    import ast

    shipped = {path.removeprefix("app/") for path, _ in parts.sources()}
    for name, file in parts.sources():
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            imported = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in (m for m in imported if m and m.split(".")[0] in ("cluster_ai", "dashboard")):
                path = module.replace(".", "/")
                assert {f"{path}.py", f"{path}/__init__.py"} & shipped, f"{name} imports {module}"


@pytest.mark.parametrize("folder", ["cluster_ai", "dashboard"])
def test_a_release_carries_code_and_no_bytecode(folder: str) -> None:
    found = [path for path, _ in parts.sources() if path.startswith(f"app/{folder}/")]
    assert f"app/{folder}/__init__.py" in found
    assert not [path for path in found if "__pycache__" in path or path.endswith(".pyc")]


TOLD = ("  engine:\n", "  monitoring: {alerts: {webhook: 'http://chat.test/x'}}\n  engine:\n")


HOST_C = "      host: '10.9.9.3'\n"
SLEEPS = (HOST_C, HOST_C + "      standby: {mac: '52:54:00:12:34:56', sleep: poweroff}\n")


def test_a_standby_host_may_be_sent_to_sleep_in_the_one_way_that_it_says(cluster: Cluster, tmp_path: Path) -> None:
    assert layout.SLEEP not in units(releases(cluster.config())["c"])
    found = releases(cluster.config(*SLEEPS))
    assert {layout.SLEEP, layout.SLEEP_PATH} <= set(units(found["c"]))
    assert layout.SLEEP not in units(found["b"])
    assert "ExecStart=/usr/bin/systemctl poweroff\n" in text(found["c"], f"units/{layout.SLEEP}")
    (tmp_path / "host.json").write_text(text(found["c"], "etc/host.json"))
    host = settings.load(settings.HostSettings, tmp_path / "host.json")
    assert "OnCalendar=" in text(found["c"], f"units/{layout.RENEW_TIMER}")
    assert "OnCalendar=" not in text(found["b"], f"units/{layout.RENEW_TIMER}")
    assert layout.SLEEP_PATH in host.units
    assert layout.SLEEP not in host.units
    assert host.models == ()
    (tmp_path / "gateway.json").write_text(text(found["a"], "etc/gateway.json"))
    gateway = settings.load(settings.GatewaySettings, tmp_path / "gateway.json")
    told = settings.StandbySettings("52:54:00:12:34:56", (), None, 900.0, False)
    assert [it.standby for it in gateway.upstreams] == [None, None, told]


@pytest.mark.parametrize("edit", [("", ""), ("'10.9.9.1'", "'fd00::1'"), TOLD, SLEEPS])
def test_units_are_accepted_by_systemd(cluster: Cluster, tmp_path: Path, edit: tuple[str, str]) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    release = releases(cluster.config(*edit))["c" if edit == SLEEPS else "a"]
    root = tmp_path / "root"
    for part in release.parts:
        if part.name == "host":
            with tarfile.open(part.path) as file:
                file.extractall(root / "opt/cluster-ai/current", filter="data")
    system = root / "etc/systemd/system"
    system.mkdir(parents=True)
    for unit in units(release):
        shutil.copy(root / "opt/cluster-ai/current/units" / unit, system / unit)
    for program in ("bin/true", "bin/rm", "usr/bin/systemctl"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", root / program)
    for needed in ("network-online.target", "network.target", "sysinit.target", "basic.target", "multi-user.target"):
        (system / needed).write_text("[Unit]\nDescription=stands for the system's own\n")
    done = subprocess.run(
        [analyze, "verify", f"--root={root}", "--man=no", "--generators=no", *(str(u) for u in units(release))],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if "cluster-ai" in line]
    assert lines == []


@pytest.mark.parametrize("edit", [("", ""), ("'10.9.9.1'", "'fd00::1'"), TOLD])
def test_prometheus_accepts_its_configuration(cluster: Cluster, tmp_path: Path, edit: tuple[str, str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no Prometheus here")
    token = f"/run/credentials/{layout.PROMETHEUS}/{layout.GATEWAY_TOKEN}"
    release = releases(cluster.config(*edit))["a"]
    content = text(release, "etc/prometheus.yml")
    (tmp_path / "rules.yml").write_text(text(release, "etc/rules.yml"))
    (tmp_path / "token").write_text("x")
    (tmp_path / "rules.yml").write_text(text(releases(cluster.config(*edit))["a"], "etc/rules.yml"))
    path = tmp_path / "prometheus.yml"
    pair = ca.issue(ca.create("test"), "a", ["a"], "head")
    (tmp_path / "key.pem").write_bytes(pair.key)
    for name in ("ca.pem", "cert.pem"):
        (tmp_path / name).write_bytes(pair.cert)
    path.write_text(content.replace(token, str(tmp_path / "token")).replace(str(layout.TLS), str(tmp_path)))
    assert token in content
    subprocess.run([promtool, "check", "config", path], check=True, capture_output=True)
