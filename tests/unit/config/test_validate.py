from __future__ import annotations

from pathlib import Path

import pytest
from cerberus.schema import DefinitionSchema
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_ai.config import load_text
from cluster_ai.config.forms import FORMS
from cluster_ai.config.keys import Rules
from cluster_ai.config.schema import SCHEMA, accepts, rules_at
from cluster_ai.config.validate import SchemaValidator
from cluster_ai.errors import ClusterAIError, ConfigError, ErrorGroup, ExitCode
from tests.unit.config.test_load import SEED

ONE = SEED.replace("replicas: 2", "replicas: 1")
MAC = "standby: {mac: '52:54:00:12:34:56'}"


def errors(text: str, path: Path | str = "cluster.yaml") -> list[str]:
    with pytest.raises((ConfigError, ErrorGroup)) as caught:
        load_text(text, path)
    assert caught.value.exit_code == ExitCode.CONFIG
    return [str(e) for e in (caught.value.errors if isinstance(caught.value, ErrorGroup) else [caught.value])]


def changed(old: str, new: str) -> str:
    assert old in SEED
    return SEED.replace(old, new)


def test_the_schema_is_one_that_cerberus_accepts() -> None:
    DefinitionSchema(SchemaValidator(), SCHEMA)


def every_rule(schema: Rules) -> list[Rules]:
    found = []
    for rules in schema.values():
        found.append(rules)
        inner = rules.get("schema") or rules.get("valuesrules", {}).get("schema", {})
        found += every_rule(inner if rules.get("type") == "dict" else inner.get("schema", {}))
    return found


def test_every_key_says_what_it_means_and_has_a_default_or_what_holds_without() -> None:
    for rules in every_rule(SCHEMA):
        assert rules["meta"]["doc"].endswith(".")
        assert accepts(rules)
    options = rules_at(("cluster", "models", 0, "options"))["schema"]
    for rules in every_rule(SCHEMA):
        if rules not in options.values():
            assert rules.get("required") or "default" in rules or rules["meta"].get("absent"), rules


def test_every_default_is_itself_allowed() -> None:
    for rules in every_rule(SCHEMA):
        if "default" in rules and "form" in rules:
            assert FORMS[rules["form"]].test(rules["default"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            changed("'32GB'", "'32XB'"),
            "cluster.yaml:9:43: cluster.workers[0].resources.memory: found '32XB', "
            "allowed: a size with its unit, such as '32GB' (10^9 bytes) or '8GiB' (2^30)",
        ),
        (
            changed("port: 8786", "prot: 8786"),
            "cluster.yaml:6:5: cluster.scheduler.prot: found an unknown key, "
            "allowed: host, port, dashboard_port\n  -> did you mean port?",
        ),
        (
            changed("port: 8786", "port: 87860"),
            "cluster.yaml:6:11: cluster.scheduler.port: found 87860 (a whole number), "
            "allowed: a whole number from 1 to 65535",
        ),
        (
            changed("    host: 'scheduler.cluster.ai'\n", ""),
            "cluster.yaml:5:5: cluster.scheduler.host: the key is missing, "
            "allowed: a host name or an IP address, without user and port\n"
            "  -> Name or address that SSH, workers and clients reach it by. A worker with the same host shares it.",
        ),
        (
            changed("'1.0'", "1.0"),
            "cluster.yaml:1:10: version: found 1.0 (a number), allowed: '1.0'\n  -> put it in quotes: '1.0'",
        ),
        (
            changed("'production-cluster'", "on"),
            "cluster.yaml:3:9: cluster.name: found on (true or false), "
            "allowed: a name of letters, digits, '.', '_' and '-', "
            "at most 63 long, beginning and ending with a letter or a digit\n  -> put it in quotes: 'on'",
        ),
        (
            changed("replicas: 2", "replicas: some"),
            "cluster.yaml:14:17: cluster.models[0].replicas: found 'some', allowed: a whole number from 1 on, or all",
        ),
        (
            changed("{gpu_memory: '8GB'}", "{gpu_memory: '8GB', memory: '8GB'}"),
            "cluster.yaml:15:19: cluster.models[0].resources.gpu_memory: stands beside memory, allowed: one of both\n"
            "  -> keep the one that you mean",
        ),
        (
            changed("name: 'production-cluster'", "name:"),
            "cluster.yaml:3:8: cluster.name: found nothing, allowed: a name of letters, digits, '.', '_' and '-', "
            "at most 63 long, beginning and ending with a letter or a digit",
        ),
        (
            SEED + "  gateway: {policy: fastest}\n",
            "cluster.yaml:16:21: cluster.gateway.policy: found 'fastest', "
            "allowed: one of 'affinity', 'least_loaded', 'resource_aware', 'round_robin'",
        ),
        (
            SEED + "  gateway: {trusted_networks: [10.0.0.1/8]}\n",
            "cluster.yaml:16:32: cluster.gateway.trusted_networks[0]: found '10.0.0.1/8', "
            "allowed: a network such as '10.0.0.0/8' or 'fd00::/8', without bits set after the prefix",
        ),
        (
            SEED + "  firewall:\n    allow: ['80/tcp', 8000]\n",
            "cluster.yaml:17:23: cluster.firewall.allow[1]: found 8000 (a whole number), allowed: "
            "ports and their protocol, such as '8000/tcp', '60000-61000/udp' or '2049/tcp from 10.0.0.0/8'",
        ),
        (
            SEED + "  firewall: {manage: maybe}\n",
            "cluster.yaml:16:22: cluster.firewall.manage: found 'maybe', allowed: true or false",
        ),
        (
            SEED + "gateway: {port: 1}\n",
            "cluster.yaml:16:1: gateway: found an unknown key, allowed: version, cluster\n"
            "  -> it belongs under cluster:, indented",
        ),
        (
            SEED + "  ssh: root\n",
            "cluster.yaml:16:8: cluster.ssh: found 'root', "
            "allowed: a mapping with the keys user, port, key, known_hosts, jump",
        ),
        (
            SEED[: SEED.index("  workers")] + "  workers: []\n",
            "cluster.yaml:7:12: cluster.workers: found an empty list, allowed: a list of at least 1",
        ),
    ],
)
def test_an_error_says_where_what_and_what_is_allowed(text: str, error: str) -> None:
    assert error in errors(text)


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    text = changed("port: 8786", "port: x").replace("cpu: 8", "cpu: 0").replace("cpu: 16", "cpus: 16")
    assert [e.split(":")[1] for e in errors(text)] == ["6", "9", "11", "11"]


