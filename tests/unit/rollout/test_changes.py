from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai import layout
from cluster_ai.rollout.changes import changes, sentence
from cluster_ai.rollout.plan import FileChange, HostPlan, Transfer, UnitChange, Version


def host(name: str, **what: Any) -> HostPlan:
    return HostPlan(name, name, what.pop("roles", ("worker",)), what.pop("old", "a"), what.pop("new", "b"), **what)


def engine(name: str, old: str | None = "0.17.3", new: str | None = "0.17.4") -> HostPlan:
    restart = UnitChange(layout.ENGINE, "restart", "changed: part engine", parts=("engine",))
    return host(name, units=(restart,), versions=(Version("engine", "engine", old, new),))


def told(*hosts: HostPlan) -> list[str]:
    return [sentence(change) for change in changes(hosts)]


def test_one_change_of_many_hosts_is_one_line() -> None:
    assert told(engine("h2"), engine("h3"), engine("h4")) == [
        "engine 0.17.3 -> 0.17.4: restarts Ollama on 3 hosts (h2, h3, h4)"
    ]


def test_hosts_that_come_from_other_versions_are_told_apart() -> None:
    assert told(engine("h2"), engine("h3", None), engine("h4", "0.17.4")) == [
        "engine 0.17.3 -> 0.17.4: restarts Ollama on h2",
        "engine 0.17.4, from another file: restarts Ollama on h4",
        "engine of unknown version -> 0.17.4: restarts Ollama on h3",
    ]


def test_of_hundreds_of_hosts_some_are_named() -> None:
    (line,) = told(*(engine(f"w{n:03}") for n in range(1, 201)))
    assert line == "engine 0.17.3 -> 0.17.4: restarts Ollama on 200 hosts (w001, w002, w003, w004, ... w200)"


def test_packages_are_named_with_their_versions_and_restart_other_things_on_other_hosts() -> None:
    dask = Version("lib", "dask", "2026.8.0", "2026.9.0")
    more = [Version("lib", name, None, "1") for name in ("x", "y", "z")]
    head = [UnitChange(unit, "restart", "", parts=("lib",)) for unit in (layout.SCHEDULER, layout.GATEWAY)]
    worker = UnitChange(layout.WORKER, "restart", "", parts=("lib",))
    assert told(
        host("h1", units=tuple(head), versions=(dask, *more)), host("h2", units=(worker,), versions=(dask,))
    ) == [
        "Python packages (dask 2026.8.0 -> 2026.9.0, x none -> 1, y none -> 1 and 1 more): "
        "restarts scheduler and gateway on h1; restarts Dask worker on h2"
    ]


def test_configuration_is_told_by_what_it_configures() -> None:
    unit = f"units/{layout.ENGINE}"
    restarts = (
        UnitChange(layout.ENGINE, "restart", "", (unit,)),
        UnitChange(layout.FRONT, "restart", "", ("etc/nginx.conf",)),
    )
    files = tuple(FileChange(path, "changed") for path in (unit, "etc/nginx.conf", "etc/host.json", "etc/new.json"))
    assert told(host("h2", units=restarts, files=files)) == [
        "configuration of Ollama: restarts Ollama on h2",
        "configuration of TLS front: restarts TLS front on h2",
        "configuration of etc/new.json: restarts nothing, on h2",
        "configuration of the host's own checks: restarts nothing, on h2",
    ]


def test_models_are_told_with_the_hosts_that_they_come_to_and_leave() -> None:
    assert told(host("h2", models_added=("m",)), host("h3", models_removed=("m",)))[-1] == "model m: + on h2, - on h3"


def test_a_first_release_starts_all_of_it() -> None:
    units = tuple(UnitChange(unit, "start", "new here") for unit in (layout.ENGINE, layout.WORKER, layout.TARGET))
    new = host("h2", old=None, units=units, host_layer="never converged", credentials="no certificate yet")
    assert told(new) == [
        "host layer (never converged): runs Ansible on h2",
        "first release: starts Ollama and Dask worker on h2",
    ]


def test_what_is_wrong_on_a_host_is_told_with_what_is_done_about_it() -> None:
    down = UnitChange(layout.GATEWAY, "start", "is failed (failed)")
    gone = UnitChange(layout.SCHEDULER, "stop", "not of this host any more")
    same = {"old": "b", "new": "b"}
    assert told(
        host("h1", units=(down, gone), **same),
        host("h2", drift=("etc/x",), **same),
        host("h3", blobs=(Transfer("blob", "b", 1),), **same),
    ) == [
        "gateway (is failed (failed)): starts it on h1",
        "scheduler (not of this host any more): stops it on h1",
        "what others changed (etc/x): repairs it on h2",
        "model files that are missing: sent to h3",
    ]


def test_credentials_name_all_that_restarts_with_them() -> None:
    units = tuple(UnitChange(unit, "restart", "credentials are renewed") for unit in (layout.FRONT, layout.TARGET))
    assert told(host("h2", old="b", credentials="no certificate yet", units=units)) == [
        "keys (no certificate yet): restarts TLS front on h2"
    ]
    assert told(host("h2", old="b", certificates="no certificate yet")) == [
        "new certificate (no certificate yet): renews it on h2"
    ]


units = st.lists(
    st.builds(
        UnitChange,
        st.sampled_from([layout.ENGINE, layout.TARGET, "cluster-ai-x.timer"]),
        st.sampled_from(["start", "restart", "stop"]),
        st.just("why"),
        st.lists(st.sampled_from(["etc/x", "units/cluster-ai-engine.service", "bin/launch"]), unique=True).map(tuple),
        st.lists(st.sampled_from(["app", "lib", "engine", "host"]), unique=True).map(tuple),
    ),
    max_size=3,
).map(tuple)
plans = st.builds(
    HostPlan,
    st.sampled_from(["h1", "h2"]),
    st.just("10.0.0.1"),
    st.just(("worker",)),
    st.sampled_from([None, "a", "b"]),
    st.just("b"),
    host_layer=st.sampled_from(["", "why"]),
    credentials=st.sampled_from(["", "why"]),
    blobs=st.sampled_from([(), (Transfer("b", "b", 1),)]),
    drift=st.sampled_from([(), ("etc/x",)]),
    units=units,
    models_added=st.sampled_from([(), ("m",)]),
)


@given(st.lists(plans, max_size=3))
def test_changes_are_told_exactly_where_hosts_change_and_every_line_is_a_sentence(hosts: list[HostPlan]) -> None:
    found = changes(hosts)
    assert {name for change in found for name in change.hosts} == {
        host.host for host in hosts if host.changes or host.models_added
    }
    assert all(set(effect.hosts) <= set(change.hosts) for change in found for effect in change.effects)
    lines = [sentence(change) for change in found]
    assert len(set(lines)) == len(lines)
    assert not any("  " in line or line.endswith((":", " ")) for line in lines)
