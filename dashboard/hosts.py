"""The machines beneath, by their node_exporters: how full they are, and what drifted on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dashboard import units
from dashboard.prometheus import Sample, by_label

CHECKS = 3 * 3600.0  # seconds within which a host must have checked itself; it does once an hour

HOST_CPU = '1 - avg by (host) (rate(node_cpu_seconds_total{{mode="idle"}}[{window}]))'
HOST_MEMORY_TOTAL = "max by (host) (node_memory_MemTotal_bytes)"
HOST_MEMORY_USED = "max by (host) (node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes)"
HOST_DISK_FREE = 'max by (host) (node_filesystem_avail_bytes{mountpoint="/"})'
HOST_DISK_TOTAL = 'max by (host) (node_filesystem_size_bytes{mountpoint="/"})'
DRIFT = "max by (host, kind) (cluster_drift) > 0"
CHECKED = "max by (host) (cluster_drift_checked_timestamp_seconds)"
# Hosts that are there, and were there when the last check should have been.
AWAITED = f'max by (host) (up{{job="node"}} == 1 and (up{{job="node"}} offset {CHECKS:.0f}s == 1))'


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    cpu: float | None  # 0..1
    memory_used: float | None  # bytes
    memory_total: float | None
    disk_free: float | None  # bytes on /
    disk_total: float | None
    drift: Mapping[str, int] = field(default_factory=dict)  # kind -> how many things differ
    checked: float | None = None  # epoch seconds; None: never, as far as Prometheus knows
    awaited: bool = False  # it has been there for long enough to have checked itself

    def drifted(self) -> str:
        """Such as "2 files, 1 unit"; empty where nothing differs."""
        kinds = ((kind if number > 1 else kind.removesuffix("s"), number) for kind, number in self.drift.items())
        return ", ".join(f"{number} {kind}" for kind, number in kinds)

    def overdue(self, now: float) -> bool:
        """It checked itself, but too long ago."""
        return self.checked is not None and now - self.checked > CHECKS

    def drift_told(self, now: float) -> str | None:
        """For a table; None where it checked itself and nothing differs."""
        if self.checked is None:
            return "not checked yet"
        what = self.drifted()
        if not what and not self.overdue(now):
            return None
        return f"{what or 'not known'}, checked {units.duration(now - self.checked)} ago"


def queries(window: str) -> dict[str, str]:
    """What `read` wants answered. window: that rates look back over."""
    return {
        "host_cpu": HOST_CPU.format(window=window),
        "host_used": HOST_MEMORY_USED,
        "host_total": HOST_MEMORY_TOTAL,
        "host_free": HOST_DISK_FREE,
        "host_size": HOST_DISK_TOTAL,
        "host_drift": DRIFT,
        "host_checked": CHECKED,
        "host_awaited": AWAITED,
    }


def read(told: Mapping[str, list[Sample]]) -> tuple[Host, ...]:
    """Every host that a node_exporter tells of; none where there is none. told: the answers to `queries`."""
    cpu, used, total, free, size, checked, awaited = (
        by_label(told[f"host_{key}"], "host") for key in ("cpu", "used", "total", "free", "size", "checked", "awaited")
    )
    drift = told["host_drift"]
    return tuple(
        Host(
            name,
            cpu.get(name),
            used.get(name),
            total.get(name),
            free.get(name),
            size.get(name),
            _of_host(drift, name),
            checked.get(name),
            name in awaited,
        )
        for name in sorted({*cpu, *total, *size, *checked})
    )


def _of_host(drift: list[Sample], host: str) -> dict[str, int]:
    found = {s.labels["kind"]: round(s.value) for s in drift if s.labels.get("host") == host and s.value}
    return dict(sorted(found.items()))
