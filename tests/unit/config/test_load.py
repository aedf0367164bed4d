from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster_ai.config import hosts, load, load_text
from cluster_ai.config.groups import policies
from cluster_ai.config.model import (
    Alerts,
    Canary,
    Engine,
    Firewall,
    Gateway,
    Interface,
    Limits,
    Monitoring,
    Packages,
    Policy,
    Processes,
    Rollout,
    Scale,
    Scaling,
    Scheduler,
    Ssh,
    Standby,
    Window,
)
from cluster_ai.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
SEED = """\
version: '1.0'
cluster:
  name: 'production-cluster'
  scheduler:
    host: 'scheduler.cluster.ai'
    port: 8786
  workers:
    - name: 'gpu-worker-01'
      resources: {gpu: 1, cpu: 8, memory: '32GB'}
    - name: 'cpu-worker-01'
      resources: {cpu: 16, memory: '64GB'}
  models:
    - name: 'llama2:13b'
      replicas: 2
      resources: {gpu_memory: '8GB'}
"""


def test_the_seed_example_is_valid_unchanged() -> None:
    config = load_text(SEED, "cluster.yaml")
    assert config.name == "production-cluster"
    assert [(w.name, w.host, w.resources.memory, w.resources.gpu) for w in config.workers] == [
        ("gpu-worker-01", "gpu-worker-01", 32 * 10**9, 1),
        ("cpu-worker-01", "cpu-worker-01", 64 * 10**9, 0),
    ]
    assert [(m.name, m.replicas, m.memory) for m in config.models] == [("llama2:13b", 2, 8 * 10**9)]


def test_what_the_seed_leaves_out_has_its_default() -> None:
    config = load_text(SEED, "cluster.yaml")
    assert config.scheduler == Scheduler("scheduler.cluster.ai", 8786, 8787)
    assert config.ssh == Ssh(None, None, None, None, None)
    assert config.engine == Engine("0.17.4", None, None, 1, 4096, 86400.0, "f16")
    assert config.gateway == Gateway(
        11435, "affinity", (), "truncate", Limits(None, None, None, 512, 120, 64 * 2**20, None)
    )
    assert config.rollout == Rollout(
        policy=Policy("rolling", 1, 0.0, Canary(1, 60.0, 0.01, 0.5, 0.2)),
        groups={},
        drain_timeout=120.0,
        keep_releases=5,
        gate_timeout=120.0,
    )
    assert config.monitoring == Monitoring(9090, 5.0, 15 * 86400.0, None, Alerts(9093, None, None))
    assert config.interface == Interface(True, 8501, False, 8502)
    assert config.packages == Packages("distribution", None)
    assert config.firewall == Firewall(True, ())


def test_two_files_share_no_defaults() -> None:
    first, second = load_text(SEED, "a.yaml"), load_text(SEED, "b.yaml")
    assert first.workers[0].labels is not second.workers[0].labels
    assert first.models[0].options == {}


def test_the_annotated_example_is_valid() -> None:
    assert load(ROOT / "cluster.yaml").name == "production-cluster"


def test_paths_start_at_the_folder_of_the_file_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "m.gguf").touch()
    (tmp_path / "ollama").touch()
    extra = "  ssh: {key: '~/.ssh/id', known_hosts: ./known_hosts}\n  engine: {source: ollama}\n"
    config = load_text(SEED.replace("replicas: 2", "source: m.gguf") + extra, tmp_path / "cluster.yaml")
    assert config.ssh.key == Path("/home/someone/.ssh/id")
    assert config.ssh.known_hosts == tmp_path / "known_hosts"
    assert config.models[0].source == tmp_path / "m.gguf"
    assert config.engine.source == str(tmp_path / "ollama")


def test_an_address_as_source_stays_an_address() -> None:
    config = load_text(SEED + "  engine: {source: 'https://files.lan/ollama.tgz'}\n", "cluster.yaml")
    assert config.engine.source == "https://files.lan/ollama.tgz"


@pytest.mark.parametrize(("written", "value"), [("2", 2), ("'25%'", 0.25), ("100%", 1.0), ("1", 1)])
def test_a_share_of_the_workers_is_a_float_and_a_number_is_not(written: str, value: float) -> None:
    found = load_text(
        SEED + f"  rollout: {{max_unavailable: {written}}}\n", "cluster.yaml"
    ).rollout.policy.max_unavailable
    assert (found, type(found)) == (value, type(value))


