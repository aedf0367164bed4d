"""One host's life: its disk and identity, boot, power cut, hang, clean stop, reboot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from lab import network
from lab.base import base
from lab.context import BRIDGE, CGROUPS, DIR, HOSTS, NET, NSPAWN_OPTIONS, TAG, address, names, run, wait
from lab.processes import child, end, enter, leader, live, spawn

CONTROLLERS = ("systemd", "unified", "memory", "cpu", "cpuacct", "pids", "freezer")


def ssh_answers(host: str) -> bool:
    try:
        with socket.create_connection((address(host), 22), 1) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def lets_users_in(host: str) -> bool:
    """While it boots, root alone may log in (pam_nologin)."""
    return not Path(f"/proc/{leader(host)}/root/run/nologin").exists()


def wait_for_ssh(hosts: list[str], seconds: float = 600) -> None:
    def ready(host: str) -> bool:
        return ssh_answers(host) and lets_users_in(host)

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda host: wait(lambda: ready(host), seconds, 0.1), hosts))
    if silent := [host for host, answered in zip(hosts, answers, strict=True) if not answered]:
        sys.exit(f"lab: no SSH on {', '.join(silent)}; see {HOSTS}/<host>/pid.log")


def create(host: str, distro: str) -> None:
    """Disk, network port and identity, each made when it is missing."""
    folder, namespace = HOSTS / host, f"{TAG}-{host}"
    root = folder / "merged"
    for sub in ("upper", "work", "merged", "data"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    if not (folder / "distro").exists():
        (folder / "distro").write_text(distro)
    if not os.path.ismount(root):
        lower = base((folder / "distro").read_text())
        layers = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, root)
    # A namespace of its own outlives reboots, unlike nspawn's --network-bridge.
    if not run("ip", "-n", namespace, "link", "show", "host0", check=False):
        run("ip", "netns", "delete", namespace, check=False)
        run("ip", "link", "delete", namespace, check=False)
        run("ip", "netns", "add", namespace)
        run("ip", "link", "add", namespace, "type", "veth", "peer", "name", "host0", "netns", namespace)
        run("ip", "link", "set", namespace, "master", BRIDGE, "up")
    if not (root / "etc/ssh/ssh_host_ed25519_key").exists():
        identify(host, root)


def identify(host: str, root: Path) -> None:
    """Name, addresses and keys, written once per disk."""
    (root / "etc/hostname").write_text(host + "\n")
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    others = "".join(f"{address(f'h{i}')} h{i}\n" for i in range(1, 65))
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{NET}.1 controller\n{others}")
    (root / "etc/systemd/network/10-host0.network").write_text(
        f"[Match]\nName=host0\n[Network]\nAddress={address(host)}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )
    for home, uid in (("root", 0), ("home/deploy", 1000)):
        folder = root / home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(DIR / "id_ed25519.pub", folder / "authorized_keys")
        os.chown(folder, uid, uid)
        os.chown(folder / "authorized_keys", uid, uid)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", root / "etc/ssh/ssh_host_ed25519_key")


def start(host: str, distro: str) -> None:
    """Boot; returns before the host is up."""
    create(host, distro)
    if live(host):
        return
    # The namespace outlives the host: firewall rules that it had when it went off would be there before it boots.
    run("ip", "netns", "exec", f"{TAG}-{host}", "nft", "flush", "ruleset")
    # A cgroup per host: else all would share one, and collide.
    cgroups = tuple(CGROUPS / c / TAG / host for c in CONTROLLERS if (CGROUPS / c).is_dir())
    for group in cgroups:
        group.mkdir(parents=True, exist_ok=True)
    loop = 'while :; do "$@"; [ $? = 133 ] || exit 0; done'  # with --keep-unit nspawn exits 133 on a reboot from inside
    nspawn = [
        *("systemd-nspawn", "-q", "--register=no", "--keep-unit", "-b", "-D", str(HOSTS / host / "merged")),
        *(f"--machine={host}", f"--network-namespace-path=/run/netns/{TAG}-{host}"),
        *("--capability=CAP_NET_ADMIN,CAP_NET_RAW", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
        *(f"--bind={HOSTS / host}/data:/data", *NSPAWN_OPTIONS),
    ]
    env = {
        "PATH": os.environ["PATH"],
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    }
    spawn(host, "pid", ["sh", "-c", loop, f"lab-{host}", *nspawn], env=env, cgroups=cgroups)


def kill(host: str) -> None:
    """A power cut: every process of the host dies at once."""
    supervisor = live(host)
    if supervisor:
        for pid in (leader(host), child(supervisor)):  # neither exits 133, so the loop ends too
            end(pid, signal.SIGKILL)
    freeze(host, False)
    if not wait(lambda: not kill_strays(host), 120):
        sys.exit(f"lab: {host} would not die")
    (HOSTS / host / "pid").unlink(missing_ok=True)


def kill_strays(host: str) -> bool:
    """Kill what runs in the host's cgroups, its folder here or not; whether there was anything."""
    alive: set[int] = set()
    for listed in CGROUPS.glob(f"*/{TAG}/{host}/**/cgroup.procs"):
        with suppress(OSError):  # a group that goes meanwhile
            alive |= {int(pid) for pid in listed.read_text().split()} - {0}
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(alive)


