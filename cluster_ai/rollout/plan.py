"""What must change, decided purely: what hosts shall be, against what they are."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cluster_ai import layout
from cluster_ai.config.model import Role
from cluster_ai.errors import HostError
from cluster_ai.rollout.manifest import Manifest, differences, units_of
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.strategies import Group, Serving, order, unavailable
from cluster_ai.rollout.waves import Wave
from cluster_ai.tls.validity import validity

# Of credentials, those that units take up while they run, and those that some are started anew for.
LIVE = {f"{layout.IN_TLS}{layout.CA_CERT}": "the cluster's CA", f"{layout.IN_TLS}{layout.HOSTS}": "the list of hosts"}
HANDED = {
    layout.GATEWAY_TOKEN: "the gateway's token",
    layout.ISSUING_CERT: "the issuing CA",
    layout.PUBLIC_CERT: "the certificate for people",
    layout.ALERTS_TOKEN: "the token of the alerts' webhook",
    layout.ALERTS_PASSWORD: "the password of the alerts' mail",
    layout.OIDC_SECRET: "the dashboard's secret at the OpenID provider",
    layout.OPEN_WEBUI_KEY: "Open WebUI's key for the gateway",
    layout.OPEN_WEBUI_SECRET: "what Open WebUI signs its sessions with",
}
HANDED_TO = {
    layout.GATEWAY_TOKEN: (layout.GATEWAY, layout.PROMETHEUS),
    layout.ISSUING_CERT: (layout.ISSUER,),
    layout.PUBLIC_CERT: (layout.GATEWAY, layout.DASHBOARD, layout.OPEN_WEBUI),
    layout.ALERTS_TOKEN: (layout.ALERTMANAGER,),
    layout.ALERTS_PASSWORD: (layout.ALERTMANAGER,),
    layout.OIDC_SECRET: (layout.DASHBOARD, layout.OPEN_WEBUI),
    layout.OPEN_WEBUI_KEY: (layout.GATEWAY, layout.OPEN_WEBUI),
    layout.OPEN_WEBUI_SECRET: (layout.OPEN_WEBUI,),
}


@dataclass(frozen=True, slots=True)
class Transfer:
    name: str
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Inputs:
    files: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a host shall be."""

    host: str
    address: str
    roles: frozenset[Role]
    digest: str
    manifest: bytes
    parts: tuple[Transfer, ...]
    blobs: tuple[Transfer, ...]
    stamp: str  # of the host layer
    sums: Mapping[str, str]  # name of a credential -> SHA-256
    texts: Mapping[str, str] = field(default_factory=dict)  # path -> content of the rendered files, where it matters
    models: tuple[str, ...] = ()
    inputs: Mapping[str, Inputs] = field(default_factory=dict)  # unit -> what of the release it runs from


@dataclass(frozen=True, slots=True)
class Before:
    """The release that a host runs, as far as it is known."""

    manifest: Manifest | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    ours: bool = True  # this machine built it


@dataclass(frozen=True, slots=True)
class Version:
    """Something in a part that has a version, before and after; the same one twice where only its content differs."""

    part: str  # "engine", "lib"
    name: str
    old: str | None  # None: it wasn't there, or nobody says
    new: str | None


@dataclass(frozen=True, slots=True)
class FileChange:
    path: str
    kind: Literal["added", "changed", "removed"]
    diff: str = ""  # unified, where both texts are known


