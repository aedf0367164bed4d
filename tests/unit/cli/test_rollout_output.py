"""What plan, apply, status and verify print."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace

import pytest

from cluster_ai.cli.commands.status import row, worker_row
from cluster_ai.cli.commands.verify import drift
from cluster_ai.cli.progress import Plain
from cluster_ai.cli.render import FEW, alike, lines, plan_json, print_plan, schedule, size, summary
from cluster_ai.cli.session import names
from cluster_ai.cli.tables import table
from cluster_ai.errors import HostError, HostKeyError
from cluster_ai.provision.refusals import Reply
from cluster_ai.rollout.observe import UnitState
from cluster_ai.rollout.plan import FileChange, HostPlan, Plan, Transfer, UnitChange
from cluster_ai.rollout.waves import Wave
from tests.unit.rollout.test_plan import NOW, seen

HOST = HostPlan(
    host="h2",
    address="10.0.0.2",
    roles=("worker",),
    release_from="a" * 64,
    release_to="b" * 64,
    parts=(Transfer("host", "p" * 64, 2500),),
    files=(FileChange("etc/worker.json", "changed", "-old\n+new"), FileChange("etc/nginx.conf", "added")),
    units=(UnitChange("cluster-ai-worker.service", "restart", "changed: etc/worker.json", ("etc/worker.json",)),),
    models_added=("m",),
)
SAME = HostPlan("h1", "10.0.0.1", ("head",), "a" * 64, "a" * 64)


def plan(*hosts: HostPlan, errors: tuple[HostError, ...] = ()) -> Plan:
    return Plan("lab", hosts, (Wave(("h2",), "rolling"),), errors)


def test_a_plan_names_each_change_and_no_host_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan(SAME, HOST))
    out = capsys.readouterr().out
    assert out == (
        "What changes\n"
        "  configuration of Dask worker: restarts Dask worker on h2\n"
        "  configuration of TLS front: restarts nothing, on h2\n"
        "  model m: + on h2\n"
        "\n"
        "Host by host\n"
        "  h2 (worker, 10.0.0.2)\n"
        "    release     aaaaaaaaaaaa -> bbbbbbbbbbbb\n"
        "    send        host (2 kB)\n"
        "    files       etc/worker.json changed\n"
        "    files       etc/nginx.conf added\n"
        "    restart     cluster-ai-worker.service: changed: etc/worker.json\n"
        "    models      +m\n"
        "      -old\n"
        "      +new\n"
        "\n"
        "When, and what is unavailable meanwhile\n"
        "  wave 1        workers: h2\n"
        "                - who is switched takes no new requests meanwhile, and finishes those that run\n"
        "\n"
        "1 of 2 hosts would change, 2 kB to send.\n"
    )


def test_hosts_on_which_the_same_changes_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(HOST, host="h3", address="10.0.0.3", release_to="c" * 64)
    changed = replace(other, host="h4", models_added=())
    assert [group.title for group in alike(plan(HOST, other, changed, SAME))] == [
        "h2, h3 (worker; 2 alike)",
        "h4 (worker, 10.0.0.3)",
    ]
    print_plan(plan(HOST, other))
    assert "    release     another one on each\n" in capsys.readouterr().out


def test_waves_that_differ_in_their_hosts_alone_are_told_as_one() -> None:
    names = [f"w{n}" for n in range(1, 6)]
    waves = (
        Wave(("w1",), "canary", bake=300.0, pause=60.0),
        Wave(("w2",), "rolling", pause=60.0),
        Wave(("w3",), "rolling", pause=60.0),
        Wave(("w4", "w5"), "rolling"),
    )
    made = Plan("lab", tuple(replace(HOST, host=name) for name in names), waves, (), {3: ("m", "n")})
    away = "who is switched takes no new requests meanwhile, and finishes those that run"
    assert schedule(made) == [
        (
            "wave 1",
            "canary: w1",
            [away, "then 5 min of traffic are compared with that of the others", "then a pause of 1 min"],
        ),
        ("waves 2-3", "workers, one at a time: w2, w3", [away, "then a pause of 1 min, each time"]),
        (
            "wave 4",
            "workers: w4, w5",
            ["models m, n are unavailable for about the time of a switch: no other worker has a replica", away],
        ),
    ]


def test_many_files_of_one_folder_are_counted() -> None:
    many = tuple(FileChange(f"lib/{n}.py", "added") for n in range(FEW + 1))
    host = HostPlan("h", "h", ("worker",), None, "b", files=many)
    assert ("files", f"lib/: {FEW + 1} added") in list(lines(host))


def test_nothing_to_do_is_said_in_one_line() -> None:
    assert summary(plan(SAME)) == "Nothing to do: 1 host as lab's configuration says."


def test_hosts_that_could_not_be_asked_are_counted_apart() -> None:
    down = (HostError("doesn't answer", where="h3"),)
    assert summary(plan(SAME, errors=down)).endswith("as lab's configuration says; 1 host could not be asked.")
    assert summary(plan(HOST, errors=down)) == "1 of 1 host would change, 2 kB to send; 1 host could not be asked."
    assert summary(plan(errors=down)) == "No host could be asked."


def test_a_plan_as_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    error = HostError("doesn't answer", where="h3", remedy="see")
    data = json.loads(json.dumps(plan_json(plan(SAME, HOST, errors=(error,)))))
    assert (data["format"], data["cluster"], data["changes"]) == (1, "lab", True)
    assert [host["changes"] for host in data["hosts"]] == [False, True]
    assert data["hosts"][1]["units"][0] == json.loads(json.dumps(asdict(HOST.units[0])))
    assert data["errors"] == [{"where": "h3", "what": "doesn't answer", "remedy": "see"}]
    (wave,) = data["waves"]
    assert {"hosts": ["h2"], "kind": "rolling", "pause": 0.0, "bake": 0.0, "models_missed": []}.items() <= wave.items()
    assert "takes no new requests" in wave["unavailable"][0]
    assert [change["text"] for change in data["summary"]][-1] == "model m: + on h2"


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 98_000_000, 4_100_000_000)] == ["0 B", "999 B", "1 kB", "98 MB", "4.1 GB"]


def test_limits_may_stand_in_one_word_or_several() -> None:
    assert names(["a,b", "c", "a"]) == ("a", "b", "c")
    assert names(None) == ()


def test_progress_without_a_terminal_is_lines_of_what_changed() -> None:
    out = io.StringIO()
    shown = Plain(out)
    shown.stage("push", ["h1", "h2"])
    shown.step("h1", "transfer", "start", "40 %")
    shown.step("h1", "transfer", "changed", "3 parts")
    shown.step("h2", "transfer", "ok")
    shown.step("h2", "unpack", "failed", "disk full")
    shown.close()
    assert out.getvalue() == ("push: h1, h2\n  h1: transfer: changed (3 parts)\n  h2: unpack: failed (disk full)\n")


def test_a_host_row_names_the_units_that_are_down() -> None:
    units = {"a.service": UnitState("active", "running"), "b.service": UnitState("failed", "failed")}
    shown = row("h", "worker", seen(current="c" * 64, units=units), NOW)
    assert shown["units"] == "b.service: failed"
    assert shown["release"] == "c" * 12
    assert "days left" in shown["certificate"]
    assert row("h", "head", HostError("x"), NOW)["units"] == "can't be reached"
    assert row("h", "head", HostKeyError("x", changed=True), NOW)["units"] == "shows another SSH host key"
    assert row("h", "head", HostKeyError("x", changed=False), NOW)["units"] == "its SSH host key is unknown"


def test_a_worker_row_says_which_models_are_not_loaded() -> None:
    worker = {"name": "w", "state": "down", "reason": "refused", "in_flight": 1, "slots": 4, "cpu": None}
    shown = worker_row({**worker, "placed": ["a", "b"], "loaded": ["a"]})
    assert shown["models"] == "a, b (not loaded)"
    assert shown["state"] == "down (refused)"
    assert (shown["memory"], shown["cards"]) == ("?", "")


def test_a_worker_row_tells_memory_and_cards() -> None:
    worker = {"name": "w", "state": "active", "in_flight": 0, "slots": 1, "cpu": 0.5, "placed": [], "loaded": []}
    card = {"index": 0, "name": "RTX 3090", "memory_used": 9_000_000_000, "memory_total": 25_769_803_776, "usage": None}
    shown = worker_row({**worker, "memory_used": 4_000_000_000, "memory_total": 34_000_000_000, "gpu": [card]})
    assert (shown["memory"], shown["cards"]) == ("4 of 34 GB", "RTX 3090 9 of 26 GB")
    shared = {"index": 0, "name": "NVIDIA GB10", "memory_used": None, "memory_total": None, "usage": None}
    assert worker_row({**worker, "gpu": [shared]})["cards"] == "NVIDIA GB10 (shares the host's memory)"


def test_a_table_without_a_terminal_is_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table("T", [{"host": "h1", "x": "1"}, {"host": "longer", "x": "2"}])
    assert capsys.readouterr().out == "HOST    X\nh1      1\nlonger  2\n"


def agent(text: str, code: int = 0, stderr: str = "") -> Reply:
    return Reply("h", code, text.encode(), stderr)


def test_drift_is_what_the_agent_found_and_what_the_release_should_be() -> None:
    faults = [
        {"kind": "files", "what": "etc/x", "how": "changed", "repair": "release"},
        {"kind": "packages", "what": "nginx", "how": "is not installed", "repair": "host layer"},
        {"kind": "ports", "what": "port 80", "how": "taken", "repair": "hand"},
    ]
    said = json.dumps({"faults": faults})
    found = drift(agent(f"cluster-ai-probe=end\n{said}\n", 2), "a" * 64, "a" * 64, "")
    assert [(it.what, it.repair) for it in found] == [("etc/x", "apply"), ("nginx", "apply"), ("port 80", "hand")]
    assert str(found[-1]) == "ports: port 80: taken (by hand)"
    assert "should be" in str(drift(agent(said, 2), "a" * 64, "b" * 64, "")[0])


def test_an_agent_that_cannot_run_is_drift_by_itself() -> None:
    found = drift(agent("cluster-ai-probe=end\n", 1, "Traceback\nImportError: no"), "a" * 64, "a" * 64, "")
    assert list(map(str, found)) == ["agent: verify: the release's own agent fails: ImportError: no"]


def test_a_host_without_a_release_lacks_it() -> None:
    found = drift(agent(""), None, "b" * 64, "never converged")
    assert list(map(str, found)) == ["host layer: stamp: never converged", "release: current: there is none"]
