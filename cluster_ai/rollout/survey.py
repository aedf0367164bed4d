"""The cluster as it is and as it shall be: configuration, placement, releases, and what hosts answered."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cluster_ai import layout
from cluster_ai.config.groups import policies
from cluster_ai.config.model import Host
from cluster_ai.errors import HostAwayError, HostError
from cluster_ai.provision import ssh
from cluster_ai.provision.refusals import Reply
from cluster_ai.release.model import HostFacts, Release
from cluster_ai.release.store import Store
from cluster_ai.rollout import credentials
from cluster_ai.rollout.manifest import Manifest
from cluster_ai.rollout.observe import Observed
from cluster_ai.rollout.plan import Before, Inputs, Plan, Transfer, Wanted, plan_cluster, plan_host
from cluster_ai.rollout.scope import Scope
from cluster_ai.security.credentials import require_first
from cluster_ai.security.vault import Vault

if TYPE_CHECKING:
    from cluster_ai.placement.place import Placement

OLDEST_PYTHON = (3, 11)
SUPPORTED = ("debian-12", "debian-13", "ubuntu-24.04")  # as roles/base has it
TEXTS = ("etc/", "units/")  # what of a release people want to see the difference of


@dataclass(frozen=True, slots=True)
class Survey:
    plan: Plan
    observed: Mapping[str, Observed]
    releases: Mapping[str, Release]
    stamps: Mapping[str, str]


def take(
    scope: Scope,
    placement: Placement,
    seen: Mapping[str, Observed | HostError],
    *,
    converge: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Survey:
    """Build what each host shall be (from the store, where nothing changed), and compare."""
    from cluster_ai.provision import host_layer
    from cluster_ai.release.build import desired

    config = scope.config
    answers = {host: usable(answer) if isinstance(answer, Observed) else answer for host, answer in seen.items()}
    asleep = sleeping(scope.hosts, answers)
    errors = [answer for host, answer in answers.items() if isinstance(answer, HostError) and host not in asleep]
    observed = {host: answer for host, answer in answers.items() if isinstance(answer, Observed)}
    _require_first(scope, answers)
    store = Store.of(config)
    facts = {host: HostFacts(it.distribution, it.python or "", it.arch) for host, it in observed.items()}
    releases = desired(config, placement, facts, store, progress=progress)
    mine = {host.name for host in scope.hosts}
    stamps = host_layer.stamps(config, {host: it.distribution for host, it in facts.items() if host in mine})
    sums = credentials.sums(config)
    wanted = {
        host.name: _wanted(host, releases[host.name], stamps[host.name], credentials.of_host(sums, host))
        for host in scope.hosts
        if host.name in observed
    }
    changing = [name for name, it in wanted.items() if observed[name].current != it.digest]
    wanted |= {name: _in_detail(wanted[name], releases[name], scope) for name in changing}
    running = {name: current for name in changing if (current := observed[name].current)}
    before = _befores(scope, store, running) if running else {}
    now = time.time()
    plans = [
        plan_host(it, observed[name], before.get(name, Before()), now=now, converge=converge)
        for name, it in wanted.items()
    ]
    plan = plan_cluster(
        config.name,
        plans,
        errors,
        head=scope.head.name,
        groups=policies(config),
        placed=placement.workers(),
        asleep=asleep,
    )
    return Survey(plan, observed, releases, stamps)


def again(scope: Scope, placement: Placement, found: Survey, since: float, *, converge: bool) -> Survey:
    """The survey, taken anew where another run has changed the cluster meanwhile.

    since: when the last run ended, by the head host's clock.
    """
    head = found.observed.get(scope.head.name)
    if since < (head.clock if head else time.time() - ssh.TIMEOUT):
        return found
    return take(scope, placement, scope.probe().results(), converge=converge)


def _require_first(scope: Scope, answers: Mapping[str, Observed | HostError]) -> None:
    """ConfigError where secrets.yaml is missing, and this isn't the first run. The head tells, also outside a limit."""
    if Vault.of(scope.config).exists():
        return
    head = scope.head.name
    all_of_them = {**({} if head in answers else scope.probe([head]).results()), **answers}
    certificates = {host: it.certificate for host, it in all_of_them.items() if isinstance(it, Observed)}
    require_first(scope.config, {host: it for host, it in certificates.items() if it})