def test_a_group_of_the_rollout_has_what_the_whole_has_where_it_says_nothing() -> None:
    text = SEED.replace("memory: '64GB'}", "memory: '64GB'}\n      labels: {room: a12}")
    groups = "groups: {room_a12: {strategy: canary, canary: {hosts: [cpu-worker-01], max_speed_loss: '5.5%'}}}"
    config = load_text(
        text + f"  rollout: {{max_unavailable: 2, pause: '1m', canary: {{bake: '5m'}}, {groups}}}\n", "f"
    )
    own, group = config.rollout.policy, config.rollout.groups["room_a12"]
    assert (own.strategy, own.canary.hosts, own.canary.bake) == ("rolling", 1, 300.0)
    assert (group.strategy, group.max_unavailable, group.pause) == ("canary", 2, 60.0)
    assert group.canary == Canary(("cpu-worker-01",), 300.0, 0.01, 0.5, 0.055)
    assert [members for _, members in policies(config)] == [("cpu-worker-01",), ("gpu-worker-01",)]


def test_a_worker_in_several_groups_of_the_rollout_belongs_to_the_first() -> None:
    text = SEED.replace("memory: '64GB'}", "memory: '64GB'}\n      labels: {room: a12, old: 'yes'}")
    config = load_text(text + "  rollout: {groups: {old_yes: {}, room_a12: {}, workers: {}}}\n", "cluster.yaml")
    assert [members for _, members in policies(config)] == [("cpu-worker-01",), (), ("gpu-worker-01",), ()]


def test_the_head_comes_first_and_a_worker_at_its_address_shares_the_machine() -> None:
    alone = hosts(load_text(SEED, "cluster.yaml"))
    assert [(h.name, sorted(h.roles)) for h in alone] == [
        ("scheduler.cluster.ai", ["head"]),
        ("gpu-worker-01", ["worker"]),
        ("cpu-worker-01", ["worker"]),
    ]
    shared = hosts(load_text(SEED.replace("'scheduler.cluster.ai'", "'cpu-worker-01'"), "cluster.yaml"))
    assert [(h.name, sorted(h.roles)) for h in shared] == [
        ("cpu-worker-01", ["head", "worker"]),
        ("gpu-worker-01", ["worker"]),
    ]


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no such file.*cluster-ai init"):
        load(tmp_path / "cluster.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_bytes(b"version: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "cluster.yaml")


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigError, match="is no regular file"):
            load(path)


def test_loading_imports_nothing_heavy() -> None:
    heavy = ["ruamel", "jinja2", "typer", "rich", "distributed", "pyinfra", "ansible", "jsonschema"]
    code = (
        "import sys; from cluster_ai.config import load; from cluster_ai.placement.place import place; "
        f"place(load({str(ROOT / 'cluster.yaml')!r})); print(*[m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_keys_that_are_kept_beside_the_file_are_the_ones_to_believe(tmp_path: Path) -> None:
    assert load_text(SEED, tmp_path / "cluster.yaml").ssh.known_hosts is None
    (tmp_path / "known_hosts").touch()
    assert load_text(SEED, tmp_path / "cluster.yaml").ssh.known_hosts == tmp_path / "known_hosts"
    named = load_text(SEED + "  ssh: {known_hosts: ./other}\n", tmp_path / "cluster.yaml")
    assert named.ssh.known_hosts == tmp_path / "other"


def test_how_a_model_is_scaled() -> None:
    said = "scale: {max: 2, idle: '2h', schedule: [{days: fri-mon, from: '22:30', to: '06:00', replicas: 2}]}"
    scale = load_text(SEED.replace("replicas: 2", said), "cluster.yaml").models[0].scale
    window = Window((4, 5, 6, 0), 22 * 60 + 30, 6 * 60, 2)
    assert scale == Scale(2, None, None, 600.0, 7200.0, 1800.0, (window,), False)
    assert load_text(SEED, "cluster.yaml").models[0].scale is None


def test_there_is_one_dask_process_on_a_host_until_more_are_asked_for() -> None:
    assert load_text(SEED, "cluster.yaml").scaling == Scaling()
    said = SEED + "  scaling: {processes: {max: 4}}\n"
    assert load_text(said, "cluster.yaml").scaling == Scaling(Processes(1, 4, 60.0, False))


def test_a_worker_never_sleeps_unless_it_says_how_it_is_woken() -> None:
    assert load_text(SEED, "cluster.yaml").workers[1].standby is None
    seed = SEED.replace("replicas: 2", "replicas: 1")
    for said, standby in (
        ("{mac: '52:54:00:12:34:56'}", Standby("52:54:00:12:34:56", (), None, "suspend", 900.0, False)),
        (
            "{wake: \"/opt/wake 'ws 7'\", sleep: poweroff, idle: 1h, dry_run: true}",
            Standby(None, ("/opt/wake", "ws 7"), None, "poweroff", 3600.0, True),
        ),
    ):
        text = seed.replace("memory: '64GB'}", f"memory: '64GB'}}\n      standby: {said}")
        assert load_text(text, "cluster.yaml").workers[1].standby == standby
