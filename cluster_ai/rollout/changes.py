"""A plan told by what changes, over all hosts: "engine 0.17.3 -> 0.17.4: restarts Ollama on 3 hosts". Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from cluster_ai import layout
from cluster_ai.rollout.plan import HostPlan, UnitChange, Version

Kind = Literal[  # in the order in which they are told
    "host layer", "release", "engine", "packages", "code", "configuration", "credentials", "unit", "repair", "models"
]
Action = Literal["starts", "restarts", "stops", "sends", "renews", "repairs", "runs", "adds", "removes"]

# How people call what runs; units that aren't here are called by their own names.
COMPONENTS: Mapping[str, str] = {
    layout.SCHEDULER: "scheduler",
    layout.TASKS: "task manager",
    layout.ISSUER: "issuer of certificates",
    layout.GATEWAY: "gateway",
    layout.GATEWAY_SOCKET: "the gateway's socket",
    layout.GATEWAY_HOLDER: "the gateway's socket",
    layout.PROMETHEUS: "Prometheus",
    layout.ALERTMANAGER: "Alertmanager",
    layout.DASHBOARD: "dashboard",
    layout.OPEN_WEBUI: "Open WebUI",
    layout.ENGINE: "Ollama",
    layout.FRONT: "TLS front",
    layout.WORKER: "Dask worker",
    layout.VERIFY_TIMER: "the hourly check",
}
_OF_FILES = {
    "etc/gateway.json": COMPONENTS[layout.GATEWAY],
    "etc/tasks.json": COMPONENTS[layout.TASKS],
    "etc/prometheus.yml": COMPONENTS[layout.PROMETHEUS],
    "etc/alertmanager.yml": COMPONENTS[layout.ALERTMANAGER],
    "etc/dashboard.json": COMPONENTS[layout.DASHBOARD],
    "etc/open-webui.json": COMPONENTS[layout.OPEN_WEBUI],
    "etc/nginx.conf": COMPONENTS[layout.FRONT],
    "etc/worker.json": COMPONENTS[layout.WORKER],
    "etc/host.json": "the host's own checks",
}
_ACTIONS: Mapping[str, Action] = {"start": "starts", "restart": "restarts", "stop": "stops"}
MANY = 3  # packages that are named
_ORDER: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does, and where. subjects: components, or "" where the change says it all."""

    action: Action
    subjects: tuple[str, ...]
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that becomes another. No effects: nothing notices it."""

    kind: Kind
    what: str
    hosts: tuple[str, ...]
    effects: tuple[Effect, ...]


@dataclass
class _Found:
    """A change while hosts are gone through."""

    versions: dict[Version, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    effects: dict[tuple[Action, str], dict[str, None]] = field(default_factory=dict)  # on which hosts


def component(unit: str) -> str:
    return COMPONENTS.get(unit) or unit.removeprefix("cluster-ai-").removesuffix(".service").removesuffix("@")


def changes(hosts: Iterable[HostPlan]) -> tuple[Change, ...]:
    """What changes, sorted from the machine up to the models. Empty exactly when no host changes."""
    found: dict[tuple[Kind, str], _Found] = {}
    for host in hosts:
        for kind, what, effects, versions in _of(host):
            it = found.setdefault((kind, what), _Found())
            it.hosts[host.host] = None
            it.versions |= dict.fromkeys(versions)
            for effect in effects:
                it.effects.setdefault(effect, {})[host.host] = None
    ordered = sorted(found.items(), key=lambda item: (_ORDER.index(item[0][0]), item[0][1]))
    return tuple(
        _models_together(
            Change(kind, what + _packages(tuple(it.versions)), tuple(it.hosts), _merged(it.effects))
            for (kind, what), it in ordered
        )
    )


def _models_together(ordered: Iterable[Change]) -> Iterator[Change]:
    """Models that come to and leave the same hosts, as one change."""
    models: dict[tuple[Effect, ...], list[Change]] = {}
    for change in ordered:
        if change.kind == "models" and change.effects[0].action != "sends":
            models.setdefault(change.effects, []).append(change)
        else:
            yield change
    for same in models.values():
        what = f"model{'s' if len(same) > 1 else ''} {', '.join(change.what for change in same)}"
        yield replace(same[0], what=what)


_One = tuple[Kind, str, Sequence[tuple[Action, str]], Sequence[Version]]  # kind, what, effects, versions of packages


def _of(host: HostPlan) -> Iterator[_One]:
    """What changes on one host."""
    if host.host_layer:
        yield "host layer", f"host layer ({host.host_layer})", [("runs", "Ansible")], ()
    if host.release_from is None:
        yield "release", "first release", _effects(host.units), ()
    else:
        found = [*_of_release(host)]
        if host.release_from != host.release_to and not found:
            found = [("release", "a release that differs in nothing that runs", (), ())]
        yield from found
        if host.credentials:
            restarts = _effects(unit for unit in host.units if unit.action == "restart")
            yield "credentials", f"keys ({host.credentials})", restarts, ()
        if host.certificates:
            yield "credentials", f"new certificate ({host.certificates})", [("renews", "")], ()
        if host.drift:
            yield "repair", f"what others changed ({', '.join(host.drift)})", [("repairs", "")], ()
    for model in host.models_added:
        yield "models", model, [("adds", "")], ()
    for model in host.models_removed:
        yield "models", model, [("removes", "")], ()
    if host.blobs and not host.models_added:
        yield "models", "model files that are missing", [("sends", "")], ()


def _of_release(host: HostPlan) -> Iterator[_One]:
    caused = [unit for unit in host.units if unit.files or unit.parts]
    parts = dict.fromkeys(part for unit in caused for part in unit.parts)
    parts |= dict.fromkeys(version.part for version in host.versions)
    if any(file.path.startswith("app/") for file in host.files):
        parts |= {"app": None}
    for part in parts:
        effects = _effects(unit for unit in caused if part in unit.parts)
        versions = [version for version in host.versions if version.part == part]
        if part == "engine":
            yield "engine", "".join(["engine", *map(_engine, versions)]), effects, ()
        elif part == "lib":
            yield "packages", "Python packages", effects, versions
        elif part == "app":
            yield "code", "Cluster AI's own code", effects, ()
        else:
            yield "release", f"part {part}", effects, ()
    files = {file.path: None for file in host.files if file.path.startswith(("etc/", "units/", "bin/"))}
    files |= dict.fromkeys(path for unit in caused for path in unit.files)
    for path in files:
        yield "configuration", _configured(path), _effects(unit for unit in caused if path in unit.files), ()
    for unit in host.units:
        if unit not in caused and not (host.credentials and unit.action == "restart"):
            yield "unit", f"{component(unit.unit)} ({unit.reason})", [(_ACTIONS[unit.action], "")], ()


def _effects(units: Iterable[UnitChange]) -> list[tuple[Action, str]]:
    """The target is no program: its start is none of anything."""
    return [(_ACTIONS[unit.action], component(unit.unit)) for unit in units if unit.unit != layout.TARGET]


def _configured(path: str) -> str:
    if path == "bin/launch":
        return "how programs are started"
    if path == f"units/{layout.TARGET}":
        return "which units belong to the cluster"
    unit = path.removeprefix("units/")
    return f"configuration of {_OF_FILES.get(path) or (component(unit) if unit != path else path)}"


def _packages(versions: Sequence[Version]) -> str:
    named = [f"{it.name} {it.old or 'none'} -> {it.new or 'none'}" for it in versions[:MANY]]
    rest = len(versions) - len(named)
    return f" ({', '.join(named)}{f' and {rest} more' if rest > 0 else ''})" if named else ""


def _engine(version: Version) -> str:
    if version.old == version.new:
        return f" {version.new}, from another file" if version.new else ", another one"
    return f" {version.old or 'of unknown version'} -> {version.new or 'unknown version'}"


def _merged(effects: Mapping[tuple[Action, str], Mapping[str, None]]) -> tuple[Effect, ...]:
    """Effects that are the same on the same hosts, as one."""
    found: dict[tuple[Action, tuple[str, ...]], list[str]] = {}
    for (action, subject), hosts in effects.items():
        found.setdefault((action, tuple(hosts)), []).append(subject)
    return tuple(Effect(action, tuple(subjects), hosts) for (action, hosts), subjects in found.items())


def sentence(change: Change) -> str:
    """A line for people."""
    if change.kind == "models":
        signs: Mapping[Action, str] = {"adds": "+ on ", "removes": "- on ", "sends": "sent to "}
        return f"{change.what}: " + ", ".join(signs[it.action] + listed(it.hosts) for it in change.effects)
    if not change.effects:
        return f"{change.what}: restarts nothing, on {_where(change.hosts)}"
    return f"{change.what}: " + "; ".join(
        f"{it.action} {_and([subject for subject in it.subjects if subject] or ['it'])} on {_where(it.hosts)}"
        for it in change.effects
    )


def _where(hosts: Sequence[str]) -> str:
    return hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts ({listed(hosts)})"


def listed(hosts: Sequence[str], few: int = 6) -> str:
    """Their names, or of many some."""
    return ", ".join(hosts) if len(hosts) <= few else f"{', '.join(hosts[: few - 2])}, ... {hosts[-1]}"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
