"""A plan in a file, so that what was looked at is what is done: `plan --out FILE`, then `apply FILE`.

The file says what the plan was made of: the configuration, what each host was and shall be, what was to be done there.
`apply` makes the plan anew, and compares: anything that differs is a reason not to begin. There is no secret in it.

    saved = load(path, config.name)
    found = survey.take(scope limited to saved.limit, ...)
    reasons = check(saved, of(found.plan, Inputs.of(config, saved.limit)))
    if reasons: raise StalePlanError(path, saved, reasons)
    then found is what to carry out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster_ai import __version__
from cluster_ai.config.model import Config
from cluster_ai.config.override import Override
from cluster_ai.errors import ClusterAIError, ExitCode, UsageError
from cluster_ai.release.store import canonical, write_atomically
from cluster_ai.rollout.plan import HostPlan, Plan
from cluster_ai.rollout.waves import Wave

KIND, FORMAT = "cluster-ai plan", 2
MOST = 20  # reasons that are told one by one
AGAIN = "plan again: cluster-ai plan --out {path}"


class StalePlanError(ClusterAIError):
    """The world is not that of the plan any more. Nothing was changed."""

    exit_code = ExitCode.CHANGES

    def __init__(self, path: Path, saved: Saved, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        listed = "".join(f"\n  - {reason}" for reason in self.reasons[:MOST])
        if len(self.reasons) > MOST:
            listed += f"\n  - and {len(self.reasons) - MOST} more"
        super().__init__(
            f"nothing was changed, for since this plan was made ({saved.made_at}):{listed}",
            where=str(path),
            remedy=AGAIN.format(path=path),
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a plan is made of besides the hosts."""

    config_sha256: str  # of cluster.yaml
    limit: tuple[str, ...]
    override: Override | None  # of cluster.yaml's rollout
    made_at: str  # UTC, ISO 8601
    made_by: str  # version of cluster-ai

    @classmethod
    def of(cls, config: Config, limit: Sequence[str] = (), override: Override | None = None) -> Inputs:
        sha256 = hashlib.sha256(config.path.read_bytes()).hexdigest()
        return cls(sha256, tuple(limit), override, datetime.now(UTC).isoformat(timespec="seconds"), __version__)


@dataclass(frozen=True, slots=True)
class SavedHost:
    current: str | None  # release that it runs
    wanted: str
    stamp: str | None  # of the host layer
    stamp_wanted: str
    changes: bool
    host_layer: str  # why it is to be converged
    credentials: str  # why they are to be renewed
    certificates: str  # likewise
    drift: tuple[str, ...]
    units: Mapping[str, str]  # unit -> start, restart, stop


@dataclass(frozen=True, slots=True)
class Saved:
    """A plan, as far as it must be the same when it is carried out."""

    cluster: str
    config_sha256: str
    limit: tuple[str, ...]
    override: Override | None
    made_at: str
    made_by: str
    hosts: Mapping[str, SavedHost]
    waves: tuple[Wave, ...]
    down: Mapping[str, str]  # host that could not be asked -> what was wrong


def of(plan: Plan, inputs: Inputs) -> Saved:
    return Saved(
        cluster=plan.cluster,
        config_sha256=inputs.config_sha256,
        limit=inputs.limit,
        override=inputs.override,
        made_at=inputs.made_at,
        made_by=inputs.made_by,
        hosts={host.host: _host(host) for host in plan.hosts},
        waves=plan.waves,
        down={error.where: error.what for error in plan.errors},
    )


def _host(host: HostPlan) -> SavedHost:
    return SavedHost(
        current=host.release_from,
        wanted=host.release_to,
        stamp=host.stamp_from,
        stamp_wanted=host.stamp_to,
        changes=host.changes,
        host_layer=host.host_layer,
        credentials=host.credentials,
        certificates=host.certificates,
        drift=host.drift,
        units={change.unit: change.action for change in host.units},
    )


def dump(saved: Saved) -> bytes:
    """Canonical JSON: the same plan is the same bytes."""
    return canonical({"kind": KIND, "format": FORMAT, **asdict(saved)}) + b"\n"


def must_be_free(path: Path) -> None:
    """Raise where something is that isn't a plan: it is left alone."""
    if path.exists() and _read(path) is None:
        raise UsageError("is there already, and is no plan", where=str(path), remedy="name another file, or remove it")


def write(path: Path, saved: Saved) -> None:
    """Put it there at once and whole, in the place of an older plan or of nothing."""
    must_be_free(path)
    try:
        write_atomically(path, dump(saved))
    except OSError as error:
        raise UsageError(f"can't be written: {error.strerror}", where=str(path)) from error


