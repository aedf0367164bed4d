"""The public keys of hosts that this cluster believes, in OpenSSH's file format, and how a key is asked for.

The file is `known_hosts` beside cluster.yaml (or `ssh.known_hosts`), to be committed. OpenSSH itself is asked what a
host offers: so the name in the file is the one that it looks for, whatever ~/.ssh/config makes of an address, also
through a jump host. What is asked so is not believed: `pin` is for what a person, or a fingerprint from elsewhere,
confirmed.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import hmac
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster_ai.config.model import Config, Ssh
from cluster_ai.errors import ConfigError, HostError
from cluster_ai.inventory.ssh import ssh_argv

FILE = "known_hosts"
AT_ONCE = 16  # clients of ssh
TIMEOUT = 20.0  # seconds for one


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key. name: as a line of known_hosts begins, such as `worker-1` or `[10.0.0.7]:2222`."""

    name: str
    kind: str  # such as ssh-ed25519
    blob: str  # base64

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` writes it."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def line(self) -> str:
        return f"{self.name} {self.kind} {self.blob}"


def path(config: Config) -> Path:
    """The file in which keys of this cluster's hosts are pinned; it may not be there yet."""
    return config.ssh.known_hosts or config.path.resolve().parent / FILE


def offered(ssh: Ssh, addresses: Sequence[str], *, timeout: float = TIMEOUT) -> dict[str, HostKey | HostError]:
    """What the hosts show as their keys now. Nobody logs in, and nothing is believed by it."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="host-keys") as threads:
        return dict(
            zip(addresses, threads.map(lambda address: _offered(ssh, address, timeout), addresses), strict=True)
        )


def find(path: Path, name: str) -> tuple[HostKey, ...]:
    """The keys that a file has for a name as OpenSSH writes it; lines for certificate authorities are passed over."""
    return tuple(HostKey(name, kind, blob) for names, kind, blob in _entries(_text(path)) if _matches(names, name))


def at(path: Path, number: int) -> HostKey | None:
    """The key in a line of a file, the first being 1."""
    lines = _lines(_text(path))
    entry = _entry(lines[number - 1]) if 0 < number <= len(lines) else None
    return HostKey(*entry) if entry else None


def pin(path: Path, keys: Sequence[HostKey]) -> None:
    """Believe these keys from now on, instead of any that the file has for their names. Comments and order stay."""
    names = {key.name for key in keys}
    kept = _without(_text(path), names)
    _write(path, "".join(f"{line}\n" for line in (*kept, *dict.fromkeys(key.line for key in keys))))


def forget(path: Path, names: Sequence[str]) -> bool:
    """Believe no key of these names any more. Says whether there was one."""
    text = _text(path)
    kept = _without(text, set(names))
    if kept == _lines(text):
        return False
    _write(path, "".join(f"{line}\n" for line in kept))
    return True


def name_of(ssh: Ssh, address: str) -> str:
    """The name under which OpenSSH looks a host up."""
    first, *rest = ssh_argv(ssh, address, persist=False)
    asked = subprocess.run([first, "-G", *rest], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    settings = dict(line.partition(" ")[::2] for line in asked.stdout.splitlines())
    if alias := settings.get("hostkeyalias"):
        return alias.lower()
    host, port = settings.get("hostname", address).lower(), settings.get("port", "22")
    return host if port == "22" else f"[{host}]:{port}"


def _offered(ssh: Ssh, address: str, timeout: float) -> HostKey | HostError:
    with tempfile.TemporaryDirectory(prefix="cluster-ai-") as folder:
        seen = Path(folder) / FILE
        options = {
            "StrictHostKeyChecking": "accept-new",  # into a file of its own, which is thrown away
            "UserKnownHostsFile": str(seen),
            "GlobalKnownHostsFile": "/dev/null",
            "HashKnownHosts": "no",
            "CheckHostIP": "no",
            "UpdateHostKeys": "no",
            "PreferredAuthentications": "none",
        }
        first, *rest = ssh_argv(ssh, address, persist=False)
        argv = [first, *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), *rest, "true"]
        from cluster_ai.provision.refusals import Reply, refused

        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False
            )
        except FileNotFoundError:
            return HostError("there is no ssh here", where=address, remedy="apt install openssh-client")
        except subprocess.TimeoutExpired:
            return HostError(f"gave no answer in {timeout:.0f} s", where=address, remedy="see that it is up")
        for names, kind, blob in _entries(_text(seen)):
            return HostKey(names, kind, blob)
        return refused(Reply(address, 255, b"", done.stderr)) or HostError("shows no host key", where=address)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=str(path)) from error


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Names, kind and key of each line that says one plainly."""
    for line in _lines(text):
        if found := _entry(line):
            yield found


def _entry(line: str) -> tuple[str, str, str] | None:
    words = line.split()
    if len(words) < 3 or words[0].startswith(("#", "@")):
        return None
    try:
        base64.b64decode(words[2], validate=True)
    except ValueError:
        return None
    return words[0], words[1], words[2]


def _matches(names: str, name: str) -> bool:
    """Whether a line's first word, a list of patterns or a hash, means a name; as sshd(8) describes it."""
    if names.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in names[3:].split("|", 1))
        except ValueError:
            return False
        return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
    found = False
    for pattern in names.lower().split(","):
        escaped = pattern.removeprefix("!").replace("[", "[[]")  # only * and ? mean anything to OpenSSH
        if fnmatch.fnmatchcase(name.lower(), escaped):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _without(text: str, names: set[str]) -> list[str]:
    """The lines, without those that say a key of the names. Other names of a line keep their key."""
    kept = []
    for line in _lines(text):
        entry = _entry(line)
        if entry is None or not (gone := [name for name in sorted(names) if _matches(entry[0], name)]):
            kept.append(line)
        elif rest := _others(entry[0], gone):
            kept.append(f"{rest} {line.split(maxsplit=1)[1]}")
    return kept


def _others(names: str, gone: Sequence[str]) -> str:
    """A line's names without some; where a pattern means them and others too, they are excepted from it."""
    if names.startswith("|1|"):
        return ""
    patterns = names.split(",")
    wide = [it for it in patterns if {"*", "?"} & set(it) or it.startswith("!")]
    rest = [it for it in patterns if it in wide or not any(_matches(it, name) for name in gone)]
    excepted = [f"!{name}" for name in gone if any(_matches(it, name) for it in wide if not it.startswith("!"))]
    return ",".join([*rest, *excepted]) if any(not it.startswith("!") for it in rest) else ""


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8", errors="surrogateescape")
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"can't be written: {error.strerror}", where=str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