@pytest.mark.parametrize("text", ["", "- a list", "text", "# nothing"])
def test_what_is_no_mapping_is_told_how_to_begin(text: str) -> None:
    assert "cluster-ai init" in errors(text)[0]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (changed("cpu-worker-01", "gpu-worker-01"), "10:13", "'gpu-worker-01' stands here a second time"),
        (
            changed(
                "name: 'cpu-worker-01'", "{name: w2, host: GPU-worker-01, resources: {cpu: 1, memory: 1GB}}"
            ).replace("      resources: {cpu: 16, memory: '64GB'}\n", ""),
            "10:24",
            "'gpu-worker-01' stands here a second time",
        ),
        (SEED + "    - {name: 'llama2:13b'}\n", "16:14", "'llama2:13b' stands here a second time"),
        (
            SEED + "    - {name: tiny}\n    - {name: 'tiny:latest'}\n",
            "17:14",
            "'tiny:latest' stands here a second time",
        ),
        (changed("'gpu-worker-01'", "'scheduler.cluster.ai'\n      host: 'w1'"), "8:13", "address of another machine"),
        (changed("'gpu-worker-01'", "'head'"), "8:13", "Ansible or pyinfra has already"),
        (changed("replicas: 2", "replicas: 3"), "14:17", "found 3, allowed: at most 2"),
        (changed("{cpu: 16,", "{cpu: 16, gpu_memory: 8GB,"), "11:28", "gpu is 0"),
        (SEED + "  packages: {source: mirror}\n", "16:22", "no packages.mirror"),
        (SEED + f"  engine: {{sha256: {'a' * 64}}}\n", "16:12", "without engine.source"),
        (SEED + "  engine: {source: ./nowhere}\n", "16:20", "is not there"),
        (changed("replicas: 2", "source: nowhere.gguf"), "14:15", "nowhere.gguf is not there"),
        (changed("replicas: 2", "quantize: q8_0"), "14:7", "stands without source"),
        (
            changed("replicas: 2", "scale: {max: 9}"),
            "14:20",
            "found 9, allowed: from 1, its replicas, to 2, the workers",
        ),
        (
            changed("replicas: 2", "scale: {max: 2, schedule: [{from: '08:00', to: '9:00', replicas: 1}]}"),
            "14:54",
            "a time of day in quotes",
        ),
        (
            changed("replicas: 2", "scale: {max: 1, schedule: [{from: '08:00', to: '09:00', replicas: 2}]}"),
            "14:73",
            "found 2, allowed: at most 1, as max says",
        ),
        (changed("replicas: 2", "replicas: all\n      scale: {max: 2}"), "15:7", "stands beside replicas: all"),
        (ONE.replace("'64GB'}", "'64GB'}\n      standby: {idle: 5m}"), "12:7", "nothing would wake it"),
        (
            ONE.replace("'64GB'}", f"'64GB'}}\n      host: scheduler.cluster.ai\n      {MAC}"),
            "13:7",
            "it is the head host",
        ),
        (
            changed("memory: '64GB'}", f"memory: '64GB'}}\n      {MAC}"),
            "15:17",
            "found 2, allowed: at most 1, one on each worker that never sleeps",
        ),
        (
            changed("memory: '64GB'}", f"memory: '64GB'}}\n      {MAC}").replace("'32GB'}", f"'32GB'}}\n      {MAC}")[
                : SEED.index("  models:") + 2 * len(f"      {MAC}\n")
            ],
            "7:3",
            "all of them may sleep",
        ),
        (SEED + "  scaling: {processes: {max: 2, min: 3}}\n", "16:38", "found 3, allowed: at most 2, as max says"),
        (
            SEED + "  gateway: {port: 8786}\n",
            "16:19",
            "port 8786 on scheduler.cluster.ai belongs to cluster.scheduler.port",
        ),
        (SEED + "  monitoring: {port: 9100}\n", "16:22", "belongs to node_exporter"),
        (
            changed("'scheduler.cluster.ai'", "'cpu-worker-01'") + "  gateway: {port: 8795}\n",
            "16:19",
            "belongs to the Dask worker",
        ),
        (SEED + "  gateway: {port: 22}\n", "16:19", "belongs to sshd"),
        (SEED + "  gateway: {port: 11436}\n", "16:19", "belongs to the gateway, for what runs beside it"),
        (SEED + "  monitoring: {port: 11445}\n", "16:22", "belongs to the renewal of certificates"),
        (
            SEED + "  security: {oidc: {issuer: 'https://x.test', client_id: 'a'}}\n",
            "16:14",
            "no value of groups gives a role",
        ),
        (
            SEED + "  security: {oidc: {issuer: 'https://x.test', client_id: 'a', roles: {user: ['s']}}, "
            "tls: {enabled: false}}\n",
            "16:14",
            "send people back to https:// alone",
        ),
        (SEED + "  security: {oidc: {issuer: 'http://x.test', client_id: 'a'}}\n", "16:29", "begins with https://"),
        (SEED + "  gateway: {limits: {max_body: 1GB}}\n", "16:32", "workers take bodies up to 256 MiB"),
    ],
)
def test_what_only_shows_when_keys_are_seen_together(text: str, where: str, what: str) -> None:
    found = errors(text)
    assert len(found) == 1
    assert found[0].startswith(f"cluster.yaml:{where}: ")
    assert what in found[0]


