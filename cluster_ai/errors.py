"""The tree of errors that a user can meet. Each carries where, what and what to do; cli/main.py alone prints them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `cluster-ai`; docs/exit-codes.md is their reference."""

    OK = 0  # done, or nothing to do
    INTERNAL = 1  # a fault of ours
    CHANGES = 2  # plan: changes are pending; verify: drift was found; audit verify: the log isn't as it was written
    HOST = 3  # a host can't be reached, or refuses us
    ROLLOUT = 4  # a host's step failed; what had been switched was put back
    UNAVAILABLE = 5  # the cluster, its gateway or a local part doesn't answer
    USAGE = 64  # a wrong command line
    CONFIG = 65  # cluster.yaml, or a file it names, is wrong
    LOCKED = 75  # another run holds the lock


class ClusterAIError(Exception):
    """What every error for a user derives from.

    where: file:line:column, a host's name, or a part's name; may be empty. what: what is wrong.
    remedy: what to do; may be empty.
    """

    exit_code = ExitCode.INTERNAL

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  -> {self.remedy}" if self.remedy else head


class ErrorGroup(ClusterAIError):  # noqa: N818 (it is a group, as ExceptionGroup is)
    """Several errors that are told at once; the exit code is that of the first."""

    def __init__(self, errors: Iterable[ClusterAIError]) -> None:
        self.errors = tuple(errors)
        self.exit_code = self.errors[0].exit_code
        super().__init__("\n".join(str(e) for e in self.errors))


class UsageError(ClusterAIError):
    """What a command line names doesn't exist, or is not what it must be."""

    exit_code = ExitCode.USAGE


class ConfigError(ClusterAIError):
    """cluster.yaml, or a file it names, is wrong."""

    exit_code = ExitCode.CONFIG


class PlacementError(ConfigError):
    """A model fits on too few workers, or on none."""

    def __init__(self, what: str, *, model: str, where: str = "", remedy: str = "") -> None:
        self.model = model
        super().__init__(what, where=where, remedy=remedy)


class HostError(ClusterAIError):
    """A host can't be reached, refuses us, or can't be used; where is its name."""

    exit_code = ExitCode.HOST


class HostAwayError(HostError):
    """Nothing answers where a host should be; where is its name."""


class HostKeyError(HostError):
    """A host's SSH key is another one than is known (changed), or none is known."""

    def __init__(self, what: str, *, changed: bool, where: str = "", remedy: str = "") -> None:
        self.changed = changed
        super().__init__(what, where=where, remedy=remedy)


class RolloutError(ClusterAIError):
    """A step of a rollout failed on a host; where is its name."""

    exit_code = ExitCode.ROLLOUT


class BundleError(ClusterAIError):
    """A bundle can't be built, or what was fetched has another hash than it must."""

    exit_code = ExitCode.CONFIG


class UnavailableError(ClusterAIError):
    """The cluster, its gateway, or a local part doesn't answer."""

    exit_code = ExitCode.UNAVAILABLE


class LockedError(ClusterAIError):
    """Another run holds the lock."""

    exit_code = ExitCode.LOCKED