@dataclass(frozen=True, slots=True)
class UnitChange:
    unit: str
    action: Literal["start", "restart", "stop"]
    reason: str
    files: tuple[str, ...] = ()  # of the release, of those that it runs from, that differ
    parts: tuple[str, ...] = ()  # likewise


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What changes on one host. An empty one says that nothing does."""

    host: str
    address: str
    roles: tuple[Role, ...]
    release_from: str | None
    release_to: str
    host_layer: str = ""  # why it is to be converged; empty: it isn't
    credentials: str = ""  # why they are to be renewed, with which units start anew
    certificates: str = ""  # why they are to be renewed, which no unit is disturbed by
    parts: tuple[Transfer, ...] = ()
    blobs: tuple[Transfer, ...] = ()
    files: tuple[FileChange, ...] = ()
    drift: tuple[str, ...] = ()  # files and folders of the release that somebody changed on the host
    units: tuple[UnitChange, ...] = ()
    models_added: tuple[str, ...] = ()
    models_removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()
    stamp_from: str | None = None  # of the host layer
    stamp_to: str = ""

    @property
    def release_changes(self) -> bool:
        """The release layer has something to do here."""
        return self.release_from != self.release_to or bool(self.credentials or self.units or self.blobs or self.drift)

    @property
    def changes(self) -> bool:
        return self.release_changes or bool(self.host_layer or self.certificates)

    @property
    def pushed(self) -> bool:
        """Something is sent there."""
        return self.release_changes or bool(self.certificates)


@dataclass(frozen=True, slots=True)
class Plan:
    cluster: str
    hosts: tuple[HostPlan, ...]
    waves: tuple[Wave, ...]
    errors: tuple[HostError, ...]  # hosts of which nothing is known
    unavailable: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # number of a wave -> models missed
    asleep: tuple[str, ...] = ()  # standby hosts that are left as they are

    @property
    def changes(self) -> bool:
        return any(host.changes for host in self.hosts)


def plan_host(wanted: Wanted, seen: Observed, before: Before, *, now: float, converge: bool = False) -> HostPlan:
    """Compare one host. before: the release that `seen.current` names; a host that runs what it shall needs none."""
    same = seen.current == wanted.digest
    added, removed = ((), ()) if same else _models(wanted, before)
    credentials = _other(HANDED, wanted, seen)
    handed = {unit for name in HANDED if _other({name: ""}, wanted, seen) for unit in HANDED_TO[name]}
    new, old = (None, None) if same else (Manifest.read(wanted.manifest), before.manifest)
    return HostPlan(
        host=wanted.host,
        address=wanted.address,
        roles=tuple(sorted(wanted.roles)),
        release_from=seen.current,
        release_to=wanted.digest,
        host_layer=_host_layer(wanted, seen, converge),
        credentials=credentials,
        certificates=_certificates(wanted, seen, now),
        parts=() if same else tuple(part for part in wanted.parts if part.sha256 not in seen.parts),
        blobs=tuple(blob for blob in wanted.blobs if blob.sha256 not in seen.blobs),
        files=_files(old, new, before.texts, wanted.texts) if old and new else (),
        drift=seen.newer if same else (),
        units=_units(units_of(wanted.manifest), seen, handed, lambda unit: _why(unit, old, new, wanted.inputs)),
        models_added=added,
        models_removed=removed,
        notes=_notes(seen, same, before),
        versions=_versions(old, new, before.texts, wanted.texts) if old and new else (),
        stamp_from=seen.stamp,
        stamp_to=wanted.stamp,
    )


def plan_cluster(
    cluster: str,
    hosts: Iterable[HostPlan],
    errors: Iterable[HostError],
    *,
    head: str,
    groups: Sequence[Group],
    placed: Mapping[str, Iterable[str]],
    asleep: tuple[str, ...] = (),
) -> Plan:
    """groups: how workers change. placed: the workers of each model."""
    plans, failed = tuple(hosts), tuple(errors)
    new = frozenset(host.host for host in plans if host.release_from is None)
    down = frozenset((*(error.where for error in failed), *asleep))
    serving = Serving.of(placed, {host.host: _moves(host, placed) for host in plans}, new=new, down=down)
    changing = [host.host for host in plans if host.release_changes]
    waves = order(changing, head=head, new=new, groups=groups, serving=serving, down=down)
    return Plan(cluster, plans, waves, failed, unavailable(waves, serving), asleep)


def _moves(host: HostPlan, placed: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Models that a host gains and loses. Where it gains all, what it had is not known: it may as well be the same."""
    mine = sum(host.host in workers for workers in placed.values())
    unknown = host.release_from is not None and len(host.models_added) == mine
    return () if unknown else host.models_added, host.models_removed


def _host_layer(wanted: Wanted, seen: Observed, converge: bool) -> str:
    if converge:
        return "asked for"
    if seen.stamp is None:
        return "never converged"
    if seen.stamp.startswith(layout.DRIFTED):
        return seen.stamp.removeprefix(layout.DRIFTED)
    return "" if seen.stamp == wanted.stamp else "roles, variables or distribution changed"


