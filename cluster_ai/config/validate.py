"""Checks: each key by itself, by cerberus; then, where those pass, what only shows when several are seen together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from cerberus import Validator
from cerberus import errors as codes
from cerberus.schema import UnvalidatedSchema

from cluster_ai import layout
from cluster_ai.config.document import Document, KeyPath, clipped, key_path
from cluster_ai.config.forms import FORMS
from cluster_ai.config.groups import group_members
from cluster_ai.config.model import Config, Model, Policy
from cluster_ai.config.schema import SCHEMA, accepts, rules_at
from cluster_ai.config.units import format_duration
from cluster_ai.errors import ConfigError

# Groups and hosts that Ansible and pyinfra know without being told.
RESERVED_NAMES = frozenset({"all", "ungrouped", "head", "workers", "hosts", "localhost", "implicit"})
SCRAPES = 4  # so many measurements at least, before anything is judged by them


class SchemaValidator(Validator):  # type: ignore[misc]
    """cerberus with the rule `form`."""

    def _validate_form(self, constraint: str, field: Any, value: Any) -> None:
        """{'type': 'string'}"""
        if not FORMS[constraint].test(value):
            self._error(field, accepts({"form": constraint}))


def check_schema(document: Document) -> tuple[dict[str, Any], list[ConfigError]]:
    """The data with defaults filled in, and all errors in the order of the file."""
    if not isinstance(document.data, dict):
        found = "nothing" if document.data is None else _found(document, (), document.data)
        what = f"found {found}, allowed: {accepts({'type': 'dict', 'schema': SCHEMA})}"
        return {}, [ConfigError(what, where=document.where(()), remedy="begin with: cluster-ai init")]
    validator = SchemaValidator(
        UnvalidatedSchema(SCHEMA)
    )  # that SCHEMA itself is sound is for a test to see, not for every run
    validator.validate(document.data)
    found_errors = {(path, error.what): error for path, error in _worded(document, _leaves(validator._errors))}
    order = sorted(found_errors.items(), key=lambda item: (_position(item[1].where), item[0][1]))
    return cast(dict[str, Any], validator.document), [error for _, error in order]


def _position(where: str) -> tuple[int, int]:
    _, line, column = where.rsplit(":", 2)
    return int(line), int(column)


def _leaves(found: Iterable[Any]) -> Iterator[Any]:
    for error in found:
        if error.is_group_error:
            yield from _leaves(error.child_errors)
        else:
            yield error


def _worded(document: Document, found: Iterable[Any]) -> Iterator[tuple[KeyPath, ConfigError]]:
    for error in found:
        path: KeyPath = tuple(error.document_path)
        if error.code == codes.UNKNOWN_FIELD.code:
            yield path, _unknown_key(document, path)
        elif error.code == codes.REQUIRED_FIELD.code:
            what = f"{key_path(path)}: the key is missing, allowed: {accepts(rules_at(path))}"
            yield path, ConfigError(what, where=document.where(path), remedy=_doc(path))
        elif error.code == codes.EXCLUDES_FIELD.code:
            what = f"{key_path(path)}: stands beside {error.constraint}, allowed: one of both"
            yield path, ConfigError(what, where=document.where(path, key=True), remedy="keep the one that you mean")
        elif "keysrules" in error.schema_path:
            what = f"{key_path(path)}: found the key {path[-1]!r}, allowed: {error.info[0] if error.info else 'text'}"
            yield path, ConfigError(what, where=document.where(path, key=True))
        else:
            what = f"{key_path(path)}: found {_found(document, path, error.value)}, allowed: {accepts(rules_at(path))}"
            yield path, ConfigError(what, where=document.where(path), remedy=_quotes(document, path, error.value))


def _unknown_key(document: Document, path: KeyPath) -> ConfigError:
    known = list(rules_at(path[:-1])["schema"])
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    what = f"{key_path(path)}: found an unknown key, allowed: {', '.join(known)}"
    remedy = f"did you mean {close[0]}?" if close else ""
    if not close and len(path) == 1 and path[0] in SCHEMA["cluster"]["schema"]:
        remedy = "it belongs under cluster:, indented"
    return ConfigError(what, where=document.where(path, key=True), remedy=remedy)


def _found(document: Document, path: KeyPath, value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    written = clipped(document.source.get(path, str(value)))
    if isinstance(value, str):
        return repr(written)
    kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(type(value), "a date")
    return f"{written} ({kind})"


def _quotes(document: Document, path: KeyPath, value: Any) -> str:
    """What to do where YAML read something else than the text that was meant."""
    rules, written = rules_at(path), document.source.get(path, "")
    if isinstance(value, str) or not written:
        return ""
    fits = (
        FORMS[rules["form"]].test(written)
        if "form" in rules
        else rules.get("type") == "string" and written in rules.get("allowed", [written])
    )
    return f"put it in quotes: '{written}'" if fits else ""


def _doc(path: KeyPath) -> str:
    return str(rules_at(path).get("meta", {}).get("doc", "")).replace("`", "")


def cross_check(config: Config, document: Document) -> Iterator[ConfigError]:
    """What each key by itself can't show, of the text alone."""
    yield from _names(config, document)
    yield from _ports(config, document)
    yield from _body(config, document)
    yield from _rollout(config, document)
    yield from _oidc(config, document)
    yield from _standby(config, document)
    cluster: KeyPath = ("cluster",)
    for index, model in enumerate(config.models):
        steady = sum(worker.standby is None for worker in config.workers)
        if model.replicas != "all" and model.replicas > steady:
            at = (*cluster, "models", index, "replicas")
            never = " that never sleeps" if steady < len(config.workers) else ""
            what = f"{key_path(at)}: found {model.replicas}, allowed: at most {steady}, one on each worker{never}"
            yield ConfigError(
                what, where=document.where(at), remedy="write replicas: all for every worker, or add workers"
            )
        yield from _scale(config, document, index, model)
        if model.quantize and model.source is None:
            at = (*cluster, "models", index, "quantize")
            yield ConfigError(
                f"{key_path(at)}: stands without source, and only the weights of a local file are quantized",
                where=document.where(at, key=True),
                remedy="name the GGUF file with source, or take a tag of the registry that is as small as you want",
            )
    for index, worker in enumerate(config.workers):
        if worker.resources.gpu_memory and not worker.resources.gpu:
            at = (*cluster, "workers", index, "resources", "gpu_memory")
            what = f"{key_path(at)}: the worker has GPU memory, but gpu is 0"
            yield ConfigError(
                what, where=document.where(at, key=True), remedy="say how many cards it has, or leave gpu_memory out"
            )
    processes = config.scaling.processes
    if processes is not None and processes.min > processes.max:
        at = (*cluster, "scaling", "processes", "min")
        what = f"{key_path(at)}: found {processes.min}, allowed: at most {processes.max}, as max says"
        yield ConfigError(what, where=document.where(at), remedy="change it, or max")
    if config.packages.source == "mirror" and not config.packages.mirror:
        at = (*cluster, "packages", "source")
        yield ConfigError(
            f"{key_path(at)}: found 'mirror', but no packages.mirror",
            where=document.where(at),
            remedy="name the mirror's address",
        )
    if config.engine.sha256 and not config.engine.source:
        at = (*cluster, "engine", "sha256")
        what = f"{key_path(at)}: stands without engine.source, so it is not said of which file"
        yield ConfigError(
            what,
            where=document.where(at, key=True),
            remedy="name the file or address with engine.source, or leave sha256 out",
        )


