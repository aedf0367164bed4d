"""What a host answers to a script; and what ssh or sudo say instead of the script, in words that say what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster_ai.errors import HostAwayError, HostError, HostKeyError


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script said. A non-zero exit that is the script's own is no error here."""

    host: str
    returncode: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class _Fault:
    """A way in which ssh or sudo refuses: words in its message, what that means, what to do."""

    signs: tuple[str, ...]
    what: str
    remedy: str
    quote: bool = field(default=False)  # add the message's own line
    away: bool = field(default=False)  # the host may be off


_SSH_FAULTS = (
    _Fault(
        ("UNPROTECTED PRIVATE KEY FILE", "bad permissions"),
        "ssh refuses the private key, because others may read it",
        "chmod 600 the key file",
    ),
    _Fault(
        ("Bad owner or permissions on", "Bad configuration option", "terminating, "),
        "ssh can't use its own configuration",
        "correct it",
        quote=True,
    ),
    _Fault(
        ("Permission denied (", "Too many authentication failures", "No more authentication methods"),
        "refuses our SSH key",
        "put the public key into authorized_keys of that user (ssh-copy-id), or set ssh.user and ssh.key in "
        "cluster.yaml; a key with a passphrase must be in the agent (ssh-add)",
    ),
    _Fault(
        ("Could not resolve hostname", "Name or service not known"),
        "its name leads to no address",
        "correct the host in cluster.yaml, or the name service",
        quote=True,
    ),
    _Fault(
        ("Connection refused",),
        "refuses connections to its SSH port",
        "start sshd there, or set ssh.port in cluster.yaml",
    ),
    _Fault(
        ("No route to host", "Network is unreachable"),
        "can't be reached",
        "see that it is up, and on a network that this machine reaches",
        away=True,
    ),
    _Fault(
        ("timed out", "Timeout, server"),
        "doesn't answer",
        "see that it is up, and that no firewall drops the SSH port",
        away=True,
    ),
    _Fault(
        ("Connection closed", "Connection reset", "kex_exchange_identification", "Broken pipe"),
        "breaks the connection off",
        "read sshd's log on it; a reboot, or sshd's MaxStartups, does this",
        quote=True,
    ),
)
_SUDO_FAULTS = (
    _Fault(
        ("Sorry, try again", "incorrect password attempt", "Authentication failed"),
        "sudo refuses the password",
        "give the right one: --ask-sudo-password, or CLUSTER_AI_SUDO_PASSWORD",
    ),
    _Fault(
        ("password is required", "no password was provided", "terminal is required"),
        "sudo asks for a password",
        "give it: --ask-sudo-password, or CLUSTER_AI_SUDO_PASSWORD; or allow the user sudo without one",
    ),
    _Fault(
        ("not in the sudoers file", "is not allowed to", "may not run sudo"),
        "the user may not become root",
        "add it to the group sudo there, or set ssh.user to one who may",
    ),
    _Fault(
        ("sudo: not found", "sudo: command not found"),
        "has no sudo, and the user isn't root",
        "install sudo there, or set ssh.user to root",
    ),
)


def refused(reply: Reply) -> HostError | None:
    """The error in a reply that is ssh's or sudo's, not the script's."""
    if reply.returncode == 255:
        return (
            _host_key(reply)
            or _fault(_SSH_FAULTS, reply)
            or HostError(
                _last_line(reply.stderr) or "ssh fails without a word",
                where=reply.host,
                remedy=f"try it by hand: ssh -v {reply.host}",
            )
        )
    if reply.returncode and not reply.stdout:
        return _fault(_SUDO_FAULTS, reply)
    return None


CONSOLE = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"  # what says a host's fingerprint on the host itself


def _host_key(reply: Reply) -> HostKeyError | None:
    """What OpenSSH says of host keys: which it has, where, and which is offered instead."""
    host, text = reply.host, reply.stderr
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
        from cluster_ai.inventory.known_hosts import at

        shown = re.search(r"SHA256:[A-Za-z0-9+/]+", text)
        place = re.search(r"^Offending (?:\S+ )?key in (.+):(\d+)", text, re.MULTILINE)
        known = at(Path(place[1]), int(place[2])) if place else None
        there = f"{place[1]}:{place[2]} has {known.fingerprint}" if place and known else "known_hosts has another"
        return HostKeyError(
            f"its SSH host key has changed: it shows {shown[0] if shown else 'one'}, but {there}",
            changed=True,
            where=host,
            remedy="if it was installed anew, ask whoever did that for the new fingerprint (on its console: "
            f"{CONSOLE}), and when it is this one: cluster-ai trust {host}. If nobody knows of it, somebody may stand "
            "between: don't",
        )
    if "Host key verification failed" in text or "host key is known for" in text:
        return HostKeyError(
            "its SSH host key is not known here",
            changed=False,
            where=host,
            remedy=f"cluster-ai trust {host} shows its fingerprint and asks; or bring a file of keys that are known: "
            "ssh.known_hosts in cluster.yaml",
        )
    return None


def _fault(faults: Sequence[_Fault], reply: Reply) -> HostError | None:
    for fault in faults:
        line = next((ln for ln in reply.stderr.splitlines() if any(sign in ln for sign in fault.signs)), None)
        if line is not None:
            what = f"{fault.what} ({line.strip()})" if fault.quote else fault.what
            kind = HostAwayError if fault.away else HostError
            return kind(what, where=reply.host, remedy=fault.remedy.format(address=reply.host))
    return None


def _last_line(text: str) -> str:
    return next((ln.strip() for ln in reversed(text.splitlines()) if ln.strip()), "")
