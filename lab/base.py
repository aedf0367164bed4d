"""The base system that all hosts share, made once with debootstrap; each host writes into an overlay of its own."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from lab.context import BASES, EXTRA_PACKAGES, run

PACKAGES = (
    *(
        "systemd",
        "systemd-sysv",
        "dbus",
        "openssh-server",
        "python3",
        "python3-venv",
        "python3-apt",
        "sudo",
        "iproute2",
    ),
    *("iputils-ping", "ca-certificates", "curl", "nftables", "rsync", "procps", "avahi-daemon"),
)
STOPPED = ("avahi-daemon.service", "avahi-daemon.socket")  # for who starts it
# Units that wait for what a container has not, or that would disturb a measurement.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("systemd-timesyncd.service", "systemd-networkd-wait-online.service", "console-getty.service", "getty@.service"),
    "systemd-pstore.service",
)


def base(distro: str) -> Path:
    """The folder of the base system, built when it isn't there yet (about 50 s)."""
    root = BASES / "-".join(["base", distro, *EXTRA_PACKAGES])
    made_of, packages = root / ".lab-ok", [*PACKAGES, *EXTRA_PACKAGES]
    if made_of.exists() and made_of.read_text().split() == packages:
        return root
    started = time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    BASES.mkdir(parents=True, exist_ok=True)
    run(
        "debootstrap",
        "--variant=minbase",
        "--include=" + ",".join(packages),
        distro,
        root,
        *mirror(),
    )
    etc = root / "etc"
    for identity in (
        *etc.glob("ssh/ssh_host_*"),
        *root.glob("var/cache/apt/archives/*.deb"),
        *root.glob("var/lib/apt/lists/*_*"),
        etc / "machine-id",
    ):
        identity.unlink(missing_ok=True)
    for unit in MASKED:
        (etc / "systemd/system" / unit).unlink(missing_ok=True)
        (etc / "systemd/system" / unit).symlink_to("/dev/null")
    for unit in (*STOPPED, *EXTRA_PACKAGES):  # extra daemons: installed, not started
        run("systemctl", f"--root={root}", "disable", unit, check=False)
    run("systemctl", f"--root={root}", "enable", "systemd-networkd", "ssh")
    (etc / "systemd/journald.conf.d").mkdir(exist_ok=True)
    (etc / "systemd/journald.conf.d/lab.conf").write_text("[Journal]\nStorage=persistent\nSystemMaxUse=64M\n")
    (etc / "ssh/sshd_config.d/lab.conf").write_text(
        "UseDNS no\nMaxStartups 200\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    )
    run("chroot", root, "useradd", "-m", "-s", "/bin/bash", "deploy")
    (etc / "sudoers.d/deploy").write_text("deploy ALL=(ALL) NOPASSWD:ALL\n")
    made_of.write_text(" ".join(packages))
    print(f"lab: base {distro} built in {time.monotonic() - started:.1f} s")
    return root


def mirror() -> list[str]:
    """The mirror that this machine itself uses, as debootstrap's argument."""
    for sources in Path("/etc/apt/sources.list.d").glob("debian.sources"):
        for line in sources.read_text().splitlines():
            if line.startswith("URIs:"):
                return [line.split()[1]]
    return []
