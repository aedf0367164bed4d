"""Scripts of this repository that are no part of a package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from tests.rig.processes import REPOSITORY


def script(path: str) -> ModuleType:
    """As a module. path: within the repository."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
