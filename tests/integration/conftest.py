"""What several of these tests start once for all of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import cluster as rig


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one that has the smallest model."""
    with rig.engine(tmp_path_factory.mktemp("engine")) as url:
        yield url
