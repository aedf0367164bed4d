"""The lab itself: what a killed run left of it is ended by name, from any checkout."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lab.context import CGROUPS
from tests.lab.conftest import Lab


def test_a_lab_whose_folder_is_elsewhere_or_gone_is_ended_by_its_name(
    make_lab: Callable[[str, int, int], Lab], tmp_path: Path
) -> None:
    lab = make_lab("stray", 97, 1)
    (lab.dir / "hosts" / "h1" / "pid").unlink()
    assert list(CGROUPS.glob("*/stray/h1"))

    another_checkout = replace(lab, dir=tmp_path / "stray")
    another_checkout("down")

    assert not list(CGROUPS.glob("*/stray"))
    assert not Path("/run/netns/stray-h1").exists()
    another_checkout("down")  # nothing is left, and nothing fails
    lab("down")
    shutil.rmtree(tmp_path / "stray")
