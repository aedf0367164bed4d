"""From the text of cluster.yaml to Config."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from cluster_ai.config import units
from cluster_ai.config.document import Document, read
from cluster_ai.config.model import (
    Alerts,
    Canary,
    Config,
    Engine,
    Firewall,
    Gateway,
    Interface,
    Limits,
    Mail,
    Model,
    Monitoring,
    Oidc,
    Opening,
    Packages,
    Policy,
    Processes,
    Resources,
    Rollout,
    Scale,
    Scaling,
    Scheduler,
    Security,
    Ssh,
    Standby,
    Tasks,
    Tls,
    Window,
    Worker,
)
from cluster_ai.errors import ConfigError, ErrorGroup
from cluster_ai.sizes import parse_size


def load(path: Path | str) -> Config:
    """Read, check and resolve a file. Raises ConfigError, or ErrorGroup with every error in it."""
    return load_text(read_text(Path(path)), Path(path))


def load_text(text: str, path: Path | str) -> Config:
    """Like `load`, for a text that isn't in the file (yet). Relative paths in it still start at the file's folder."""
    return parse(text, path)[0]


def parse(text: str, path: Path | str, *, files: bool = True) -> tuple[Config, dict[str, Any], Document]:
    """The configuration; the data that it was made of, with defaults; and the positions of what stands in the text.

    files: whether those that it names must be here.
    """
    from cluster_ai.config.validate import check_files, check_schema, cross_check

    document = read(text, Path(path))
    data, errors = check_schema(document)
    if not errors:
        config = _build(data, Path(path))
        errors = [*cross_check(config, document), *(check_files(config, document) if files else ())]
        if not errors:
            return config, data, document
    raise errors[0] if len(errors) == 1 else ErrorGroup(errors)


def read_text(path: Path) -> str:
    """The file's text. What keeps it from being read is a ConfigError.

    A pipe is refused: commands read the file more than once, keep what belongs to the cluster beside it, and would wait
    for ever for one into which nobody writes.
    """
    try:
        if path.exists() and not path.is_file():
            remedy = "name a file: what belongs to the cluster, such as secrets.yaml, is kept beside it"
            raise ConfigError("is no regular file", where=str(path), remedy=remedy)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        remedy = "make one with: cluster-ai init, or name another with --config"
        raise ConfigError("there is no such file", where=str(path), remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"is not UTF-8 text (byte {error.start})", where=str(path), remedy="save it as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=str(path)) from error


def _build(data: dict[str, Any], path: Path) -> Config:
    cluster = data["cluster"]
    folder = path.absolute().parent
    scheduler, ssh, engine, gateway = cluster["scheduler"], cluster["ssh"], cluster["engine"], cluster["gateway"]
    rollout, monitoring, packages = cluster["rollout"], cluster["monitoring"], cluster["packages"]
    firewall, security = cluster["firewall"], cluster["security"]
    return Config(
        path=path.absolute(),
        version=data["version"],
        name=cluster["name"],
        scheduler=Scheduler(scheduler["host"], scheduler["port"], scheduler["dashboard_port"]),
        workers=tuple(_worker(worker) for worker in cluster["workers"]),
        models=tuple(_model(model, folder) for model in cluster["models"]),
        ssh=Ssh(
            user=ssh.get("user"),
            port=ssh.get("port"),
            key=_path(ssh.get("key"), folder),
            known_hosts=_path(ssh.get("known_hosts"), folder) or _pinned(folder),
            jump=ssh.get("jump"),
        ),
        engine=Engine(
            version=engine["version"],
            source=_source(engine.get("source"), folder),
            sha256=engine["sha256"].lower() if "sha256" in engine else None,
            parallel=engine["parallel"],
            context_length=engine["context_length"],
            keep_alive=units.parse_duration(engine["keep_alive"]),
            kv_cache_type=engine["kv_cache_type"],
        ),
        gateway=Gateway(
            gateway["port"],
            gateway["policy"],
            tuple(gateway["trusted_networks"]),
            gateway["context"],
            _limits(gateway["limits"]),
        ),
        rollout=Rollout(
            policy=_policy(rollout),
            groups={
                name: _policy({**rollout, **group, "canary": {**rollout["canary"], **group.get("canary", {})}})
                for name, group in rollout["groups"].items()
            },
            drain_timeout=units.parse_duration(rollout["drain_timeout"]),
            keep_releases=rollout["keep_releases"],
            gate_timeout=units.parse_duration(rollout["gate_timeout"]),
        ),
        tasks=Tasks(cluster["tasks"].get("data")),
        scaling=Scaling(_processes(cluster["scaling"].get("processes"))),
        monitoring=Monitoring(
            port=monitoring["port"],
            scrape_interval=units.parse_duration(monitoring["scrape_interval"]),
            retention=units.parse_duration(monitoring["retention"]),
            traces=monitoring.get("traces"),
            alerts=_alerts(monitoring["alerts"]),
        ),
        interface=Interface(**cluster["interface"]),
        packages=Packages(packages["source"], packages.get("mirror")),
        firewall=Firewall(firewall["manage"], tuple(_opening(text) for text in firewall["allow"])),
        security=Security(
            _path(security.get("vault_password_file"), folder),
            security.get("vault_password_command"),
            Tls(
                security["tls"]["enabled"],
                tuple(security["tls"]["names"]),
                _path(security["tls"].get("certificate"), folder),
            ),
            _oidc(security["oidc"]) if "oidc" in security else None,
        ),
    )


def _worker(worker: dict[str, Any]) -> Worker:
    resources = worker["resources"]
    return Worker(
        name=worker["name"],
        host=worker.get("host", worker["name"]),
        resources=Resources(
            cpu=resources["cpu"],
            memory=parse_size(resources["memory"]),
            gpu=resources["gpu"],
            gpu_memory=_size(resources.get("gpu_memory")),
        ),
        labels=worker["labels"],
        speeds=worker["speeds"],
        standby=_standby(worker.get("standby")),
    )


def _standby(said: dict[str, Any] | None) -> Standby | None:
    if said is None:
        return None
    wake = tuple(shlex.split(said.get("wake", "")))
    idle = units.parse_duration(said["idle"])
    return Standby(said.get("mac"), wake, said.get("broadcast"), said["sleep"], idle, said["dry_run"])


def _model(model: dict[str, Any], folder: Path) -> Model:
    resources = model["resources"]
    return Model(
        name=model["name"],
        replicas=model["replicas"],
        memory=_size(resources.get("gpu_memory", resources.get("memory"))),
        source=_path(model.get("source"), folder),
        options=model["options"],
        quantize=model.get("quantize"),
        scale=_scale(model["scale"]) if "scale" in model else None,
    )


def _scale(scale: dict[str, Any]) -> Scale:
    return Scale(
        max=scale["max"],
        in_flight=scale.get("in_flight"),
        queue_time=_duration(scale.get("queue_time")),
        cool_down=units.parse_duration(scale["cool_down"]),
        idle=_duration(scale.get("idle")),
        ahead=units.parse_duration(scale["ahead"]),
        schedule=tuple(_window(window) for window in scale["schedule"]),
        dry_run=scale["dry_run"],
    )


def _window(window: dict[str, Any]) -> Window:
    begin, end = units.parse_clock(window["from"]), units.parse_clock(window["to"])
    return Window(units.parse_days(window["days"]), begin, end, window["replicas"])


def _processes(said: dict[str, Any] | None) -> Processes | None:
    if said is None:
        return None
    return Processes(said["min"], said["max"], units.parse_duration(said["cool_down"]), said["dry_run"])


def _limits(limits: dict[str, Any]) -> Limits:
    return Limits(
        requests_per_minute=limits.get("requests_per_minute"),
        tokens_per_minute=limits.get("tokens_per_minute"),
        max_concurrent=limits.get("max_concurrent"),
        queue=limits["queue"],
        max_wait=units.parse_duration(limits["max_wait"]),
        max_body=parse_size(limits["max_body"]),
        request_timeout=units.parse_duration(limits["request_timeout"]) if "request_timeout" in limits else None,
    )


def _alerts(alerts: dict[str, Any]) -> Alerts:
    mail = alerts.get("mail")
    return Alerts(
        port=alerts["port"],
        webhook=alerts.get("webhook"),
        mail=Mail(tuple(mail["to"]), mail["from"], mail["server"], mail.get("user")) if mail else None,
    )


def _policy(rollout: dict[str, Any]) -> Policy:
    canary = rollout["canary"]
    chosen = canary["hosts"]
    return Policy(
        strategy=rollout["strategy"],
        max_unavailable=share(rollout["max_unavailable"]),
        pause=units.parse_duration(rollout["pause"]),
        canary=Canary(
            hosts=tuple(chosen) if isinstance(chosen, list) else share(chosen),
            bake=units.parse_duration(canary["bake"]),
            max_error_rate=_percent(canary["max_error_rate"]),
            max_latency_increase=_percent(canary["max_latency_increase"]),
            max_speed_loss=_percent(canary["max_speed_loss"]),
        ),
    )


def _oidc(oidc: dict[str, Any]) -> Oidc:
    return Oidc(
        issuer=oidc["issuer"],
        client_id=oidc["client_id"],
        cli_client_id=oidc.get("cli_client_id", oidc["client_id"]),
        name_claim=oidc["name_claim"],
        role_claim=oidc["role_claim"],
        roles={role: tuple(values) for role, values in oidc["roles"].items()},
        session=units.parse_duration(oidc["session"]),
    )


def _opening(text: str) -> Opening:
    ports, protocol, source = units.parse_opening(text)
    return Opening(ports, protocol, source)


def _duration(text: str | None) -> float | None:
    return None if text is None else units.parse_duration(text)


def _size(text: str | None) -> int | None:
    return None if text is None else parse_size(text)


def _percent(text: str) -> float:
    return float(text.removesuffix("%")) / 100


def share(value: int | str) -> int | float:
    """A number as it is; a percentage as a share, 0..1."""
    return value if isinstance(value, int) else int(value.removesuffix("%")) / 100


def _path(text: str | None, folder: Path) -> Path | None:
    if text is None:
        return None
    try:
        return folder / Path(text).expanduser()
    except RuntimeError:  # ~user, and there is no such user: then there is no such file either
        return folder / text


def _pinned(folder: Path) -> Path | None:
    """The hosts' public keys that are kept with the cluster, once there are any."""
    file = folder / "known_hosts"
    return file if file.is_file() else None


def _source(text: str | None, folder: Path) -> str | None:
    return text if text is None or "://" in text else str(_path(text, folder))