def _standby(config: Config, document: Document) -> Iterator[ConfigError]:
    for index, worker in enumerate(config.workers):
        at: KeyPath = ("cluster", "workers", index, "standby")
        if worker.standby is None:
            continue
        where = document.where(at, key=True)
        if worker.standby.mac is None and not worker.standby.wake:
            what = f"{key_path(at)}: nothing would wake it"
            yield ConfigError(what, where=where, remedy="name its mac, or a command with wake")
        if worker.host == config.scheduler.host:
            what = f"{key_path(at)}: it is the head host, which wakes others"
            yield ConfigError(what, where=where, remedy="leave standby out")
    if all(worker.standby is not None for worker in config.workers):
        what = "cluster.workers: all of them may sleep, and models are placed on those that never do"
        yield ConfigError(what, where=document.where(("cluster", "workers"), key=True), remedy="leave one awake")


def _scale(config: Config, document: Document, index: int, model: Model) -> Iterator[ConfigError]:
    at: KeyPath = ("cluster", "models", index, "scale")
    if model.scale is None:
        return
    if model.replicas == "all":
        what = f"{key_path(at)}: stands beside replicas: all, which is on every worker already"
        remedy = "set replicas to how many there are at least"
        yield ConfigError(what, where=document.where(at, key=True), remedy=remedy)
        return
    scale, least, most = model.scale, model.replicas, len(config.workers)
    if not least <= scale.max <= most:
        allowed = f"from {least}, its replicas, to {most}, the workers"
        what = f"{key_path((*at, 'max'))}: found {scale.max}, allowed: {allowed}"
        yield ConfigError(what, where=document.where((*at, "max")), remedy="change it, or replicas, or add workers")
    for number, window in enumerate(scale.schedule):
        if window.replicas > scale.max:
            key = (*at, "schedule", number, "replicas")
            what = f"{key_path(key)}: found {window.replicas}, allowed: at most {scale.max}, as max says"
            yield ConfigError(what, where=document.where(key), remedy="change it, or max")


