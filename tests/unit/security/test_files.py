"""A file is written whole; what is no file is left alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cluster_ai.security.files import write


def test_a_file_is_replaced_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("of before")
    write(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="no plain file"):
        write(pipe, b"new")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
