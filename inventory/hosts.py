#!/usr/bin/env python3
"""The hosts of cluster.yaml, for both tools: `pyinfra inventory/hosts.py deploy.py` reads the groups in this module,
and `ansible-playbook -i inventory/hosts.py playbooks/site.yml` runs it with --list.

cluster.yaml is the one of this checkout, or $CLUSTER_AI_CONFIG. The work is done by the checkout's own environment
(.venv), whichever Python this file is started with; where there is none, by that Python.
"""

import os
import sys
from pathlib import Path

_root = next(p for p in Path(__file__).resolve().parents if (p / "cluster_ai").is_dir())
_python = _root / ".venv" / "bin" / "python"
_config = os.environ.get("CLUSTER_AI_CONFIG") or str(_root / "cluster.yaml")
_command = [str(_python if _python.exists() else sys.executable), "-m", "cluster_ai.inventory", _config]


def _groups() -> dict[str, list[tuple[str, dict[str, object]]]]:
    """The groups for pyinfra, whose process this is: it may belong to another Python."""
    import json
    import subprocess

    from pyinfra.api.exceptions import InventoryError

    done = subprocess.run([*_command, "--pyinfra"], env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise InventoryError(done.stderr.strip() + _hint(done.stderr))
    return {name: [(host, data) for host, data in members] for name, members in json.loads(done.stdout).items()}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(_root), os.environ.get("PYTHONPATH")]))}


def _hint(error: str) -> str:
    missing = "ModuleNotFoundError" in error
    return f"\n  -> install what it needs into {_root / '.venv'}: make .venv/.local" if missing else ""


if __name__ == "__main__":
    import subprocess

    _done = subprocess.run(
        [*_command, *sys.argv[1:]], env=_environment(), stderr=subprocess.PIPE, text=True, check=False
    )
    sys.stderr.write(_done.stderr + _hint(_done.stderr))
    sys.exit(_done.returncode)
else:
    globals().update(_groups())
