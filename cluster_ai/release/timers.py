"""What a host does by itself from time to time: it looks for drift, and renews its certificate. As root: see each."""

from __future__ import annotations

from cluster_ai import layout
from cluster_ai.release.service import LAUNCH, MIB, SANDBOX, Unit


def verify() -> Unit:
    """As root, since it reads what is every component's; it may write what it found, and nothing else."""
    text = (
        f"[Unit]\nDescription=Cluster AI: look for drift\nAfter={layout.TARGET}\n\n"
        f"[Service]\nType=oneshot\nExecStart={LAUNCH} python3 -m cluster_ai.host verify etc/host.json\n"
        "SuccessExitStatus=2\n"  # it found some
        "TimeoutStartSec=30min\nNice=19\nCPUSchedulingPolicy=idle\nIOSchedulingClass=idle\nCPUWeight=1\n"
        f"IOWeight=1\nMemoryMax={512 * MIB}\nCacheDirectory=cluster-ai/verify\nPrivateDevices=yes\n"
        f"MemoryDenyWriteExecute=yes\n{SANDBOX}"
        "ProtectProc=default\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE\n"  # whose a socket is
        "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n"  # to systemd
        f"ReadWritePaths={layout.STATE} -{layout.TEXTFILES}\n"
    )
    return Unit(layout.VERIFY, text)  # what it runs from restarts nothing: each run of it is a new one


def verify_timer() -> Unit:
    text = (
        f"[Unit]\nDescription=Cluster AI: look for drift every hour\nPartOf={layout.TARGET}\n\n"
        "[Timer]\nOnBootSec=5min\nOnUnitActiveSec=1h\nRandomizedDelaySec=10min\nAccuracySec=1min\n\n"
        f"[Install]\nWantedBy={layout.TARGET}\n"
    )
    return Unit(layout.VERIFY_TIMER, text, launched=False)


def renew() -> Unit:
    """As root, since only root may write what all components read."""
    text = (
        f"[Unit]\nDescription=Cluster AI: renew this host's certificate\nAfter={layout.TARGET}\n\n"
        f"[Service]\nType=oneshot\nExecStart={LAUNCH} python3 -m cluster_ai.host renew etc/renew.json\n"
        f"TimeoutStartSec=2min\nMemoryMax={256 * MIB}\nCacheDirectory=cluster-ai/renew\nPrivateDevices=yes\n"
        f"Environment={layout.TLS_VARIABLE}={layout.TLS}\n"
        f"MemoryDenyWriteExecute=yes\n{SANDBOX}SystemCallFilter=@chown\n"
        "CapabilityBoundingSet=CAP_CHOWN\n"
        f"ReadWritePaths={layout.STATE}\n"
    )
    return Unit(layout.RENEW, text)


def renew_timer(*, sleeps: bool) -> Unit:
    """Often against half a certificate's life: a head host that is away for days costs nobody a certificate.

    sleeps: the host may be suspended, which the other clocks don't count.
    """
    calendar = "OnCalendar=00/6:00\n" if sleeps else ""
    text = (
        f"[Unit]\nDescription=Cluster AI: renew this host's certificate in time\nPartOf={layout.TARGET}\n\n"
        f"[Timer]\nOnBootSec=2min\nOnUnitActiveSec=6h\n{calendar}RandomizedDelaySec=20min\nAccuracySec=1min\n\n"
        f"[Install]\nWantedBy={layout.TARGET}\n"
    )
    return Unit(layout.RENEW_TIMER, text, launched=False)
