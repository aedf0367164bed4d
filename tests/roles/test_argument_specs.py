"""Roles refuse inputs that are wrong or missing, and take what the configuration gives them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from cluster_ai.provision import host_layer
from tests.unit.provision.test_host_layer import CONFIG

from .plugins import ROOT, role_yaml

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def errors(role: str, **inputs: Any) -> list[str]:
    spec = role_yaml(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    plain = {name: _strip(option) for name, option in spec.items()}
    return list(ArgumentSpecValidator(plain).validate(inputs).error_messages)


def _strip(option: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in option.items() if name != "description"}
    if "options" in kept:
        kept["options"] = {name: _strip(inner) for name, inner in kept["options"].items()}
    return kept


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_an_input_that_the_role_documents_and_every_input_has_a_default(role: str) -> None:
    spec = role_yaml(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(role_yaml(role, "defaults/main.yml")) == set(spec)
    assert all(name.startswith(f"{role}_") for name in spec)


@pytest.mark.parametrize("role", ["base", "firewall"])
def test_what_the_configuration_gives_is_taken(role: str) -> None:
    given = {name: value for name, value in host_layer.variables(CONFIG).items() if name.startswith(f"{role}_")}
    assert errors(role, **given) == []


def test_every_variable_of_the_configuration_is_an_input_of_a_role() -> None:
    inputs = {name for role in ROLES for name in role_yaml(role, "defaults/main.yml")}
    assert set(host_layer.variables(CONFIG)) <= inputs


@pytest.mark.parametrize(
    ("role", "inputs", "said"),
    [
        ("base", {"base_source": "internet"}, "distribution, mirror, bundle"),
        ("base", {"base_roles": ["boss"]}, "head, worker"),
        ("base", {"base_directories": [{"path": "/opt/x"}]}, "mode"),
        ("base", {"base_bundles": 3}, "dict"),
        ("firewall", {"firewall_services": [{"name": "x", "ports": "1", "hosts": ["head"]}]}, "from"),
        ("firewall", {"firewall_services": [{"name": "x", "ports": "1", "hosts": ["moon"], "from": "anyone"}]}, "head"),
        ("firewall", {"firewall_extra": [{"ports": "1", "protocol": "sctp"}]}, "tcp, udp"),
        ("firewall", {"firewall_undo_after": "soon"}, "int"),
        ("nvidia_driver", {"nvidia_driver_state": "absent"}, "present, latest"),
        ("nginx", {"nginx_packages": {"nginx": "1"}}, "list"),
    ],
)
def test_a_wrong_input_is_refused(role: str, inputs: dict[str, Any], said: str) -> None:
    messages = errors(role, **inputs)
    assert messages
    assert said in " ".join(messages)
