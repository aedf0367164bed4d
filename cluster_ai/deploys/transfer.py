"""Large files to a host: rsync over OpenSSH: much faster than paramiko's SFTP, and it goes on where it was cut off."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import which

from gevent import subprocess
from pyinfra.api import Host

from cluster_ai import layout
from cluster_ai.deploys.remote import Failure

_PERCENT = re.compile(rb"(\d+)%")


def send(host: Host, files: Sequence[tuple[str, str]], user: str, on_percent: Callable[[int], None]) -> None:
    """Bring files, given as (name there, path here), into layout.INCOMING. user: who may write there.

    They grow under their names, so that they can be handed on meanwhile.
    """
    if not which("rsync"):
        raise Failure("there is no rsync on this machine", remedy="apt install rsync", kind="host")
    with tempfile.TemporaryDirectory(prefix="cluster-ai-") as folder:
        for name, path in files:
            (Path(folder) / name).symlink_to(Path(path).absolute())
        shell, where = ssh(host)
        target = f"{user}@{f'[{where}]' if ':' in where else where}:{layout.INCOMING}/"
        flags = ("-rLt", "--inplace", "--timeout=60", "--info=progress2", "--outbuf=N")
        command = ("rsync", *flags, "-e", shlex.join(shell), f"{folder}/", target)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            last = -1
            while chunk := process.stdout.read1(4096):
                shown = _PERCENT.findall(chunk)
                if shown and int(shown[-1]) != last:
                    last = int(shown[-1])
                    on_percent(last)
            said = process.stderr.read().decode(errors="replace")
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code:
        raise _failure(code, said)


def ssh(host: Host) -> tuple[list[str], str]:
    """OpenSSH's command line, and the address: as given, else from the data that pyinfra's own connector has."""
    given = host.data.get("cluster_ai_rsync")
    if given:
        return list(given[:-2]), given[-1]  # without "--", address
    data = host.connector.data
    words = [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=10",
        "-o",
        "ServerAliveInterval=5",
        "-o",
        "ServerAliveCountMax=4",
    ]
    for option, key in (("-F", "ssh_config_file"), ("-p", "ssh_port"), ("-i", "ssh_key")):
        if data[key]:
            words += [option, str(Path(data[key]).expanduser()) if option != "-p" else str(data[key])]
    for option, key in (
        ("UserKnownHostsFile", "ssh_known_hosts_file"),
        ("StrictHostKeyChecking", "ssh_strict_host_key_checking"),
    ):
        if data[key]:
            words += ["-o", f"{option}={data[key]}"]
    return words, data["ssh_hostname"] or host.name


def _failure(code: int, said: str) -> Failure:
    lines = [line for line in said.strip().splitlines() if line] or [f"rsync ends with {code}"]
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return disk_full()
    if "rsync: command not found" in said or "rsync: not found" in said:
        return no_rsync()
    return Failure(
        f"files can't be brought there: {lines[0]}",
        kind="host",
        said=said if code == 255 else "",
        remedy="run it again: it goes on where it was",
    )


def disk_full() -> Failure:
    return Failure("the disk is full", kind="host", remedy=f"free some space for {layout.STATE}, then run it again")


def no_rsync() -> Failure:
    return Failure(
        "has no rsync",
        kind="host",
        remedy="converge its host layer (cluster-ai apply --converge), or: apt install rsync",
    )