def _names(config: Config, document: Document) -> Iterator[ConfigError]:
    workers, models = ("cluster", "workers"), ("cluster", "models")
    names = [worker.name.lower() for worker in config.workers]
    yield from _unique(document, workers, "name", names)
    # A host that is only a name's default is not told a second time.
    own = [w.name != w.host or names.index(w.name.lower()) == index for index, w in enumerate(config.workers)]
    addresses = [w.host.lower() if told else None for w, told in zip(config.workers, own, strict=True)]
    yield from _unique(document, workers, "host", addresses)
    full = [m.name.lower() if ":" in m.name.rsplit("/", 1)[-1] else f"{m.name.lower()}:latest" for m in config.models]
    yield from _unique(document, models, "name", full)
    hosts = {w.host.lower(): w.name for w in config.workers} | {config.scheduler.host.lower(): ""}
    for index, worker in enumerate(config.workers):
        at = (*workers, index, "name")
        if worker.name.lower() in RESERVED_NAMES:
            what = f"{key_path(at)}: found {worker.name!r}, a group or host that Ansible or pyinfra has already"
            yield ConfigError(what, where=document.where(at), remedy="choose another name")
        owner = hosts.get(worker.name.lower(), worker.name)
        if owner.lower() != worker.name.lower() and worker.host.lower() != worker.name.lower():
            whose = f"the host of worker {owner!r}" if owner else "the scheduler's host"
            what = f"{key_path(at)}: {worker.name!r} is also the address of another machine, {whose}"
            yield ConfigError(what, where=document.where(at), remedy="choose another name")


def _unique(document: Document, items: KeyPath, key: str, values: Sequence[str | None]) -> Iterator[ConfigError]:
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        if value in first:
            at, other = (*items, index, key), (*items, first[value], key)
            first_place = f"{key_path(other)} ({document.where(other)})"
            what = f"{key_path(at)}: {value!r} stands here a second time; the first is {first_place}"
            yield ConfigError(what, where=document.where(at), remedy="every one needs its own")
        first.setdefault(value, index)


def _ports(config: Config, document: Document) -> Iterator[ConfigError]:
    """Ports that two parts on the head host would both take."""
    chosen = {
        ("cluster", "scheduler", "port"): config.scheduler.port,
        ("cluster", "scheduler", "dashboard_port"): config.scheduler.dashboard_port,
        ("cluster", "gateway", "port"): config.gateway.port,
        ("cluster", "monitoring", "port"): config.monitoring.port,
    }
    if config.interface.dashboard:
        chosen["cluster", "interface", "dashboard_port"] = config.interface.dashboard_port
    if config.interface.open_webui:
        chosen["cluster", "interface", "open_webui_port"] = config.interface.open_webui_port
    taken = {22 if config.ssh.port is None else config.ssh.port: "sshd", layout.NODE_EXPORTER_PORT: "node_exporter"}
    taken |= {layout.ISSUER_PORT: "the renewal of certificates", layout.PEER_PORT: "files of releases"}
    if config.security.tls.enabled:
        taken[layout.GATEWAY_LOCAL_PORT] = "the gateway, for what runs beside it"
    if any(worker.host == config.scheduler.host for worker in config.workers):
        taken |= {layout.ENGINE_PORT: "Ollama", layout.FRONT_PORT: "the engine's front"}
        for (low, high), part in (
            (layout.DASK_WORKER_PORTS, "the Dask worker"),
            (layout.DASK_NANNY_PORTS, "the Dask nanny"),
        ):
            taken |= dict.fromkeys(range(low, high + 1), part)
    for at, port in chosen.items():
        if port in taken:
            what = f"{key_path(at)}: port {port} on {config.scheduler.host} belongs to {taken[port]}"
            yield ConfigError(what, where=document.where(at), remedy="choose another port")
        taken.setdefault(port, key_path(at))


