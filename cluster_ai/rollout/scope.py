"""Which hosts a run is about, and how they, the gateway and the cluster's secrets are reached."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cluster_ai import layout
from cluster_ai.config.model import Config, Host, hosts
from cluster_ai.errors import ConfigError
from cluster_ai.inventory.ssh import ssh_argv
from cluster_ai.rollout.probe import Probe

if TYPE_CHECKING:
    from cluster_ai.rollout.gate import Gateway


@dataclass(frozen=True)
class Scope:
    config: Config
    limit: tuple[str, ...] = ()  # names; empty: all
    sudo_password: str | None = None

    def __post_init__(self) -> None:
        names = [host.name for host in hosts(self.config)]
        for name in self.limit:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise ConfigError(
                    f"there is no host {name!r}",
                    where=str(self.config.path),
                    remedy=f"did you mean {near[0]!r}?" if near else f"its hosts: {', '.join(names)}",
                )

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(host for host in hosts(self.config) if not self.limit or host.name in self.limit)

    @cached_property
    def head(self) -> Host:
        return hosts(self.config)[0]

    def argv(self, names: Iterable[str] | None = None, *, light: bool = False) -> dict[str, tuple[str, ...]]:
        """OpenSSH's command line for each host: of those named, or of all in scope. light: as ssh_argv has it."""
        wanted = {host.name for host in self.hosts} if names is None else set(names)
        config = self.config
        return {
            host.name: tuple(ssh_argv(config.ssh, host.address, light=light))
            for host in hosts(config)
            if host.name in wanted
        }

    def probe(self, names: Iterable[str] | None = None) -> Probe:
        argv = self.argv(names, light=self.sudo_password is None)  # what it tells is digests; a password is a secret
        return Probe(argv, sudo_password=self.sudo_password).start()

    def gateway(self, token: str | None) -> Gateway:
        from cluster_ai.rollout.gate import Gateway
        from cluster_ai.tls.trust import ROOTS, trusting

        head, config = self.head, self.config
        argv = self.argv([head.name])[head.name]
        secure = config.security.tls.enabled
        return Gateway(
            head.address,
            config.gateway.port,
            token,
            head=head.name,
            argv=argv,
            sudo_password=self.sudo_password,
            tls=trusting(config.path.resolve().parent / ROOTS) if secure else None,
            local_port=layout.GATEWAY_LOCAL_PORT if secure else None,
        )
