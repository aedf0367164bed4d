from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from cluster_ai.config.keys import Rules
from cluster_ai.config.reference import json_schema, markdown
from cluster_ai.config.schema import SCHEMA
from tests.unit.config.test_load import ROOT, SEED

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_committed_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == markdown(), "run: make docs"


def test_the_committed_json_schema_is_up_to_date() -> None:
    assert json.loads((ROOT / "docs/cluster.schema.json").read_text()) == json_schema(), "run: make docs"


def keys(schema: Rules) -> list[str]:
    found = []
    for key, rules in schema.items():
        inner = rules.get("schema") or rules.get("valuesrules", {}).get("schema", {})
        found += [key, *keys(inner if rules.get("type") == "dict" else inner.get("schema", {}))]
    return found


def test_the_reference_has_every_key() -> None:
    page = markdown()
    assert [key for key in keys(SCHEMA) if f"| `{key}` |" not in page] == []


def test_the_annotated_example_shows_every_key_but_the_options_of_models() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    options = SCHEMA["cluster"]["schema"]["models"]["schema"]["schema"]["options"]["schema"]
    assert [key for key in keys(SCHEMA) if f"{key}:" not in text and key not in options] == []


def test_the_json_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("text", [SEED, (ROOT / "cluster.yaml").read_text()], ids=["seed", "example"])
def test_the_json_schema_accepts_what_is_valid(text: str) -> None:
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'1.0'", "1.0"),
        ("port: 8786", "prot: 8786"),
        ("port: 8786", "port: 87860"),
        ("'32GB'", "32"),
        ("'32GB'", "'32XB'"),
        ("replicas: 2", "replicas: 0"),
        ("replicas: 2", "replicas: some"),
        ("cpu: 16,", ""),
        ("{gpu_memory: '8GB'}", "{gpu_memory: '8GB', memory: '8GB'}"),
        ("'llama2:13b'", "'a:b:c'"),
        ("  workers:\n", "  workers: []\n  x:\n"),
    ],
)
def test_the_json_schema_refuses_typical_errors(old: str, new: str) -> None:
    assert old in SEED
    data: Any = yaml.safe_load(SEED.replace(old, new))
    assert not VALIDATOR.is_valid(data)
