"""Imports point one way, as ARCHITECTURE.md draws them; what runs on hosts needs only what a release carries."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cluster_ai"

# Which packages of ours a package may import, besides errors, layout, runtime and itself.
MAY_IMPORT: dict[str, set[str]] = {
    "batch": set(),
    "client": set(),
    "config": set(),
    "settings": set(),
    "audit": set(),
    "metrics": set(),
    "security": {"config"},
    "placement": {"config", "engine"},
    "inventory": {"config", "placement", "provision"},
    "release": {"config", "placement", "settings", "metrics"},
    "deploys": set(),
    "provision": {"config", "inventory", "deploys"},
    "rollout": {
        "audit",
        "config",
        "placement",
        "release",
        "provision",
        "inventory",
        "security",
        "settings",
        "deploys",
        "metrics",
    },
    "bench": {"config", "engine", "provision"},
    "bugreport": {"provision", "security"},
    "report": {"bench", "metrics", "rollout"},
    "discovery": {"config", "inventory", "provision", "rollout", "security"},
    "host": {"settings", "engine", "metrics", "deploys", "security"},
    "engine": {"settings"},
    "cluster": {"settings", "engine", "metrics"},
    "scaling": set(),
    "gateway": {"settings", "cluster", "engine", "metrics", "audit", "placement", "scaling"},
    "tasks": {"settings", "engine", "cluster"},
    "openwebui": {"settings"},
    "local": {"config", "placement", "settings", "security", "engine", "metrics"},
}
ANYWHERE = ("addresses", "errors", "landing", "layout", "listening", "runtime", "sizes", "tls")
ON_HOSTS = (
    "addresses",
    *(
        "audit",
        "host",
        "gateway",
        "cluster",
        "placement",
        "scaling",
        "tasks",
        "settings",
        "sizes",
        "layout",
        "errors",
        "metrics",
        "openwebui",
        "listening",
    ),
    "tls",
)


def modules(package: str) -> Iterator[Path]:
    path = PACKAGE / package
    yield from path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, relative ones resolved; `if TYPE_CHECKING` included."""
    base = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = ".".join(base[: len(base) - node.level]) + "." if node.level else ""
            module = prefix + (node.module or "")
            from_ours = module.strip(".") == "cluster_ai"  # then the names are modules
            yield from (f"cluster_ai.{alias.name}" for alias in node.names) if from_ours else (module,)


def ours(path: Path) -> set[str]:
    found = (re.match(r"cluster_ai\.(\w+)", name) for name in imports(path))
    return {match.group(1) for match in found if match} - {"__version__"}


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package, *ANYWHERE}
    wrong = {str(path.relative_to(ROOT)): ours(path) - allowed for path in modules(package) if ours(path) - allowed}
    assert not wrong


def test_every_package_has_its_place_in_the_order() -> None:
    packages = {p.name if p.is_dir() else p.stem for p in PACKAGE.iterdir() if not p.name.startswith("_")}
    assert packages - {"cli", *ANYWHERE} <= set(MAY_IMPORT)


def test_the_python_client_needs_nothing_of_the_rest() -> None:
    assert not {name for path in modules("client") for name in ours(path)} - {"client", "landing"}
    assert not ours(PACKAGE / "landing.py")


def test_nothing_imports_the_cli_or_the_dashboard() -> None:
    for path in PACKAGE.rglob("*.py"):
        if "cli" not in path.relative_to(PACKAGE).parts and path.name != "__main__.py":
            assert "cli" not in ours(path), path
        assert not [name for name in imports(path) if name.split(".")[0] == "dashboard"], path


def test_the_dashboard_knows_only_settings_errors_and_how_a_configuration_is_checked_of_ours() -> None:
    for path in (ROOT / "dashboard").rglob("*.py"):
        names = {m.group(1) for m in (re.match(r"cluster_ai\.(\w+)", n) for n in imports(path)) if m}
        assert names <= {"config", "errors", "layout", "listening", "placement", "settings", "tls"}, path


@pytest.mark.parametrize("package", ON_HOSTS)
def test_what_runs_on_hosts_needs_no_package_of_the_controller(package: str) -> None:
    controller_only = {"ansible", "ansible_runner", "cerberus", "pyinfra", "rich", "ruamel", "typer", "yaml"}
    for path in modules(package):
        assert not {name.split(".")[0] for name in imports(path)} & controller_only, path
