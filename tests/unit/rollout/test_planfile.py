from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster_ai.config.override import Override
from cluster_ai.errors import ExitCode, HostError, UsageError
from cluster_ai.rollout.plan import HostPlan, Plan, UnitChange
from cluster_ai.rollout.planfile import Inputs, Saved, SavedHost, StalePlanError, check, dump, load, of, write
from cluster_ai.rollout.waves import Wave

INPUTS = Inputs("c" * 64, (), Override("canary", bake="30s"), "2026-11-24T10:00:00+00:00", "0.1.0")
NAMES = ["h1", "h2", "h3"]
digests = st.sampled_from(["a" * 64, "b" * 64])
texts = st.sampled_from(["", "because"])
hosts = st.builds(
    SavedHost,
    current=st.none() | digests,
    wanted=digests,
    stamp=st.none() | digests,
    stamp_wanted=digests,
    changes=st.booleans(),
    host_layer=texts,
    credentials=texts,
    drift=st.lists(st.sampled_from(["etc/x", "app"]), max_size=2).map(tuple),
    units=st.dictionaries(
        st.sampled_from(["a.service", "b.socket"]), st.sampled_from(["start", "restart"]), max_size=2
    ),
)
waves = st.builds(
    Wave,
    hosts=st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple),
    kind=st.sampled_from(["head", "rolling", "canary"]),
    pause=st.floats(0, 1e6),
    bake=st.floats(0, 1e6),
)
plans = st.builds(
    Saved,
    cluster=st.just("lab"),
    config_sha256=digests,
    limit=st.lists(st.sampled_from(NAMES), unique=True).map(tuple),
    made_at=st.sampled_from(["2026-11-24T10:00:00+00:00", "2026-11-25T10:00:00+00:00"]),
    made_by=st.sampled_from(["0.1.0", "0.2.0"]),
    hosts=st.dictionaries(st.sampled_from(NAMES), hosts, max_size=3),
    waves=st.lists(waves, max_size=3).map(tuple),
    down=st.dictionaries(st.sampled_from(["d1", "d2"]), st.just("doesn't answer"), max_size=2),
)
WORLD = ("config_sha256", "limit", "hosts", "waves")


def world(plan: Saved) -> dict[str, Any]:
    """All that a plan is about; when and by which version it was made is not."""
    return {name: getattr(plan, name) for name in WORLD} | {"down": set(plan.down)}


def planned(**changes: Any) -> Plan:
    host = HostPlan(
        "h2",
        "10.0.0.2",
        ("worker",),
        "a" * 64,
        "b" * 64,
        units=(UnitChange("cluster-ai-engine.service", "restart", "changed: part engine"),),
        stamp_from="s",
        stamp_to="s",
    )
    return Plan("lab", (replace(host, **changes),), (Wave(("h2",), "rolling"),), ())


THEN = of(planned(), INPUTS)


def now(**changes: Any) -> list[str]:
    return check(THEN, of(planned(**changes), INPUTS))


@given(plans)
def test_a_plan_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, plan: Saved) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    write(path, plan)
    assert load(path, "lab") == plan
    assert path.read_bytes() == dump(load(path, "lab"))


@given(plans, st.sampled_from(["2026-11-24T10:00:00+00:00", "2027-01-01T00:00:00+00:00"]))
def test_a_world_that_did_not_change_is_no_reason_whenever_it_is_looked_at(plan: Saved, later: str) -> None:
    assert check(plan, replace(plan, made_at=later, made_by="9.9")) == []


def done(saved: Saved, fresh: Saved) -> bool:
    return (
        saved.config_sha256 == fresh.config_sha256
        and not fresh.down
        and saved.hosts.keys() == fresh.hosts.keys()
        and all(
            not host.changes and (host.wanted, host.stamp_wanted) == (was.wanted, was.stamp_wanted)
            for name, host in fresh.hosts.items()
            for was in [saved.hosts[name]]
        )
    )


@given(plans, plans)
def test_any_other_world_is_refused_with_a_reason(saved: Saved, fresh: Saved) -> None:
    assume(world(saved) != world(fresh))
    reasons = check(saved, fresh)
    assert bool(reasons) == (not done(saved, fresh))
    assert len(set(reasons)) == len(reasons)


