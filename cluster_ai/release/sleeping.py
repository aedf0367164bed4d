"""How a standby host goes to sleep: one thing, which cluster.yaml names, when its Dask worker leaves a mark."""

from __future__ import annotations

from cluster_ai import layout
from cluster_ai.config.model import Sleep
from cluster_ai.release.service import SANDBOX, Unit

_MARK = layout.STATE / "worker" / layout.SLEEP_MARK


def sleep(how: Sleep) -> Unit:
    """As root, for only root may; the mark says when, never what."""
    text = (
        f"[Unit]\nDescription=Cluster AI: let this standby host sleep\n\n"
        f"[Service]\nType=oneshot\nExecStartPre=/bin/rm -f {_MARK}\nExecStart=/usr/bin/systemctl {how}\n"
        f"PrivateDevices=yes\nMemoryDenyWriteExecute=yes\n{SANDBOX}"
        "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n"  # to systemd
        "CapabilityBoundingSet=CAP_DAC_OVERRIDE\n"  # the mark is another user's
        f"ReadWritePaths={_MARK.parent}\n"
    )
    return Unit(layout.SLEEP, text, launched=False)


def sleep_path() -> Unit:
    text = (
        f"[Unit]\nDescription=Cluster AI: whether this standby host may sleep\nPartOf={layout.TARGET}\n\n"
        f"[Path]\nPathExists={_MARK}\n\n[Install]\nWantedBy={layout.TARGET}\n"
    )
    return Unit(layout.SLEEP_PATH, text, launched=False)
