"""Loads what roles carry in Python, which is not a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def role_yaml(role: str, file: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / file).read_text())
