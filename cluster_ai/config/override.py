"""What one run says about its rollout, over what cluster.yaml says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster_ai.config.forms import FORMS
from cluster_ai.config.load import share
from cluster_ai.config.model import Config, Policy
from cluster_ai.config.schema import accepts, rules_at
from cluster_ai.config.units import parse_duration
from cluster_ai.config.validate import meant, too_short
from cluster_ai.errors import ConfigError, ErrorGroup, ExitCode

SECTION = ("cluster", "rollout")
PATHS = {
    "--strategy": ("strategy",),
    "--max-unavailable": ("max_unavailable",),
    "--pause": ("pause",),
    "--canary": ("canary", "hosts"),
    "--bake": ("canary", "bake"),
}


@dataclass(frozen=True, slots=True)
class Override:
    """As written on the command line; None: as cluster.yaml says."""

    strategy: str | None = None
    max_unavailable: str | None = None
    canary: str | None = None  # a number, a share, or names with commas; the strategy is canary then, if none is named
    pause: str | None = None
    bake: str | None = None


class OverrideError(ConfigError):
    """A value of the command line is wrong; where is its option."""

    exit_code = ExitCode.USAGE


def overridden(config: Config, override: Override) -> Config:
    """The configuration of this run: for all workers, whatever group they are in. Raises OverrideError or ErrorGroup.

    Groups still change one after another; what isn't overridden is still their own.
    """
    written = _written(override)
    errors = [*_wrong(written), *_unknown(written, config)]
    if errors:
        raise errors[0] if len(errors) == 1 else ErrorGroup(errors)
    rollout = config.rollout
    policy = _policy(rollout.policy, written)
    groups = {name: _policy(own, written) for name, own in rollout.groups.items()}
    for it in (policy, *groups.values()):
        if written and it.strategy != "rolling" and (what := too_short(it, config)):
            raise OverrideError(what, where="--bake", remedy="bake longer, or 0s")
    return replace(config, rollout=replace(rollout, policy=policy, groups=groups))


def _written(override: Override) -> dict[str, Any]:
    """Option to value, as it would stand in the file."""
    strategy = override.strategy or ("canary" if override.canary is not None else None)
    values: dict[str, Any] = {
        "--strategy": strategy,
        "--max-unavailable": _number(override.max_unavailable),
        "--pause": override.pause,
        "--canary": _number(override.canary),
        "--bake": override.bake,
    }
    canary = values["--canary"]
    if isinstance(canary, str) and not canary.endswith("%"):
        values["--canary"] = [name.strip() for name in canary.split(",") if name.strip()]
    return {option: value for option, value in values.items() if value is not None}


def _number(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


def _wrong(written: Mapping[str, Any]) -> Iterator[OverrideError]:
    for option, value in written.items():
        rules = rules_at((*SECTION, *PATHS[option]))
        fits = FORMS[rules["form"]].test(value) if "form" in rules else value in rules["allowed"]
        if not fits:
            yield OverrideError(f"found {value!r}, allowed: {accepts(rules)}", where=option)


def _unknown(written: Mapping[str, Any], config: Config) -> Iterator[OverrideError]:
    workers = [worker.name for worker in config.workers]
    named = written.get("--canary")
    for name in named if isinstance(named, list) else ():
        if name not in workers:
            yield OverrideError(f"there is no worker {name!r}", where="--canary", remedy=meant(name, workers))


def _policy(policy: Policy, written: Mapping[str, Any]) -> Policy:
    canary = policy.canary
    if "--canary" in written:
        chosen = written["--canary"]
        canary = replace(canary, hosts=tuple(chosen) if isinstance(chosen, list) else share(chosen))
    if "--bake" in written:
        canary = replace(canary, bake=parse_duration(written["--bake"]))
    return replace(
        policy,
        strategy=written.get("--strategy", policy.strategy),
        max_unavailable=share(written["--max-unavailable"])
        if "--max-unavailable" in written
        else policy.max_unavailable,
        pause=parse_duration(written["--pause"]) if "--pause" in written else policy.pause,
        canary=canary,
    )
