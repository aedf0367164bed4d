"""Workers, how they are reached, and what their systems are given."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, integer, key, section

RESOURCES: Rules = {
    "cpu": integer("Cores that the cluster may use.", 1, 4096, required=True),
    "memory": key(
        "Memory of the machine. Models that run without a GPU get at most 80 % of it.", form="size", required=True
    ),
    "gpu": integer("NVIDIA cards.", 0, 64, default=0),
    "gpu_memory": key("Memory of all its cards together.", form="size", absent="8 GB for each card is assumed"),
}

STANDBY: Rules = {
    "mac": key(
        "Address of the network card that wakes it by Wake-on-LAN; its firmware must allow that.",
        form="mac",
        absent="`wake` wakes it",
        excludes="wake",
    ),
    "wake": key(
        "Command on the head host that wakes it, such as `ipmitool -H 10.0.4.121 -U wake -f /etc/ipmi.pw chassis power "
        "on`. It is run without a shell, as the user cluster-ai-gateway.",
        form="command",
        absent="`mac` wakes it",
        excludes="mac",
    ),
    "broadcast": key(
        "Address that the magic packet is sent to, for a host on another network.",
        form="host",
        absent="the broadcast address of each of the head host's networks",
    ),
    "sleep": key(
        "How it sleeps: what systemd calls `suspend` or `poweroff`.",
        type="string",
        allowed=["suspend", "poweroff"],
        default="suspend",
    ),
    "idle": key("How long it must have had nothing to do before it sleeps.", form="duration", default="15m"),
    "dry_run": key("Only tell what would be done.", type="boolean", default=False),
}

WORKER: Rules = {
    "name": key("What the worker is called in every list, plan and metric. Unique.", form="name", required=True),
    "host": key("Name or address that SSH and the cluster reach it by.", form="host", absent="the worker's `name`"),
    "resources": key("What the machine has.", type="dict", required=True, schema=RESOURCES),
    "standby": key(
        "It sleeps until replicas that the autoscaler wants, or tasks, have no room elsewhere; when idle it sleeps "
        "again (docs/scaling.md). No model is placed there.",
        "it never sleeps",
        type="dict",
        schema=STANDBY,
    ),
    "labels": key(
        "Free marks, such as `room: '2.04'`; each becomes a group `<key>_<value>` for Ansible and pyinfra.",
        type="dict",
        default={},
        keysrules={"form": "name"},
        valuesrules={"form": "text"},
    ),
    "speeds": key(
        "Tokens per second of one answer there, by model, such as `'llama3.2:1b': 48`: measured and written by "
        "`cluster-ai bench --save`. Placement compares workers by them.",
        type="dict",
        default={},
        keysrules={"form": "model"},
        valuesrules={"form": "speed"},
    ),
}

SSH: Rules = section(
    "How every host is reached. Host keys are always checked; an unknown one is refused.",
    {
        "user": key(
            "User to log in as; one that isn't root needs sudo.",
            form="user",
            absent="OpenSSH's own configuration decides",
        ),
        "port": integer("Port of sshd.", 1, 65535)
        | {"meta": {"doc": "Port of sshd.", "absent": "OpenSSH's own configuration decides"}},
        "key": key("Private key file.", form="text", absent="OpenSSH's agent and default keys"),
        "known_hosts": key(
            "File with the hosts' public keys; `cluster-ai trust` writes to it.",
            form="text",
            absent="`known_hosts` beside cluster.yaml, where there is one; else `~/.ssh/known_hosts`",
        ),
        "jump": key("A host to go through, as `[user@]host[:port]`.", form="jump", absent="hosts are reached directly"),
    },
)

PACKAGES: Rules = section(
    "Where hosts get Debian packages from.",
    {
        "source": key(
            "`distribution`: the sources that the host has. `mirror`: the mirror below. "
            "`bundle`: this machine downloads the packages and carries them there, for hosts without a way out.",
            type="string",
            allowed=["distribution", "mirror", "bundle"],
            default="distribution",
        ),
        "mirror": key("Address of the mirror, for `source: mirror`.", form="url", absent="no mirror"),
    },
)

FIREWALL: Rules = section(
    "Who may reach the hosts. **By default all input is closed on every host**, but SSH, ICMP and the cluster's "
    "own ports: whatever else a machine serves (a web server, NFS, a database) can't be reached from outside any "
    "more until it stands in `allow`. Connections that hosts begin themselves, and what they forward (containers, "
    "virtual machines), are not touched.",
    {
        "manage": key(
            "`false`: the hosts' firewall is left alone, and our rules are removed where they were. The ports in "
            "ARCHITECTURE.md are yours to open then, and to close to everybody else.",
            type="boolean",
            default=True,
        ),
        "allow": key(
            "Ports that every host opens beside the cluster's; without `from`, to anyone. `from` takes an address, "
            "a network, or a host name, which each host resolves when it is converged.",
            type="list",
            default=[],
            schema={"form": "opening", "meta": {"doc": "Ports of a service."}},
        ),
    },
)