def _certificates(wanted: Wanted, seen: Observed, now: float) -> str:
    if seen.certificate is None:
        return "no certificate yet"
    try:
        if validity(seen.certificate).due(now):
            return "less than a third of the certificate's life is left"
    except ValueError:
        return "the certificate can't be read"
    return _other(LIVE, wanted, seen)


_EMPTY = hashlib.sha256().hexdigest()  # of a file that is there only so that an old one isn't


def _other(names: Mapping[str, str], wanted: Wanted, seen: Observed) -> str:
    """The first of these credentials that differs."""
    for name, called in names.items():
        if name in wanted.sums and seen.sums.get(name, _EMPTY) != wanted.sums[name]:
            return f"{called} is {'another one' if name in seen.sums else 'not there yet'}"
    return ""


def _files(
    old: Manifest, new: Manifest, old_texts: Mapping[str, str], new_texts: Mapping[str, str]
) -> tuple[FileChange, ...]:
    changes = []
    for path, before, after in differences(old, new):
        kind: Literal["added", "changed", "removed"] = (
            "added" if before is None else "removed" if after is None else "changed"
        )
        diff = _diff(path, old_texts.get(path), new_texts.get(path)) if kind == "changed" else ""
        changes.append(FileChange(path, kind, diff))
    return tuple(changes)


def _versions(
    old: Manifest, new: Manifest, old_texts: Mapping[str, str], new_texts: Mapping[str, str]
) -> tuple[Version, ...]:
    found = []
    if "engine" in new.parts and old.parts.get("engine") != new.parts["engine"]:
        found.append(Version("engine", "engine", _engine(old_texts), _engine(new_texts)))
    if old.parts.get("lib") != new.parts.get("lib"):
        before, after = old.packages(), new.packages()
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        found += [Version("lib", name, before.get(name), after.get(name)) for name in names]
    return tuple(found)


def _engine(texts: Mapping[str, str]) -> str | None:
    """The engine's version, as the host's settings say it; releases from before they did have none."""
    try:
        return str(json.loads(texts["etc/host.json"])["engine"] or "") or None
    except (KeyError, TypeError, ValueError):
        return None


def _diff(path: str, old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return ""
    return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="", n=1))


def _units(
    wanted: Mapping[str, str], seen: Observed, handed: Collection[str], why: Callable[[str], UnitChange | None]
) -> tuple[UnitChange, ...]:
    changes: list[UnitChange] = []
    started = layout.triggered(wanted)  # when their time comes: a switch leaves them alone
    for unit in wanted:
        state = seen.units.get(unit)
        if unit in started:
            continue
        if state is None:
            changes.append(UnitChange(unit, "start", "new here"))
        elif not state.up:
            changes.append(UnitChange(unit, "start", f"is {state.active} ({state.sub})"))
        elif change := why(unit):
            changes.append(change)
        elif unit in handed:
            changes.append(UnitChange(unit, "restart", "credentials are renewed"))
    gone = sorted(unit for unit, state in seen.units.items() if unit not in wanted and state.up)
    return (*changes, *(UnitChange(unit, "stop", "not of this host any more") for unit in gone))


def _why(unit: str, old: Manifest | None, new: Manifest | None, inputs: Mapping[str, Inputs]) -> UnitChange | None:
    """Why a unit restarts; None: it need not."""
    if new is None:
        return None
    if old is None:
        return UnitChange(unit, "restart", "what it runs from is not known")
    if old.units.get(unit) == new.units[unit]:
        return None
    it = inputs.get(unit, Inputs((), ()))
    files = tuple(path for path in it.files if old.sha256(path) != new.sha256(path))
    parts = tuple(name for name in it.parts if old.parts.get(name) != new.parts.get(name))
    named = ", ".join((*files, *(f"part {name}" for name in parts)))
    return UnitChange(unit, "restart", f"changed: {named}" if named else "what it runs from changed", files, parts)


def _models(wanted: Wanted, before: Before) -> tuple[tuple[str, ...], tuple[str, ...]]:
    old = set(before.models or ())
    return tuple(m for m in wanted.models if m not in old), tuple(sorted(old.difference(wanted.models)))


def _notes(seen: Observed, same: bool, before: Before) -> tuple[str, ...]:
    if seen.current and not same and not before.ours:
        return ("runs a release that was not built on this machine",)
    return ()
