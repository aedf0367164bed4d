"""What Ansible's roles are told, from the configuration alone; and the stamp by which a host says that it is done."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster_ai import layout
from cluster_ai.config.model import Config, Host, Opening, Role, hosts
from cluster_ai.errors import ConfigError, HostError

ROOT = Path(__file__).resolve().parents[2]  # the checkout: playbooks/ and roles/ live beside the package
EVERYWHERE = ("base", "time", "firewall", "node_exporter")  # Ansible roles of every host
BY_ROLE: dict[Role, tuple[str, ...]] = {"head": ("prometheus",), "worker": ("nginx",)}
ROLES: tuple[Role, ...] = ("head", "worker")

_DIRECTORIES = (
    (layout.ROOT, "0755"),
    (layout.PARTS, "0755"),
    (layout.RELEASES, "0755"),
    (layout.LIBEXEC, "0755"),
    (layout.STATE, "0755"),
    (layout.BLOBS, "0755"),
    (layout.INCOMING, "0700"),
    (layout.CREDENTIALS, "0700"),
    (layout.TEXTFILES, "0755"),
)


def require_checkout(root: Path = ROOT) -> None:
    """Raise where playbooks and roles are missing, as in a package installed without its checkout."""
    missing = [name for name in ("playbooks/site.yml", "roles", "ansible.cfg") if not (root / name).exists()]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} of the host layer is missing",
            where=str(root),
            remedy="run cluster-ai from its checkout: git clone it, then pip install -e . there",
        )


def require_supported(host: str, distribution: str) -> None:
    """Raise where a distribution, such as "debian-12", is not one that the roles are made for."""
    known = _values("base", "vars")["base__supported"]
    supported = {
        f"{name.lower()}-{version}": f"{name} {version}" for name, versions in known.items() for version in versions
    }
    if distribution not in supported:
        raise HostError(
            f"{distribution.replace('-', ' ', 1)} is not supported",
            where=host,
            remedy=f"install one of {', '.join(supported.values())} on this host, or take it out of cluster.yaml",
        )


def packages(config: Config, roles: Iterable[Role]) -> tuple[str, ...]:
    """Debian packages that a host with these roles gets: those in the defaults of its Ansible roles."""
    names = [*EVERYWHERE, *(name for role in ROLES if role in set(roles) for name in BY_ROLE[role])]
    if config.monitoring.alerts.told and "head" in roles:
        names.append("alertmanager")
    return tuple(dict.fromkeys(package for name in names for package in default(name, f"{name}_packages")))


def variables(config: Config) -> dict[str, Any]:
    """Inputs of the roles, the same for every host: for the inventory's group `all`."""
    # Without those of role time, which installs nothing where a time service runs already.
    maybe = set(default("time", "time_packages"))
    later = {role: [package for package in packages(config, [role]) if package not in maybe] for role in ROLES}
    return {**_inputs(config), "base_packages_later": later}


def stamp(config: Config, host: Host, distribution: str) -> str:
    """Digest over what the host layer of this host depends on: roles, playbooks, its variables, its distribution."""
    mine = _inputs(config)
    services = [service for service in mine["firewall_services"] if set(service["hosts"]) & host.roles]
    wanted = {service["from"] for service in services}
    mine["firewall_services"] = services
    mine["firewall_sources"] = {name: of for name, of in mine["firewall_sources"].items() if name in wanted}
    told = {"roles": sorted(host.roles), "variables": mine, "distribution": distribution, "code": _code(ROOT)}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def stamps(config: Config, distributions: Mapping[str, str]) -> dict[str, str]:
    """The stamp of each host whose distribution is given. What tells hosts apart is roles and distribution alone."""
    made: dict[tuple[frozenset[Role], str], str] = {}
    found = {}
    for host in hosts(config):
        if host.name in distributions:
            kind = (host.roles, distributions[host.name])
            if kind not in made:
                made[kind] = stamp(config, host, distributions[host.name])
            found[host.name] = made[kind]
    return found


def _inputs(config: Config) -> dict[str, Any]:
    machines = hosts(config)
    return {
        "base_source": config.packages.source,
        "base_mirror": config.packages.mirror or "",
        "base_users": list(layout.USERS),
        "base_gpu_users": ["cluster-ai-engine"],
        "base_directories": [{"path": str(path), "mode": mode} for path, mode in _DIRECTORIES],
        "firewall_services": _services(config),
        "firewall_sources": {
            "head": [config.scheduler.host],
            "cluster": sorted({machine.address for machine in machines}),
        },
        "alertmanager_wanted": config.monitoring.alerts.told,
        "firewall_manage": config.firewall.manage,
        "firewall_extra": [_extra(opening) for opening in config.firewall.allow],
    }


def _extra(opening: Opening) -> dict[str, Any]:
    anyone: dict[str, Any] = {"ports": opening.ports, "protocol": opening.protocol}
    return anyone if opening.source is None else {**anyone, "from": [opening.source]}


def _services(config: Config) -> list[dict[str, Any]]:
    """ARCHITECTURE.md's table of ports, less those at loopback."""

    def service(name: str, ports: int | tuple[int, int], where: list[Role], source: str) -> dict[str, Any]:
        text = str(ports) if isinstance(ports, int) else f"{ports[0]}-{ports[1]}"
        return {"name": name, "ports": text, "hosts": where, "from": source}

    dashboard = [service("dashboard", config.interface.dashboard_port, ["head"], "anyone")]
    open_webui = [service("Open WebUI", config.interface.open_webui_port, ["head"], "anyone")]
    return [
        service("gateway", config.gateway.port, ["head"], "anyone"),
        *(dashboard if config.interface.dashboard else []),
        *(open_webui if config.interface.open_webui else []),
        service("Dask scheduler", config.scheduler.port, ["head"], "cluster"),
        service("renewal of certificates", layout.ISSUER_PORT, ["head"], "cluster"),
        service("engine front", layout.FRONT_PORT, ["worker"], "head"),
        service("Dask worker", layout.DASK_WORKER_PORTS, ["worker"], "cluster"),
        service("Dask nanny", layout.DASK_NANNY_PORTS, ["worker"], "cluster"),
        service("files of releases", layout.PEER_PORT, ["head", "worker"], "cluster"),
        service("node_exporter", layout.NODE_EXPORTER_PORT, ["head", "worker"], "head"),
    ]


def default(role: str, name: str) -> Any:
    """A default of an Ansible role."""
    return _values(role, "defaults")[name]


@functools.cache
def _values(role: str, kind: str) -> Mapping[str, Any]:
    require_checkout()
    values: Mapping[str, Any] = yaml.safe_load((ROOT / "roles" / role / kind / "main.yml").read_text())
    return values


@functools.cache
def _code(root: Path) -> str:
    """Digest of roles and playbooks; what is not run on hosts (READMEs, bytecode) doesn't count."""
    require_checkout(root)
    total = hashlib.sha256()
    files = (path for top in ("playbooks", "roles") for path in sorted((root / top).rglob("*")))
    for path in files:
        if path.is_file() and path.suffix not in {".md", ".pyc"}:
            total.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