@given(plans, st.data())
def test_one_thing_of_one_host_that_changed_is_told_of_that_host(plan: Saved, data: st.DataObject) -> None:
    assume(plan.hosts)
    name = data.draw(st.sampled_from(sorted(plan.hosts)))
    field = data.draw(st.sampled_from([field.name for field in dataclasses.fields(SavedHost)]))
    value = getattr(data.draw(hosts), field)
    assume(value != getattr(plan.hosts[name], field))
    fresh = replace(plan, hosts={**plan.hosts, name: replace(plan.hosts[name], **{field: value})})
    reasons = check(plan, fresh)
    assert done(plan, fresh) or (reasons and all(reason.startswith(f"{name}: ") for reason in reasons))


def test_each_change_is_told_in_words() -> None:
    assert now(release_from="c" * 64) == ["h2: runs release cccccccccccc now, and ran release aaaaaaaaaaaa"]
    assert "shall run release cccccccccccc" in now(release_to="c" * 64)[0]
    assert now(stamp_from="t") == ["h2: its host layer was touched"]
    assert "host layer shall be another one" in now(stamp_to="t")[0]
    assert now(credentials="the cluster's CA is another one") == [
        "h2: its credentials: the cluster's CA is another one"
    ]
    assert "start cluster-ai-engine.service" in now(units=(UnitChange("cluster-ai-engine.service", "start", "x"),))[0]
    down = Plan("lab", (), (), (HostError("doesn't answer", where="h2"),))
    assert check(THEN, of(down, INPUTS)) == ["h2: doesn't answer"]
    assert check(of(down, INPUTS), THEN) == ["h2: answers now, and did not then"]
    assert check(THEN, of(planned(), replace(INPUTS, config_sha256="d" * 64))) == ["cluster.yaml is another one"]
    assert check(THEN, replace(THEN, waves=(Wave(("h2",), "canary"),))) == ["hosts would be switched in another order"]


def test_a_plan_that_was_carried_out_already_is_not_refused() -> None:
    assert now(release_from="b" * 64, units=()) == []


def test_a_plan_of_which_half_was_carried_out_is_refused() -> None:
    other = replace(planned().hosts[0], host="h3")
    both = replace(planned(), hosts=(*planned().hosts, other))
    half = replace(both, hosts=(*planned(release_from="b" * 64, units=()).hosts, other))
    assert check(of(both, INPUTS), of(half, INPUTS)) == [
        "h2: runs release bbbbbbbbbbbb now, and ran release aaaaaaaaaaaa"
    ]


def test_the_refusal_names_every_reason_and_what_to_do(tmp_path: Path) -> None:
    error = StalePlanError(Path("plan.json"), THEN, ["cluster.yaml is another one", "h2: doesn't answer"])
    assert error.exit_code == ExitCode.CHANGES
    assert str(error) == (
        "plan.json: nothing was changed, for since this plan was made (2026-11-24T10:00:00+00:00):\n"
        "  - cluster.yaml is another one\n"
        "  - h2: doesn't answer\n"
        "  -> plan again: cluster-ai plan --out plan.json"
    )


def test_of_hundreds_of_reasons_some_are_told() -> None:
    text = str(StalePlanError(Path("plan.json"), THEN, [f"h{n}: doesn't answer" for n in range(200)]))
    assert "h19: doesn't answer\n  - and 180 more\n" in text
    assert "h20:" not in text


def test_a_file_that_is_no_plan_is_neither_read_nor_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(UsageError, match="no such file"):
        load(path, "lab")
    path.write_text('{"kind": "shopping"}')
    with pytest.raises(UsageError, match="is no plan of cluster-ai"):
        load(path, "lab")
    with pytest.raises(UsageError, match="is there already, and is no plan"):
        write(path, THEN)
    assert path.read_text() == '{"kind": "shopping"}'
    with pytest.raises(UsageError):
        write(tmp_path, THEN)


def test_an_older_plan_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write(path, replace(THEN, made_by="0.0.1"))
    write(path, THEN)
    assert load(path, "lab") == THEN
    assert [it.name for it in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99; this cluster-ai reads format 2"),
        ({"cluster": "other"}, "for the cluster 'other', not for 'lab'"),
        ({"hosts": []}, "damaged"),
        ({"hosts": {"h2": {"current": None}}}, "damaged"),
        ({"waves": [{"hosts": ["h2"], "shape": "round"}]}, "damaged"),
        ({"down": 3}, "damaged"),
    ],
)
def test_a_plan_of_another_kind_is_refused_and_told_why(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(json.loads(dump(THEN)) | change))
    with pytest.raises(UsageError, match=message) as caught:
        load(path, "lab")
    assert caught.value.remedy