def stray() -> set[str]:
    """Hosts of this lab's name that have a cgroup or a network, though perhaps no folder here."""
    spaces = (path.name.removeprefix(f"{TAG}-") for path in Path("/run/netns").glob(f"{TAG}-h*"))
    return {path.name for path in CGROUPS.glob(f"*/{TAG}/h*")} | set(spaces)


def freeze(host: str, on: bool) -> None:
    """A hang: TCP connections stay open, and nobody answers."""
    state = CGROUPS / "freezer" / TAG / host / "freezer.state"
    if state.exists():
        state.write_text("FROZEN" if on else "THAWED")


def stop(host: str) -> None:
    if pid := child(live(host)):
        os.kill(pid, signal.SIGTERM)  # nspawn asks the host's systemd to power off
        if not wait(lambda: not live(host), 120):
            kill(host)


def reboot(host: str) -> None:
    before = leader(host)
    enter(host, ["systemctl", "reboot"])
    if not wait(lambda: leader(host) not in (None, before), 300):
        sys.exit(f"lab: {host} did not reboot")


def destroy(host: str, keep_disk: bool) -> None:
    kill(host)
    end(live(host, "netem"), signal.SIGKILL)
    run("umount", "-l", HOSTS / host / "merged", check=False)
    run("ip", "netns", "delete", f"{TAG}-{host}", check=False)
    run("ip", "link", "delete", f"{TAG}-{host}", check=False)
    for group in CGROUPS.glob(f"*/{TAG}/{host}"):
        wait(partial(remove_group, group), 30)
    if not keep_disk and (HOSTS / host).exists():
        shutil.rmtree(HOSTS / host)


def remove_group(group: Path) -> bool:
    run("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";", check=False)
    return not group.is_dir()


def ssh_config() -> str:
    """OpenSSH's configuration for the lab, written to LAB_DIR/ssh_config with LAB_DIR/known_hosts beside it."""
    keys = {host: HOSTS / host / "upper/etc/ssh/ssh_host_ed25519_key.pub" for host in names()}
    known = (f"{host},{address(host)} {key.read_text()}" for host, key in keys.items() if key.exists())
    (DIR / "known_hosts").write_text("".join(known))
    text = "".join(f"Host {host}\n  HostName {address(host)}\n" for host in keys)
    text += f"""Host h* {NET}.*
  User root
  IdentityFile {DIR}/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile {DIR}/known_hosts
  StrictHostKeyChecking yes
  ConnectTimeout 5
  ServerAliveInterval 5
  ServerAliveCountMax 2
  LogLevel ERROR
"""
    (DIR / "ssh_config").write_text(text)
    return text


def status() -> Iterator[dict[str, str | bool | int]]:
    for host in names():
        memory = CGROUPS / "memory" / TAG / host / "memory.usage_in_bytes"
        running = leader(host) is not None
        yield {
            "host": host,
            "ip": address(host),
            "distro": (HOSTS / host / "distro").read_text(),
            "running": running,
            "ssh": ssh_answers(host),
            "netem": live(host, "netem") is not None,
            "mem_mib": int(memory.read_text()) >> 20 if running and memory.exists() else 0,
        }


def boot_all(count: int, distro: str) -> list[str]:
    """Make and boot h1..hN, and wait for their SSH."""
    base(distro)
    network.up()
    if not (DIR / "id_ed25519").exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", DIR / "id_ed25519")
    hosts = [f"h{i}" for i in range(1, count + 1)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: create(host, distro), hosts))
    for host in hosts:
        start(host, distro)
    wait_for_ssh(hosts)
    ssh_config()
    return hosts
