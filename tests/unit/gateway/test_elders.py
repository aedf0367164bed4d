from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cluster_ai.gateway.elders import FRESH, Elders


def test_what_all_others_have_under_way_is_added_up(tmp_path: Path) -> None:
    for pid, count in ((1, 2), (2, 3)):
        Elders(tmp_path, pid).tell({"a": count, "b": 0})
    assert dict(Elders(tmp_path, 3).in_flight()) == {"a": 5}
    assert dict(Elders(tmp_path, 2).in_flight()) == {"a": 2}
    Elders(tmp_path, 1).forget()
    assert dict(Elders(tmp_path, 3).in_flight()) == {"a": 3}


def test_one_that_was_killed_counts_no_more(tmp_path: Path) -> None:
    Elders(tmp_path, 1).tell({"a": 2})
    (path,) = tmp_path.iterdir()
    old = time.time() - FRESH - 1
    os.utime(path, (old, old))
    assert not Elders(tmp_path, 2).in_flight()
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": "x"}', '{"a": null}'])
def test_a_file_that_cannot_be_read_counts_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "ending-1.json").write_text(text)
    assert not Elders(tmp_path, 2).in_flight()


def test_without_a_folder_or_on_a_full_disk_nothing_is_told(tmp_path: Path) -> None:
    Elders(None).tell({"a": 1})
    Elders(None).forget()
    assert not Elders(None).in_flight()
    Elders(tmp_path / "absent").tell({"a": 1})
