"""What a check leaves on its host: metrics, the whole result for people, and notes that the next `apply` goes by.

A plan asks hosts what they are, and doesn't read their files. So what only a thorough look shows is noted where a plan
looks: in the stamp of the host layer, and in a list of what a push and a switch put right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster_ai import layout
from cluster_ai.host.certificates import ends
from cluster_ai.host.faults import KINDS
from cluster_ai.host.verify import Found
from cluster_ai.metrics.names import CERTIFICATE_END, DRIFT, DRIFT_CHECKED
from cluster_ai.metrics.text import exposition


@dataclass(frozen=True, slots=True)
class Places:
    result: Path = Path(layout.VERIFIED)
    repairs: Path = Path(layout.DRIFT)
    stamp: Path = Path(layout.HOST_STAMP)
    metrics: Path = Path(layout.TEXTFILES / "cluster-ai.prom")
    tls: Path = Path(layout.TLS)
    credentials: Path = Path(layout.CREDENTIALS)


def record(found: Found, places: Places = Places()) -> None:
    _write(places.result, json.dumps(found.as_dict(), indent=2) + "\n")
    repairs = [fault.what for fault in found.faults if fault.repair == "release"]
    if repairs:
        _write(places.repairs, "".join(f"{what}\n" for what in repairs))
    else:
        places.repairs.unlink(missing_ok=True)
    lost = [str(fault) for fault in found.faults if fault.repair == "host layer"]
    if lost and places.stamp.exists():
        _write(places.stamp, f"{layout.DRIFTED}{'; '.join(lost)}\n")
    if places.metrics.parent.is_dir():  # else there is no node_exporter, which is told as a fault of its own
        _write(places.metrics, _exposition(found, places))


def _exposition(found: Found, places: Places) -> str:
    counts = {f'kind="{kind}"': float(len(found.of(kind))) for kind in KINDS}
    ending = {f'certificate="{what}"': end for what, end in ends(places.tls, places.credentials).items()}
    return exposition({DRIFT: counts, DRIFT_CHECKED: {"": round(found.at, 3)}, CERTIFICATE_END: ending})


def _write(path: Path, text: str) -> None:
    """In one step, for everybody to read."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)