def test_a_key_without_a_value_has_its_default() -> None:
    config = load_text(changed("replicas: 2", "replicas:") + "  gateway:\n    # port: 1\n", "cluster.yaml")
    assert (config.models[0].replicas, config.gateway.port) == (1, 11435)


def test_a_dashboard_that_is_off_takes_no_port() -> None:
    load_text(SEED + "  gateway: {port: 8501}\n  interface: {dashboard: false}\n", "cluster.yaml")


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (
            "host",
            ["h1", "a.b-c.d", "10.0.0.1", "fd00::1", "my_host"],
            ["", "a b", "me@h1", "h1:22", "-h", "a..b", "x" * 254],
        ),
        ("model", ["llama2:13b", "hf.co/org/m:Q4_K_M", "all-minilm"], ["", "a:b:c", "-x", "a b", ":x"]),
        ("name", ["a", "gpu-worker-01", "A.b"], ["", "-a", "a-", "a/b", "ä", "a" * 64, "../x"]),
        ("jump", ["bastion", "me@bastion:2222", "a,b@c:1"], ["", "a b", "-oProxyCommand=x", "a;b"]),
        ("user", ["root", "j.doe"], ["", "-x", "a b"]),
        (
            "mac",
            ["52:54:00:12:34:56", "52-54-00-AB-cd-ef"],
            ["", "52:54:00:12:34", "52540012345g", "52:54:00:12:34:5g"],
        ),
        ("command", ["/bin/wake 'ws 7'", "ipmitool"], ["", "  ", "wake 'ws", 7]),
        (
            "opening",
            [
                "8000/tcp",
                "60000-61000/udp",
                "2049/tcp from 10.0.0.0/8",
                "53/udp from fd00::/8",
                "80/tcp from proxy.lan",
            ],
            [
                "8000",
                8000,
                "0/tcp",
                "65536/tcp",
                "2-1/tcp",
                "1-1/tcp",
                "80/sctp",
                "80/tcp\n",
                "a-b/tcp",
                "-80/tcp",
                "80/tcp from",
                "80/tcp from 10.0.0.1/8",
                "80/tcp from a;b",
            ],
        ),
        ("url", ["http://m/debian", "https://m"], ["ftp://m", "m/debian", "http:// m"]),
        ("share", [1, 20, "25%", "100%"], [0, "0%", "101%", "x", 0.5, True]),
        ("replicas", [1, 7, "all"], [0, -1, "7", 1.5, True]),
    ],
)
def test_forms(form: str, good: list[object], bad: list[object]) -> None:
    assert [v for v in good if not FORMS[form].test(v)] == []
    assert [v for v in bad if FORMS[form].test(v)] == []


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
names = st.sampled_from(
    ["version", "cluster", "name", "workers", "models", "resources", "options", "labels", "ssh", "x"]
)
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))


