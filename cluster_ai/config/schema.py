"""The one description of cluster.yaml, as cerberus rules: checks, defaults, reference and JSON Schema all come from it.

Its sections stand in sections/, its ways of writing a value in forms.py.
"""

from __future__ import annotations

from cluster_ai.config.forms import FORMS
from cluster_ai.config.keys import Rules, key
from cluster_ai.config.sections.machines import FIREWALL, PACKAGES, SSH, WORKER
from cluster_ai.config.sections.models import ENGINE, MODEL
from cluster_ai.config.sections.rollout import ROLLOUT
from cluster_ai.config.sections.scaling import SCALING
from cluster_ai.config.sections.security import SECURITY
from cluster_ai.config.sections.services import GATEWAY, INTERFACE, MONITORING, SCHEDULER, TASKS

CLUSTER: Rules = {
    "name": key("The cluster's name; stands in its CA's certificate and on the dashboard.", form="name", required=True),
    "scheduler": SCHEDULER,
    "workers": key(
        "The machines that run models.",
        type="list",
        required=True,
        minlength=1,
        schema={"type": "dict", "schema": WORKER, "meta": {"doc": "A machine."}},
    ),
    "models": key(
        "The models that the cluster serves.",
        type="list",
        default=[],
        schema={"type": "dict", "schema": MODEL, "meta": {"doc": "A model."}},
    ),
    "ssh": SSH,
    "engine": ENGINE,
    "gateway": GATEWAY,
    "rollout": ROLLOUT,
    "tasks": TASKS,
    "scaling": SCALING,
    "monitoring": MONITORING,
    "interface": INTERFACE,
    "packages": PACKAGES,
    "firewall": FIREWALL,
    "security": SECURITY,
}

SCHEMA: Rules = {
    "version": key("Version of this format.", type="string", allowed=["1.0"], required=True),
    "cluster": key("The cluster.", type="dict", required=True, schema=CLUSTER),
}


def rules_at(path: tuple[str | int, ...]) -> Rules:
    """The rules of the key at a path, such as ("cluster", "workers", 0, "host"). Empty where the schema knows none."""
    rules: Rules = {"type": "dict", "schema": SCHEMA}
    for part in path:
        schema = rules.get("schema", {})
        if isinstance(part, int):
            rules = schema
        elif rules.get("type") == "dict" and part in schema:
            rules = schema[part]
        else:
            rules = rules.get("valuesrules", {})
    return rules


def accepts(rules: Rules) -> str:
    """What a key may hold, for people."""
    if "form" in rules:
        return FORMS[rules["form"]].accepts
    if "allowed" in rules:
        return (
            "one of " + ", ".join(repr(value) for value in rules["allowed"])
            if len(rules["allowed"]) > 1
            else repr(rules["allowed"][0])
        )
    words = {
        "string": "text",
        "boolean": "true or false",
        "integer": "a whole number",
        "number": "a number",
        "list": "a list",
        "dict": "a mapping",
    }[rules["type"]]
    if rules["type"] == "dict" and "schema" in rules:
        return "a mapping with the keys " + ", ".join(rules["schema"])
    if rules["type"] == "list" and rules.get("minlength"):
        return f"a list of at least {rules['minlength']}"
    if "min" in rules:
        return words + (f" from {rules['min']} to {rules['max']}" if "max" in rules else f" from {rules['min']} on")
    return words