def _body(config: Config, document: Document) -> Iterator[ConfigError]:
    """A body that the gateway takes, but no worker's front."""
    at = ("cluster", "gateway", "limits", "max_body")
    if config.gateway.limits.max_body > layout.FRONT_BODY_LIMIT:
        what = f"{key_path(at)}: workers take bodies up to {layout.FRONT_BODY_LIMIT >> 20} MiB"
        yield ConfigError(what, where=document.where(at), remedy="choose a smaller one")


def _oidc(config: Config, document: Document) -> Iterator[ConfigError]:
    """A provider that lets nobody in, or that no browser is sent back from."""
    at: KeyPath = ("cluster", "security", "oidc")
    oidc = config.security.oidc
    if oidc is None:
        return
    if not any(oidc.roles.values()):
        what = f"{key_path(at)}: no value of {oidc.role_claim} gives a role, so that nobody could log in"
        remedy = f"such as roles: {{user: ['a value of {oidc.role_claim}']}}"
        yield ConfigError(what, where=document.where(at, key=True), remedy=remedy)
    if not config.security.tls.enabled:
        what = f"{key_path(at)}: stands beside tls.enabled: false, and providers send people back to https:// alone"
        yield ConfigError(what, where=document.where(at, key=True), remedy="leave tls.enabled out")


def _rollout(config: Config, document: Document) -> Iterator[ConfigError]:
    """Groups and workers that aren't there, and measuring that is over before anything is measured."""
    section: KeyPath = ("cluster", "rollout")
    members = group_members(config)
    known = [name for name in members if name != "head"]
    rollout = config.rollout
    for name in rollout.groups:
        at = (*section, "groups", name)
        if name == "head":
            what, remedy = "the head always changes first and alone", "leave it out"
        elif name not in members:
            what, remedy = f"there is no group {name!r}", meant(name, known)
        else:
            continue
        yield ConfigError(f"{key_path(at)}: {what}", where=document.where(at, key=True), remedy=remedy)
    places = [(section, rollout.policy, members["workers"])]
    places += [((*section, "groups", name), it, members.get(name, [])) for name, it in rollout.groups.items()]
    for place, policy, workers in places:
        named = policy.canary.hosts if isinstance(policy.canary.hosts, tuple) else ()
        for index, worker in enumerate(named):
            at = (*place, "canary", "hosts", index)
            if workers and at in document.values and worker not in workers:
                whom = "of this group" if "groups" in place else "with this name"
                what = f"{key_path(at)}: there is no worker {whom}: {worker!r}"
                yield ConfigError(what, where=document.where(at), remedy=meant(worker, workers))
        at = (*place, "canary", "bake")
        if policy.strategy != "rolling" and (what := too_short(policy, config)):
            yield ConfigError(f"{key_path(at)}: {what}", where=document.where(at), remedy="bake longer, or '0s'")


def too_short(policy: Policy, config: Config) -> str:
    """Why nothing could be judged after so little time; empty: it can."""
    least = SCRAPES * config.monitoring.scrape_interval
    if not 0 < policy.canary.bake < least:
        return ""
    return (
        f"found {format_duration(policy.canary.bake)}, allowed: at least {format_duration(least)}, "
        f"{SCRAPES} times monitoring.scrape_interval"
    )


def meant(name: str, known: Sequence[str]) -> str:
    """What to do about a name that isn't there."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"


def check_files(config: Config, document: Document) -> Iterator[ConfigError]:
    """Files that are named and not there."""
    named: list[tuple[KeyPath, Path]] = [
        (("cluster", "models", index, "source"), model.source)
        for index, model in enumerate(config.models)
        if model.source
    ]
    if config.security.tls.certificate:
        named.append((("cluster", "security", "tls", "certificate"), config.security.tls.certificate))
    if config.engine.source and "://" not in config.engine.source:
        named.append((("cluster", "engine", "source"), Path(config.engine.source)))
    for at, path in named:
        if not path.is_file():
            what = f"{key_path(at)}: {path} is {'not a file' if path.exists() else 'not there'}"
            yield ConfigError(
                what, where=document.where(at), remedy="a relative path starts at the folder of cluster.yaml"
            )