@settings(deadline=None)
@given(anything, st.sampled_from(["cluster", "workers", "models", "ssh", "gateway", "scheduler"]))
def test_any_data_is_accepted_or_refused_with_errors_of_ours(data: object, at: str) -> None:
    import json

    text = json.dumps({"version": "1.0", "cluster": data if at == "cluster" else {"name": "x", at: data}})
    said = ""
    try:
        load_text(text, "cluster.yaml")
    except ClusterAIError as error:
        said = str(error)
    assert not said or said.startswith("cluster.yaml:")


LABELLED = changed("memory: '64GB'}", "memory: '64GB'}\n      labels: {room: a12}")


@pytest.mark.parametrize(
    ("rollout", "error"),
    [
        (
            "{groups: {|room_a1: {}}}",
            "cluster.rollout.groups.room_a1: there is no group 'room_a1'\n  -> did you mean room_a12?",
        ),
        (
            "{groups: {|head: {}}}",
            "cluster.rollout.groups.head: the head always changes first and alone\n  -> leave it out",
        ),
        (
            "{groups: {room_a12: {|strategi: canary}}}",
            "cluster.rollout.groups.room_a12.strategi: found an unknown key, "
            "allowed: strategy, max_unavailable, pause, canary\n  -> did you mean strategy?",
        ),
        (
            "{groups: {room_a12: {canary: {bake: |soon}}}}",
            "cluster.rollout.groups.room_a12.canary.bake: found 'soon', "
            "allowed: a duration with its unit, such as '30s' or '5m', or '0s' for none",
        ),
        (
            "{canary: {hosts: [|cpu-worker-1]}}",
            "cluster.rollout.canary.hosts[0]: there is no worker with this name: 'cpu-worker-1'"
            "\n  -> did you mean cpu-worker-01?",
        ),
        (
            "{groups: {room_a12: {canary: {hosts: [|gpu-worker-01]}}}}",
            "cluster.rollout.groups.room_a12.canary.hosts[0]: there is no worker of this group: "
            "'gpu-worker-01'\n  -> did you mean cpu-worker-01?",
        ),
        (
            "{strategy: canary, canary: {bake: |5s}}",
            "cluster.rollout.canary.bake: found 5s, allowed: at least 20s, "
            "4 times monitoring.scrape_interval\n  -> bake longer, or '0s'",
        ),
        (
            "{canary: {max_error_rate: |5}}",
            "cluster.rollout.canary.max_error_rate: found 5 (a whole number), "
            "allowed: a share such as '5%' (0% to 100%)",
        ),
    ],
)
def test_an_error_in_the_rollout_names_its_place_and_what_was_meant(rollout: str, error: str) -> None:
    line = f"  rollout: {rollout}\n"
    where = f"cluster.yaml:{LABELLED.count(chr(10)) + 1}:{line.index('|') + 1}"
    assert errors(LABELLED + line.replace("|", "")) == [f"{where}: {error}"]


@pytest.mark.parametrize(
    "folder", ["/home/ada", "/tmp", "/etc/cluster-ai", "data", "/srv/../etc", "/var/lib/cluster-ai/x"]
)
def test_tasks_read_no_folder_of_the_system(folder: str) -> None:
    (told,) = errors(f"{SEED.rstrip()}\n  tasks: {{data: '{folder}'}}\n")
    assert "cluster.tasks.data" in told
    assert "a folder's absolute path" in told


def test_tasks_read_a_folder_that_is_the_same_everywhere() -> None:
    config = load_text(f"{SEED.rstrip()}\n  tasks: {{data: /srv/data-2}}\n", "cluster.yaml")
    assert config.tasks.data == "/srv/data-2"
