from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai import layout
from cluster_ai.errors import HostError
from cluster_ai.rollout.manifest import Manifest, units_of
from cluster_ai.rollout.observe import Observed, UnitState
from cluster_ai.rollout.plan import (
    Before,
    FileChange,
    HostPlan,
    Inputs,
    Transfer,
    UnitChange,
    Wanted,
    plan_cluster,
    plan_host,
)
from cluster_ai.rollout.strategies import Group
from tests.unit.rollout.test_strategies import policy as rolling
from tests.unit.tls.test_validity import certificate

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
FRESH = certificate(datetime(2026, 5, 1, tzinfo=UTC), datetime(2027, 5, 1, tzinfo=UTC))
OLD = certificate(datetime(2025, 7, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
ENGINE, WORKER = "cluster-ai-engine.service", "cluster-ai-worker.service"
SUMS = {"tls/ca.pem": "c" * 64}


def manifest(**changes: Any) -> bytes:
    data: dict[str, Any] = {
        "blobs": ["blob"],
        "files": {"etc/worker.json": {"sha256": "1", "mode": "0644"}, "app/x.py": {"sha256": "1", "mode": "0644"}},
        "format": 1,
        "parts": {"app": "app-1", "host": "host-1"},
        "units": {ENGINE: "e1", WORKER: "w1"},
    }
    return json.dumps({**data, **changes}, sort_keys=True, separators=(",", ":")).encode()


def wanted(raw: bytes | None = None, digest: str = "new", **changes: Any) -> Wanted:
    base = Wanted(
        host="h",
        address="10.0.0.1",
        roles=frozenset({"worker"}),
        digest=digest,
        manifest=raw or manifest(),
        parts=(Transfer("app", "app-1", 10), Transfer("host", "host-1", 1)),
        blobs=(Transfer("blob", "blob", 100),),
        stamp="stamp",
        sums=SUMS,
    )
    return replace(base, **changes)


def seen(**changes: Any) -> Observed:
    base = Observed(
        host="h",
        os_id="debian",
        os_version="12",
        python="3.11",
        arch="x86_64",
        clock=int(NOW),
        current="new",
        previous=None,
        switching=None,
        stamp="stamp",
        releases=frozenset({"new"}),
        parts=frozenset({"app-1", "host-1"}),
        blobs=frozenset({"blob"}),
        certificate=FRESH,
        sums=SUMS,
        units={ENGINE: UnitState("active", "running"), WORKER: UnitState("active", "running")},
        newer=(),
        free=10**10,
    )
    return replace(base, **changes)


def planned(want: Wanted, observed: Observed, before: Before | None = None, **options: Any) -> HostPlan:
    return plan_host(want, observed, before or Before(), now=NOW, **options)


def test_a_host_that_is_as_it_shall_be_needs_nothing() -> None:
    assert not planned(wanted(), seen()).changes


def test_a_new_host_gets_everything() -> None:
    bare = seen(current=None, stamp=None, parts=frozenset(), blobs=frozenset(), certificate=None, sums={}, units={})
    plan = planned(wanted(models=("m",)), bare)
    assert plan.host_layer == "never converged"
    assert plan.certificates == "no certificate yet"
    assert [it.name for it in (*plan.parts, *plan.blobs)] == ["app", "host", "blob"]
    assert {change.action for change in plan.units} == {"start"}
    assert plan.models_added == ("m",)


def test_one_file_that_changed_is_named_with_its_difference_and_restarts_the_unit_that_reads_it() -> None:
    files = {"etc/worker.json": {"sha256": "0", "mode": "0644"}, "app/x.py": {"sha256": "1", "mode": "0644"}}
    old = Manifest.read(
        manifest(files=files, parts={"app": "app-1", "host": "host-0"}, units={ENGINE: "e1", WORKER: "w0"})
    )
    before = Before(old, {"etc/worker.json": "a\nb\n"}, ("gone",))
    plan = planned(
        wanted(
            texts={"etc/worker.json": "a\nc\n"},
            models=("come",),
            inputs={WORKER: Inputs((f"units/{WORKER}", "etc/worker.json"), ("app",))},
        ),
        seen(current="old", parts=frozenset({"app-1"})),
        before,
    )
    (change,) = plan.files
    assert (change.path, change.kind) == ("etc/worker.json", "changed")
    assert "-b\n+c" in change.diff
    assert plan.units == (UnitChange(WORKER, "restart", "changed: etc/worker.json", ("etc/worker.json",)),)
    assert [it.name for it in plan.parts] == ["host"]
    assert (plan.models_added, plan.models_removed) == (("come",), ("gone",))


def test_files_that_come_and_go_are_told() -> None:
    old = Manifest.read(manifest(files={"app/y.py": {"sha256": "1", "mode": "0644"}}))
    plan = planned(wanted(), seen(current="old"), Before(old))
    assert plan.files == (
        FileChange("app/x.py", "added"),
        FileChange("app/y.py", "removed"),
        FileChange("etc/worker.json", "added"),
    )


def test_a_release_of_which_nothing_is_known_restarts_what_runs_and_says_so() -> None:
    plan = planned(wanted(), seen(current="other"), Before(ours=False))
    assert {change.action for change in plan.units} == {"restart"}
    assert plan.notes == ("runs a release that was not built on this machine",)


def test_a_unit_that_is_down_is_started_though_the_release_is_right() -> None:
    plan = planned(
        wanted(), seen(units={ENGINE: UnitState("failed", "failed"), WORKER: UnitState("active", "running")})
    )
    assert plan.units == (UnitChange(ENGINE, "start", "is failed (failed)"),)
    assert plan.release_changes


def test_a_unit_of_another_role_is_stopped() -> None:
    units = {**seen().units, "cluster-ai-gateway.service": UnitState("active", "running")}
    assert planned(wanted(), seen(units=units)).units == (
        UnitChange("cluster-ai-gateway.service", "stop", "not of this host any more"),
    )


def test_a_certificate_in_its_last_third_is_renewed_and_no_unit_is_disturbed() -> None:
    plan = planned(wanted(), seen(certificate=OLD))
    assert "third" in plan.certificates
    assert plan.changes
    assert plan.pushed
    assert not plan.release_changes
    assert not plan.units


@pytest.mark.parametrize(("name", "called"), [("tls/ca.pem", "the cluster's CA"), ("tls/hosts", "the list of hosts")])
def test_another_ca_and_other_hosts_are_told_to_those_that_run(name: str, called: str) -> None:
    plan = planned(wanted(sums={name: "c" * 64}), seen(sums={name: "d" * 64}))
    assert plan.certificates == f"{called} is another one"
    assert not plan.units


def test_another_token_restarts_what_is_handed_it() -> None:
    gateway = {**seen().units, layout.GATEWAY: UnitState("active", "running")}
    raw = manifest(units={ENGINE: "e1", WORKER: "w1", layout.GATEWAY: "g1"})
    both = {**SUMS, "gateway.token": "e" * 64}
    plan = planned(wanted(raw, sums=both), seen(units=gateway, sums={**SUMS, "gateway.token": "f" * 64}))
    assert plan.credentials == "the gateway's token is another one"
    assert plan.units == (UnitChange(layout.GATEWAY, "restart", "credentials are renewed"),)


def test_a_release_that_somebody_changed_is_repaired() -> None:
    plan = planned(wanted(), seen(newer=("etc/worker.json",)))
    assert plan.drift == ("etc/worker.json",)
    assert plan.release_changes
    assert not plan.units


def test_a_model_file_that_is_missing_is_sent() -> None:
    assert planned(wanted(), seen(blobs=frozenset())).release_changes


def test_the_host_layer_runs_when_its_stamp_differs_or_when_asked_for() -> None:
    assert "changed" in planned(wanted(stamp="other"), seen()).host_layer
    assert planned(wanted(), seen(), converge=True).host_layer == "asked for"


def test_a_host_whose_own_check_found_a_package_missing_is_converged_and_told_why() -> None:
    assert planned(wanted(), seen(stamp="drift: nginx is not installed")).host_layer == "nginx is not installed"


def test_what_a_timer_starts_is_not_awaited() -> None:
    units = {**json.loads(manifest())["units"], "check.service": "c1", "check.timer": "t1"}
    running = seen(units={**seen().units, "check.timer": UnitState("active", "waiting")})
    assert planned(wanted(manifest(units=units)), running).units == ()
    assert not planned(wanted(stamp="other"), seen()).release_changes


def test_units_are_read_without_the_rest_of_a_manifest() -> None:
    raw = manifest()
    assert units_of(raw) == json.loads(raw)["units"]
    assert units_of(json.dumps(json.loads(raw), indent=2).encode()) == json.loads(raw)["units"]


def test_waves_are_of_hosts_that_the_release_layer_changes_only() -> None:
    hosts = [
        planned(wanted(host="head", roles=frozenset({"head"})), seen(current="old")),
        planned(wanted(host="w1"), seen(current="old")),
        planned(wanted(host="w2", stamp="other"), seen()),
        planned(wanted(host="w3"), seen(current="old")),
    ]
    down = HostError("doesn't answer", where="w4")
    groups: list[Group] = [(rolling(most=2), ["w1", "w2", "w3", "w4"])]
    plan = plan_cluster("c", hosts, [down], head="head", groups=groups, placed={})
    assert [wave.hosts for wave in plan.waves] == [("head",), ("w1",), ("w3",)]
    assert plan.unavailable == {}
    assert plan.errors == (down,)
    assert plan.changes


def test_a_plan_tells_what_nobody_serves_while_a_wave_is_under_way() -> None:
    moves = {"models_added": ("gained",), "models_removed": ("left",)}
    hosts = [
        replace(planned(wanted(host="w1"), seen(current="old")), **moves),  # type: ignore[arg-type]
        planned(wanted(host="w2"), seen(current="old")),
    ]
    placed = {"gained": ["w1", "w2"], "left": ["w2"], "kept": ["w1"]}
    plan = plan_cluster("c", hosts, [], head="head", groups=[(rolling(most=2), ["w1", "w2"])], placed=placed)
    assert [wave.hosts for wave in plan.waves] == [("w1",), ("w2",)]
    assert plan.unavailable == {0: ("kept",), 1: ("left",)}


states = st.sampled_from(["active", "inactive", "failed", "activating"])


@given(
    current=st.sampled_from([None, "new", "old"]),
    stamp=st.sampled_from([None, "stamp", "other"]),
    engine=states,
    worker=states,
    parts=st.sets(st.sampled_from(["app-1", "host-1"])),
    known=st.booleans(),
)
def test_a_plan_is_empty_exactly_when_nothing_differs(
    current: str | None, stamp: str | None, engine: str, worker: str, parts: set[str], known: bool
) -> None:
    observed = seen(
        current=current,
        stamp=stamp,
        parts=frozenset(parts),
        units={ENGINE: UnitState(engine, "x"), WORKER: UnitState(worker, "x")},
    )
    before = Before(Manifest.read(manifest())) if known else Before()
    plan = planned(wanted(), observed, before)
    same = current == "new" and stamp == "stamp" and engine == worker == "active"
    assert plan.changes == (not same)
    assert all(change.reason for change in plan.units)