def load(path: Path, cluster: str) -> Saved:
    """Read a plan for this cluster."""
    data = _read(path)
    if data is None:
        what = "is no plan of cluster-ai" if path.exists() else "there is no such file"
        raise UsageError(what, where=str(path), remedy=AGAIN.format(path=path).replace("plan again", "make one"))
    if data.get("format") != FORMAT:
        what = f"is a plan of format {data.get('format')}; this cluster-ai reads format {FORMAT}"
        raise UsageError(what, where=str(path), remedy=AGAIN.format(path=path))
    if data.get("cluster") != cluster:
        what = f"is a plan for the cluster {data.get('cluster')!r}, not for {cluster!r}"
        raise UsageError(what, where=str(path), remedy="name that cluster's file: --config FILE")
    try:
        return _saved(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("is a damaged plan", where=str(path), remedy=AGAIN.format(path=path)) from error


def _read(path: Path) -> dict[str, Any] | None:
    """None: it is no plan, of whatever format."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("kind") == KIND else None


def _saved(data: Mapping[str, Any]) -> Saved:
    hosts = {
        name: SavedHost(**{**host, "drift": tuple(host["drift"]), "units": dict(host["units"])})
        for name, host in data["hosts"].items()
    }
    return Saved(
        cluster=data["cluster"],
        config_sha256=data["config_sha256"],
        limit=tuple(data["limit"]),
        override=Override(**data["override"]) if data["override"] else None,
        made_at=data["made_at"],
        made_by=data["made_by"],
        hosts=hosts,
        waves=tuple(Wave(**{**wave, "hosts": tuple(wave["hosts"])}) for wave in data["waves"]),
        down=dict(data["down"]),
    )


def check(saved: Saved, fresh: Saved) -> list[str]:
    """Why the plan may not be carried out: how the world, as planned anew, is not the one that it was made for.

    None, too, where all of it has been done already: then the fresh plan is empty.
    """
    if _done(saved, fresh):
        return []
    reasons = list(_reasons(saved, fresh))
    if not reasons and saved.waves != fresh.waves:
        reasons.append("hosts would be switched in another order")
    return reasons


def _done(saved: Saved, fresh: Saved) -> bool:
    def shall(plan: Saved) -> dict[str, tuple[str, str]]:
        return {name: (host.wanted, host.stamp_wanted) for name, host in plan.hosts.items()}

    return (
        saved.config_sha256 == fresh.config_sha256
        and not fresh.down
        and not any(host.changes for host in fresh.hosts.values())
        and shall(saved) == shall(fresh)
    )


def _reasons(saved: Saved, fresh: Saved) -> Iterator[str]:
    if saved.config_sha256 != fresh.config_sha256:
        yield "cluster.yaml is another one"
    if saved.limit != fresh.limit:
        yield "another --limit is asked for"
    for name in sorted(saved.down.keys() - fresh.down.keys()):
        yield f"{name}: answers now, and did not then" if name in fresh.hosts else f"{name}: is not asked any more"
    for name in sorted(fresh.down.keys() - saved.down.keys()):
        yield f"{name}: {fresh.down[name]}"
    for name in sorted(saved.hosts.keys() | fresh.hosts.keys()):
        if name in fresh.down or name in saved.down:
            continue
        if name not in fresh.hosts:
            yield f"{name}: is not a host of the cluster any more"
        elif name not in saved.hosts:
            yield f"{name}: is a new host of the cluster"
        else:
            for reason in _of_host(saved.hosts[name], fresh.hosts[name]):
                yield f"{name}: {reason}"


def _of_host(then: SavedHost, now: SavedHost) -> Iterator[str]:
    if then.current != now.current:
        yield f"runs {_release(now.current)} now, and ran {_release(then.current)}"
    if then.wanted != now.wanted:
        yield f"shall run {_release(now.wanted)}, not {_release(then.wanted)}: what that is made of changed here"
    if then.stamp_wanted != now.stamp_wanted:
        yield "its host layer shall be another one: roles, variables or distribution changed"
    if then.stamp != now.stamp:
        yield "its host layer was touched"
    if then.current == now.current and then.wanted == now.wanted:
        if then.credentials != now.credentials:
            yield f"its credentials: {now.credentials or 'are renewed already'}"
        if then.certificates != now.certificates:
            yield f"its certificate: {now.certificates or 'is renewed already'}"
        if then.drift != now.drift:
            yield f"changed on it: {', '.join(now.drift) or 'nothing any more'}"
        if then.units != now.units:
            yield f"its units: {_units(now.units)}; then: {_units(then.units)}"
        elif (then.changes, then.host_layer) != (now.changes, now.host_layer):
            yield "something else is to be done there than was planned"


def _release(digest: str | None) -> str:
    return f"release {digest[:12]}" if digest else "no release"


def _units(units: Mapping[str, str]) -> str:
    return ", ".join(f"{action} {unit}" for unit, action in units.items()) or "nothing to do"
