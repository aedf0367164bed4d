"""A task's own process, by a plugin whose functions leave processes behind that hold whatever they were given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster_ai.tasks import process
from cluster_ai.tasks.process import FinalError, Place, run
from cluster_ai.tasks.progress import Progress
from tests.rig.processes import REPOSITORY, until

PLUGIN = """
import os, sys, time
from cluster_ai.tasks.progress import report

def leave(path, wait):
    child = os.fork()
    if not child:
        time.sleep(600)
    open(path, "w").write(str(child))
    report(0.5, "forked")
    time.sleep(wait)
    return "left"

def loud():
    sys.stderr.write("x" * 100_000 + "\\n")
    raise ValueError("at last")

def much(size):
    return "x" * size
"""


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving.py").write_text(PLUGIN)
    told = tmp_path / "leaving-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: leaving\nVersion: 1\n")
    functions = "".join(f"{name} = leaving:{name}\n" for name in ("leave", "loud", "much"))
    (told / "entry_points.txt").write_text(f"[cluster_ai.tasks]\n{functions}")
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}:{tmp_path}")


def asked(function: str, timeout: float = 60.0, **arguments: Any) -> dict[str, Any]:
    payload = {"function": function, "arguments": arguments}
    return {"id": "t", "kind": "custom", "payload": payload, "memory": 0, "cpu": 1, "timeout": timeout}


class Stop:
    """Ends the task with its first progress."""

    end: Callable[[], None]

    @contextmanager
    def stoppable(self, end: Callable[[], None]) -> Iterator[None]:
        self.end = end
        yield

    def heard(self, progress: Progress) -> None:
        self.end()


def there(path: Path) -> bool:
    try:
        state = Path(f"/proc/{path.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_a_task_has_started_ends_with_it(tmp_path: Path) -> None:
    assert (
        run(asked("leave", path=str(tmp_path / "pid"), wait=0), lambda it: None, Stop().stoppable, {}, Place())
        == "left"
    )
    until(lambda: not there(tmp_path / "pid"))


def test_one_that_is_stopped_ends_at_once_with_what_it_has_started(tmp_path: Path) -> None:
    stop = Stop()
    with pytest.raises(RuntimeError, match="leave: killed"):
        run(asked("leave", path=str(tmp_path / "pid"), wait=600), stop.heard, stop.stoppable, {}, Place())
    until(lambda: not there(tmp_path / "pid"))


def test_so_does_one_whose_time_is_over(tmp_path: Path) -> None:
    with pytest.raises(FinalError, match="stopped after 3 s, its timeout"):
        run(asked("leave", 3.0, path=str(tmp_path / "pid"), wait=600), lambda it: None, Stop().stoppable, {}, Place())
    until(lambda: not there(tmp_path / "pid"))


def test_of_what_it_writes_only_the_last_line_is_told_and_a_result_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"^loud: ValueError: at last$"):
        run(asked("loud"), lambda it: None, Stop().stoppable, {}, Place())
    monkeypatch.setattr(process, "RESULT_LIMIT", 1000)
    with pytest.raises(FinalError, match="the result has 1002 bytes of JSON; at most 1000 are kept"):
        run(asked("much", size=1000), lambda it: None, Stop().stoppable, {}, Place())


def test_one_that_can_not_be_begun_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(sys, "executable", "/none")  # as where no more processes may be begun
    with pytest.raises(OSError, match="/none"):
        run(asked("loud"), lambda it: None, Stop().stoppable, {}, Place())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
