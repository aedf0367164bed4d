"""Prometheus' own tool reads the rules, and runs tests/rules/alerts.yml over them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_ai.metrics.alerts import ALERTS, RECORDINGS
from cluster_ai.metrics.names import HOST_METRICS, METRICS
from cluster_ai.metrics.rules import page, rules

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "rules" / "alerts.yml"
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's prometheus")


def cases() -> list[dict[str, Any]]:
    told = yaml.safe_load(CASES.read_text())["tests"]
    return [it for case in told for it in case["alert_rule_test"]]


def run(*words: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@promtool
def test_prometheus_takes_the_rules_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules())
    assert f"{len(ALERTS) + len(RECORDINGS)} rules found" in run("check", "rules", tmp_path / "rules.yml")


@promtool
def test_every_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    bare = json.loads(rules())
    for group in bare["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)  # promtool compares them, too, and the words are not what is tested
    (tmp_path / "rules.yml").write_text(json.dumps(bare))
    shutil.copy(CASES, tmp_path)
    run("test", "rules", tmp_path / CASES.name)


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert {it["alertname"] for it in cases() if it["exp_alerts"]} == {alert.name for alert in ALERTS}


def unknown(expr: str) -> set[str]:
    """Series that it asks for, and that nobody makes."""
    known = {"up", *(metric.name for metric in (*METRICS, *HOST_METRICS)), *(it.name for it in RECORDINGS)}
    functions = {"histogram_quantile", "avg_over_time", "max_over_time"}
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expr)
    asked = {w.removesuffix("_bucket") for w in re.findall(r"[a-z][\w:]*[_:][\w:]*", bare)}
    return {w for w in asked - functions if not w.startswith("node_")} - known


def test_the_alerts_ask_for_series_that_there_are() -> None:
    for it in (*ALERTS, *RECORDINGS):
        assert not unknown(it.expr), it.name


def test_the_page_in_docs_is_up_to_date_and_has_the_section_that_each_alert_leads_to() -> None:
    told = (ROOT / "docs" / "alerts.md").read_text()
    assert told == page()
    headings = {f"docs/alerts.md#{line[3:].lower()}" for line in told.splitlines() if line.startswith("## ")}
    headings.remove("docs/alerts.md#who is told")
    ruled = [rule for group in json.loads(rules())["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["annotations"]["runbook"] for rule in ruled} == headings
