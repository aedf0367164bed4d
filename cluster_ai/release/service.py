"""How every systemd unit of ours is written: a user of its own, a sandbox, the release's launcher."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster_ai import layout
from cluster_ai.addresses import in_url

LAUNCH = str(layout.CURRENT / "bin/launch")
LIB_VARIABLE = "CLUSTER_AI_LIB"  # tells bin/launch which part has a unit's packages, where that isn't "lib"
MIB = 1 << 20

SANDBOX = """\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
"""


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    text: str
    etc: tuple[str, ...] = ()  # files of the release, besides bin/launch, that it reads
    parts: tuple[str, ...] = ()  # parts that it runs from
    launched: bool = True  # by bin/launch


def url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{in_url(host)}:{port}"


def any_address(host: str) -> str:
    """All of this machine's addresses, of the kind that it is known by."""
    return "::" if ":" in host else "0.0.0.0"  # noqa: S104 (the firewall, and who is asked for what, say who may come)


def word(text: str) -> str:
    """An argument of ExecStart=, or an assignment of Environment=, as systemd reads it; %d/ stays a specifier."""
    text = re.sub(r"%(?!d/)", "%%", text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{text}"' if re.search(r"""[\s"';\\]""", text) or not text else text


def service(
    component: str,
    description: str,
    command: Sequence[str],
    *,
    memory: int,
    weight: int = 100,
    tls: bool = False,
    credentials: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    after: str = "network.target",
    unit: str = "",
    devices: bool = False,
    code_writing: bool = False,
    delegate: bool = False,
    kind: str = "exec",
    stop: int = 30,
    service: str = "",
) -> str:
    """devices: it needs graphics cards. code_writing: it makes code at run time. stop: seconds to end in.

    delegate: it may divide its own cgroup, which is its user's then; all others still are root's.

    tls: it may read this host's certificate and key.

    kind: how systemd knows that it has started (Type=).
    """
    lines = [f"Environment={word(f'{name}={value}')}" for name, value in (environment or {}).items()]
    lines += [f"LoadCredential={name}:{layout.CREDENTIALS / name}" for name in credentials]
    lines += [f"Environment={layout.TLS_VARIABLE}={layout.TLS}"] if tls else [f"InaccessiblePaths=-{layout.TLS.parent}"]
    lines += [] if devices else ["PrivateDevices=yes"]
    lines += [] if code_writing else ["MemoryDenyWriteExecute=yes"]
    lines += ["Delegate=cpu memory"] if delegate else []
    sandbox = SANDBOX.replace("ProtectControlGroups=yes\n", "") if delegate else SANDBOX
    return (
        f"[Unit]\nDescription=Cluster AI: {description}\nPartOf={layout.TARGET}\nAfter={after} {layout.GUARD}\n"
        f"StartLimitIntervalSec=0\n{unit}\n"
        f"[Service]\nType={kind}\nUser=cluster-ai-{component}\n"
        f"ExecStart={LAUNCH} {' '.join(word(w.replace('$', '$$')) for w in command)}\n"
        f"Restart=always\nRestartSec=1\nTimeoutStopSec={stop}\n"
        f"StateDirectory=cluster-ai/{component}\nStateDirectoryMode=0700\nCacheDirectory=cluster-ai/{component}\n"
        f"Environment=HOME={layout.STATE / component}\n"
        f"LimitNOFILE=65536\nMemoryMax={memory}\nCPUWeight={weight}\n{service}"
        + "".join(f"{line}\n" for line in lines)
        + f"{sandbox}\n[Install]\nWantedBy={layout.TARGET}\n"
    )
