"""OpenSSH's command line for the hosts of a cluster. Host keys are always checked; nothing asks for a password."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cluster_ai import runtime
from cluster_ai.config.model import Ssh

CONNECT_TIMEOUT = 10  # seconds
PERSIST = 60  # seconds a shared connection outlives its last use
# OpenSSH's default exchange since 9.0, sntrup761x25519, takes some 80 ms of the controller's CPU a host; this takes 10.
LIGHT = "^curve25519-sha256"


def ssh_options(ssh: Ssh, *, persist: bool = True, light: bool = False) -> list[str]:
    """What `ssh`, `scp`, `sftp` and Ansible's ssh connection understand alike: all settings but user, port and key."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(CONNECT_TIMEOUT),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
    }
    if ssh.known_hosts:
        options["UserKnownHostsFile"] = _quoted(ssh.known_hosts)
        options["GlobalKnownHostsFile"] = "/dev/null"  # the file that is named decides alone
    if ssh.key:
        options["IdentitiesOnly"] = "yes"
    if persist:
        options |= {
            "ControlMaster": "auto",
            "ControlPath": f"{_quoted(runtime.folder())}/{_identity(ssh, light=light)}%C",
            "ControlPersist": f"{PERSIST}s",
        }
    if light:
        options["KexAlgorithms"] = LIGHT
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return [*words, "-J", ssh.jump] if ssh.jump else words


def ssh_argv(ssh: Ssh, address: str, *, persist: bool = True, light: bool = False) -> list[str]:
    """`ssh` up to and with the address; a remote command follows as one more argument.

    persist: share a connection with the calls that follow soon. light: a cheap key exchange, for what is no secret: a
    quantum computer of later years could read what was recorded of it. It shares a connection with its like only.
    """
    argv = ["ssh", "-T", *ssh_options(ssh, persist=persist, light=light)]
    if ssh.user:
        argv += ["-l", ssh.user]
    if ssh.port:
        argv += ["-p", str(ssh.port)]
    if ssh.key:
        argv += ["-i", str(ssh.key)]
    return [*argv, "--", address]


def _identity(ssh: Ssh, *, light: bool) -> str:
    """Who asks, and whom it believes: %C alone would share a connection with one who has another key or known_hosts."""
    return hashlib.sha256(f"{ssh.key}\0{ssh.known_hosts}\0{light}".encode()).hexdigest()[:8]


def _quoted(path: Path) -> str:
    """A path inside of an option: OpenSSH splits at blanks and expands %."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text
