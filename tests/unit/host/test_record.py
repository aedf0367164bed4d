from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster_ai import layout
from cluster_ai.host.faults import KINDS, Fault
from cluster_ai.host.record import Places, record
from cluster_ai.host.verify import Found
from cluster_ai.security import ca

CLEAN = Found("d" * 64, (), 1_700_000_000.0)
DRIFTED = Found(
    "d" * 64,
    (
        Fault("files", "etc/a", "changed", "release"),
        Fault("overrides", "/etc/x.d/y.conf", "changes what x runs", "release"),
        Fault("ports", "port 80", "taken", "hand"),
        Fault("packages", "nginx", "is not installed", "host layer"),
    ),
    1_700_000_000.0,
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "stamp").write_text("s" * 64 + "\n")
    names = ("verify.json", "drift", "stamp", "metrics/cluster-ai.prom", "tls", "credentials")
    return Places(*(tmp_path / name for name in names))


def samples(text: str) -> dict[str, float]:
    return {
        sample.labels.get("kind", sample.name): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_is_told_of_every_kind_also_of_those_without_drift_and_when_it_was_looked(places: Places) -> None:
    record(DRIFTED, places)
    found = samples(places.metrics.read_text())
    assert found.pop("cluster_drift_checked_timestamp_seconds") == 1_700_000_000
    assert found == {**dict.fromkeys(KINDS, 0), "files": 1, "overrides": 1, "ports": 1, "packages": 1}


def test_drift_is_left_for_prometheus_for_people_and_for_the_next_apply(places: Places) -> None:
    record(DRIFTED, places)
    assert samples(places.metrics.read_text())["files"] == 1
    assert json.loads(places.result.read_text())["drift"]
    assert places.repairs.read_text() == "etc/a\n/etc/x.d/y.conf\n"  # what a person must end is not in it
    assert places.stamp.read_text() == f"{layout.DRIFTED}nginx: is not installed\n"
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in (places.metrics, places.result, places.repairs))


def test_a_host_that_is_right_again_has_nothing_left_to_repair_and_keeps_its_stamp(places: Places) -> None:
    places.repairs.write_text("etc/a\n")
    record(CLEAN, places)
    assert not places.repairs.exists()
    assert places.stamp.read_text() == "s" * 64 + "\n"
    assert not json.loads(places.result.read_text())["drift"]
    assert sorted(path.name for path in places.metrics.parent.iterdir()) == ["cluster-ai.prom"]


def test_a_host_without_node_exporter_and_without_a_stamp_is_noted_all_the_same(tmp_path: Path) -> None:
    names = ("verify.json", "drift", "stamp", "absent/cluster-ai.prom", "tls", "credentials")
    places = Places(*(tmp_path / name for name in names))
    record(DRIFTED, places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drift", "verify.json"]


def test_prometheus_is_told_when_each_certificate_ends(places: Places) -> None:
    issuing = ca.delegate(ca.create("test"), "test")
    pair = ca.issue(issuing, "h1", ["h1"], "head")
    places.tls.mkdir()
    places.credentials.mkdir()
    (places.tls / layout.CERT).write_bytes(pair.cert)  # with the CA's behind it
    (places.credentials / layout.ISSUING_CERT).write_bytes(issuing.cert)
    (places.credentials / layout.PUBLIC_CERT).write_bytes(b"")  # none was given
    record(CLEAN, places)
    found = {
        sample.labels["certificate"]: sample.value
        for family in text_string_to_metric_families(places.metrics.read_text())
        for sample in family.samples
        if "certificate" in sample.labels
    }
    assert found == {"host": ca.expiry(pair.cert).timestamp(), "issuing": ca.expiry(issuing.cert).timestamp()}