def sleeping(among: Iterable[Host], seen: Mapping[str, Observed | HostError]) -> tuple[str, ...]:
    """Standby hosts that don't answer: that is no error of theirs."""
    standby = [host.name for host in among if host.worker is not None and host.worker.standby is not None]
    return tuple(name for name in standby if isinstance(seen.get(name), HostAwayError))


def usable(seen: Observed) -> Observed | HostError:
    """A host of which a release can't be made is an error of that host."""
    if seen.distribution not in SUPPORTED:
        return HostError(
            f"runs {seen.distribution or 'an unknown system'}, which is not supported",
            where=seen.host,
            remedy=f"install one of: {', '.join(SUPPORTED)}",
        )
    if seen.python is None:
        return HostError("has no python3", where=seen.host, remedy="on it: apt install python3")
    if tuple(int(number) for number in seen.python.split(".")) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return HostError(
            f"has Python {seen.python}; {oldest} is the oldest that works",
            where=seen.host,
            remedy="install a newer release of its distribution",
        )
    return seen


def _wanted(host: Host, release: Release, stamp: str, sums: Mapping[str, str]) -> Wanted:
    return Wanted(
        host=host.name,
        address=host.address,
        roles=host.roles,
        digest=release.digest,
        manifest=release.manifest,
        parts=tuple(Transfer(part.name, part.sha256, part.size) for part in release.parts),
        blobs=tuple(Transfer(f"blob {blob.sha256[:12]}", blob.sha256, blob.size) for blob in release.blobs),
        stamp=stamp,
        sums=sums,
    )


def _in_detail(wanted: Wanted, release: Release, scope: Scope) -> Wanted:
    """Add what only the telling of a difference needs."""
    from cluster_ai.release.units import units

    texts: dict[str, str] = {}
    for part in release.parts:
        if part.name == "host":
            texts = _texts(part.path.read_bytes())
    host = next(host for host in scope.hosts if host.name == wanted.host)
    inputs = {
        unit.name: Inputs((f"units/{unit.name}", *unit.etc, *(("bin/launch",) if unit.launched else ())), unit.parts)
        for unit in units(scope.config, host)
    }
    return replace(wanted, texts=texts, models=_models(texts), inputs=inputs)


def _befores(scope: Scope, store: Store, running: Mapping[str, str]) -> dict[str, Before]:
    """The releases that hosts run: from the store, and from the hosts themselves where it doesn't have them.

    running: host -> digest.
    """
    found: dict[str, Before] = {}
    missing: dict[str, str] = {}
    for host, digest in running.items():
        try:
            manifest = Manifest.read((store.root / "releases" / f"{digest}.json").read_bytes())
            texts = _texts(store.part_path(manifest.parts["host"]).read_bytes())
            found[host] = Before(manifest, texts, _models(texts))
        except (OSError, EOFError, KeyError, TypeError, ValueError, tarfile.TarError):
            missing[host] = digest
    argv = scope.argv(missing)
    calls = [
        ssh.Call(host, argv[host], f"cd {layout.RELEASES / digest} && exec tar -cf - manifest.json etc units")
        for host, digest in missing.items()
    ]
    for host, reply in ssh.run(calls, sudo_password=scope.sudo_password).items():
        found[host] = Before(ours=(store.root / "releases" / f"{missing[host]}.json").exists())
        if isinstance(reply, Reply):
            try:
                texts = _texts(reply.stdout)
                manifest = Manifest.read(texts["manifest.json"].encode())
            except (KeyError, TypeError, ValueError, tarfile.TarError):
                continue
            found[host] = replace(found[host], manifest=manifest, texts=texts, models=_models(texts))
    return found


def _texts(archive: bytes) -> dict[str, str]:
    """The small text files of a release, out of an archive."""
    texts = {}
    if archive.startswith(b"\x1f\x8b"):  # at once, for tarfile would seek about in it
        archive = gzip.decompress(archive)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if name == "manifest.json" or name.startswith(TEXTS) else None
            if file:
                texts[name] = file.read().decode(errors="replace")
    return texts


def _models(texts: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return tuple(model["name"] for model in json.loads(texts["etc/host.json"])["models"])
    except (KeyError, TypeError, ValueError):
        return ()
