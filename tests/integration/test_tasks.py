"""Tasks over a real Dask whose parts die: what was acknowledged comes to an end, and once where it must be once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE, until
from tests.rig.tasks import Site, site

pytestmark = pytest.mark.integration


@pytest.fixture
def here(tmp_path: Path, engine: str) -> Iterator[Site]:
    with site(tmp_path, engine) as found:
        yield found


def note(folder: Path, text: str, *, until: Path | None = None, **more: Any) -> dict[str, Any]:
    arguments = {"path": str(folder / "evidence"), "text": text, "until": str(until) if until else None}
    return {"kind": "custom", "payload": {"function": "note", "arguments": arguments}, **more}


def evidence(folder: Path) -> list[str]:
    path = folder / "evidence"
    return path.read_text().splitlines() if path.exists() else []


def test_tasks_come_to_their_results_and_say_who_had_them(here: Site, tmp_path: Path) -> None:
    with here.scheduler(), here.worker("w1"), here.manager("w1"):
        infer = {"kind": "ai_inference", "payload": {"model": rig.MODEL, "prompt": "Hi", "options": {"num_predict": 3}}}
        failing = {
            "kind": "custom",
            "payload": {"function": "fail", "arguments": {"path": str(tmp_path / "n"), "times": 2}},
        }
        ids = here.submit(infer, note(tmp_path, "one"), {**failing, "retries": 2}, note(tmp_path, "two", tags=["t"]))
        unknown = here.submit({"kind": "custom", "payload": {"function": "nothing"}})
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.csv").write_text("shop,n\nnorth,1\nnorth,2\nsouth,3\n")
        steps = [{"do": "aggregate", "by": ["shop"], "of": {"n": "sum"}}]
        (table,) = here.submit({"kind": "data_processing", "payload": {"input": "*.csv", "steps": steps}})
        (large,) = here.submit({"kind": "custom", "payload": {"function": "much", "arguments": {"size": 1 << 20}}})
        until(lambda: here.ended(*ids, *unknown, large, table))
        assert [here.task(it)["state"] for it in ids] == ["done"] * 4
        assert here.ask("GET", f"/tasks/{ids[0]}/result")["result"]["response"]
        assert here.ask("GET", f"/tasks/{ids[1]}/result")["result"] == {"said": "one"}
        assert (here.task(ids[2])["attempt"], here.task(ids[2])["worker"]) == (3, "w1")
        assert (
            "no installed plugin has this function; there are: eat, fail, hold, much, note"
            in here.task(unknown[0])["error"]
        )
        said = here.ask("GET", f"/tasks/{table}/result")
        assert (said["result"], said["file"]["filename"]) == ({"rows": 2, "columns": ["shop", "n_sum"]}, "result.csv")
        assert here.read(f"/files/{said['file']['id']}/content") == b"shop,n_sum\nnorth,3\nsouth,3\n"
        said = here.ask("GET", f"/tasks/{large}/result")
        assert (said["result"], here.task(large)["result_file"]) == (None, said["file"]["id"])
        content = here.read(f"/files/{said['file']['id']}/content")
        assert json.loads(content) == {"text": "x" * (1 << 20)}
        assert said["file"]["sha256"] == hashlib.sha256(content).hexdigest()
        here.ask("DELETE", f"/files/{said['file']['id']}")
        assert here.ask("GET", f"/tasks/{large}/result")["code"] == "result_deleted"
        assert [t["id"] for t in here.ask("GET", "/tasks?user=ada&tag=t&most=10")["tasks"]] == [ids[3]]
        assert here.ask("GET", f"/tasks/{ids[1]}?user=bob")["code"] == "task_not_found"


def test_the_same_key_is_the_same_task(here: Site, tmp_path: Path) -> None:
    with here.manager("w1"):
        (first,) = here.submit(note(tmp_path, "once"), keys=["k"])
        assert here.submit(note(tmp_path, "once"), note(tmp_path, "other"), keys=["k", None])[0] == first
        assert here.submit(note(tmp_path, "once"), keys=["k"], user="bob") != [first]


def test_what_no_worker_can_run_is_refused_with_what_each_lacks(here: Site, tmp_path: Path) -> None:
    with here.manager("w1"):
        said = here.ask("POST", "/tasks", {"tasks": [note(tmp_path, "x", gpu=2)], "keys": [None], "user": "ada"})
        assert said["message"] == "tasks[0]: no worker can run it: w1 lacks gpu 0 of 2"


@pytest.mark.parametrize("victim", ["scheduler", "manager", "worker", "all"])
def test_whoever_is_killed_no_task_is_lost_and_none_that_may_not_begins_twice(
    here: Site, tmp_path: Path, victim: str
) -> None:
    go = tmp_path / "go"
    with ExitStack() as stack:
        scheduler, worker = stack.enter_context(here.scheduler()), stack.enter_context(here.worker("w1", cpu=2))
        manager = stack.enter_context(here.manager("w1"))
        beside = note(tmp_path, "beside", until=go, idempotent=True)
        running, _ = here.submit(note(tmp_path, "running", until=go), beside)
        until(lambda: sorted(evidence(tmp_path)) == ["beside", "running"], what="both its processors have a task")
        # One of them is with Dask, and the worker has room for it but for the one beside; the others are not, yet.
        waiting = here.submit(*(note(tmp_path, f"waiting {n}") for n in range(5)))
        again = here.submit(*(note(tmp_path, f"again {n}", idempotent=True) for n in range(5)))
        until(lambda: here.ask("GET", "/counts")["counts"]["sent"] == 12, what="all are taken")

        parts = {"scheduler": scheduler, "manager": manager, "worker": worker}
        victims = set(parts) if victim == "all" else {victim}
        if victim == "scheduler":
            victims.add("worker")  # it ends by itself then, but gives its thread half a minute
        for name in victims:
            parts[name].stop(kill=True)
        if "scheduler" in victims:
            stack.enter_context(here.scheduler())
        if "worker" in victims:
            stack.enter_context(here.worker("w1", cpu=2))
        if "manager" in victims:
            stack.enter_context(here.manager("w1"))
        go.touch()
        until(lambda: here.ended(running, *waiting, *again), what="all tasks have ended")

        assert [here.task(it)["error"] for it in (*waiting, *again)] == [None] * 10
        assert {here.task(it)["state"] for it in (*waiting, *again)} == {"done"}
        told = here.task(running)
        if victim == "manager":
            assert told["state"] == "done"
        else:
            assert told["error"] == "interrupted on worker w1; not repeated, since it isn't marked idempotent"
        lines = evidence(tmp_path)
        assert lines.count("running") == 1
        assert all(lines.count(f"waiting {n}") == 1 and f"again {n}" in lines for n in range(5))


def test_a_task_that_may_not_repeat_stays_with_its_worker_though_another_is_free(here: Site, tmp_path: Path) -> None:
    go, both = tmp_path / "go", tmp_path / "both"
    with ExitStack() as stack:
        stack.enter_context(here.scheduler())
        workers = {name: stack.enter_context(here.worker(name)) for name in ("w1", "w2")}
        with here.manager("w1", "w2"):
            there = here.submit(*(note(tmp_path, f"there {n}", until=both, idempotent=True) for n in range(2)))
            until(lambda: len(evidence(tmp_path)) == 2, what="both workers are there")
            both.touch()
            until(lambda: here.ended(*there))
        # One that starts now knows of both; the other may not have looked since the second joined.
        stack.enter_context(here.manager("w1", "w2"))
        ids = here.submit(*(note(tmp_path, f"running {n}", until=go) for n in range(2)))
        until(lambda: len(evidence(tmp_path)) == 4, what="each worker has one")
        victim, other = sorted(ids, key=lambda it: str(here.task(it)["worker"]), reverse=True)
        assert [here.task(it)["worker"] for it in (victim, other)] == ["w2", "w1"]
        workers["w2"].stop(kill=True)
        stack.enter_context(here.worker("w2"))  # at another address
        until(lambda: here.ended(victim), what="its worker has said that it had begun")
        assert here.task(victim)["error"].startswith("interrupted on worker w2")
        go.touch()  # an orderly end waits for what runs
        until(lambda: here.ended(other))
        assert here.task(other)["state"] == "done"
    assert sorted(evidence(tmp_path))[:2] == ["running 0", "running 1"]
    assert len(evidence(tmp_path)) == 4


def test_those_that_may_not_repeat_go_to_whoever_has_room_be_it_one_that_joins_late(here: Site, tmp_path: Path) -> None:
    go = [tmp_path / f"go {n}" for n in range(5)]
    with here.scheduler(), here.worker("w1"), here.manager("w1", "w2"):
        ids = here.submit(*(note(tmp_path, f"{n}", until=it) for n, it in enumerate(go)))
        until(lambda: evidence(tmp_path) == ["0"], what="the first worker has one")
        until(lambda: here.ask("GET", "/counts")["held"] == 4, what="the others are nobody's")
        with here.worker("w2", cpu=2):
            until(lambda: len(evidence(tmp_path)) == 3, what="the larger worker has two at once")
            for it in go[1:]:
                it.touch()
            until(lambda: here.ended(*ids[1:]), what="one that is long keeps none behind it waiting")
            assert {here.task(it)["worker"] for it in ids[1:]} == {"w2"}
            go[0].touch()
            until(lambda: here.ended(*ids))
    assert sorted(evidence(tmp_path)) == [f"{n}" for n in range(5)]


def test_a_worker_that_joins_takes_what_waits_on_another(here: Site, tmp_path: Path) -> None:
    both = tmp_path / "both"
    with here.scheduler(), here.worker("w1"), here.manager("w1", "w2"):
        ids = here.submit(*(note(tmp_path, f"there {n}", until=both, idempotent=True) for n in range(2)))
        until(lambda: len(evidence(tmp_path)) == 1, what="one runs, the other waits on the same worker")
        with here.worker("w2"):
            until(lambda: len(evidence(tmp_path)) == 2, what="the new worker has the other")
            both.touch()
            until(lambda: here.ended(*ids))
            assert {here.task(it)["worker"] for it in ids} == {"w1", "w2"}


def test_tasks_for_a_worker_that_is_away_keep_no_others_waiting(here: Site, tmp_path: Path) -> None:
    with here.scheduler(), here.worker("w1"), here.manager("w1", "w2", memory=(2, 4)):
        away = here.submit(*(note(tmp_path, f"away {n}", memory=3 * 1024**3) for n in range(70)))
        (here_,) = here.submit(note(tmp_path, "here"))
        until(lambda: here.ended(here_))
        assert here.task(away[0])["state"] == "sent"
        with here.worker("w2", memory=4):
            until(lambda: here.ended(away[0]))


def test_an_orderly_end_waits_for_what_runs_and_leaves_the_rest_for_later(here: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with here.scheduler() as scheduler, here.worker("w1") as worker, here.manager("w1") as manager:
        (running,) = here.submit(note(tmp_path, "running", until=go))
        until(lambda: evidence(tmp_path) == ["running"])
        waiting = here.submit(*(note(tmp_path, f"waiting {n}") for n in range(3)))
        manager.popen.terminate()
        (late,) = here.submit(note(tmp_path, "late"))  # it goes on to acknowledge
        go.touch()
        assert manager.popen.wait(PATIENCE) == 0
        scheduler.stop()
        worker.stop()
        with here.scheduler(), here.worker("w1"), here.manager("w1"):
            until(lambda: here.ended(running, *waiting, late))
            assert {here.task(it)["state"] for it in (running, *waiting, late)} == {"done"}
    assert sorted(evidence(tmp_path)) == ["late", "running", "waiting 0", "waiting 1", "waiting 2"]


def test_a_result_that_a_broken_journal_cannot_take_is_there_after_the_managers_restart(
    here: Site, tmp_path: Path
) -> None:
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "tasks.sqlite", PATIENCE)) as db,
        here.scheduler(),
        here.worker("w1"),
    ):
        with here.manager("w1") as manager:
            db.execute("ALTER TABLE files RENAME TO away")
            (large,) = here.submit({"kind": "custom", "payload": {"function": "much", "arguments": {"size": 1 << 20}}})
            until(lambda: not manager.alive())
            assert "no such table: files" in manager.text()
        db.execute("ALTER TABLE away RENAME TO files")
        with here.manager("w1"):
            until(lambda: here.ended(large))
            assert here.task(large)["result_file"]


def test_an_inference_that_is_cancelled_lets_go_of_the_engine(tmp_path: Path) -> None:
    asked, left = threading.Event(), threading.Event()

    def answer(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):  # nobody but the task is kept waiting
            if peer.recv(1000).startswith(b"POST /api/generate"):
                asked.set()
                while peer.recv(1000):
                    pass
                left.set()

    def listen() -> None:
        with contextlib.suppress(OSError):  # the end of the test
            while True:
                threading.Thread(target=answer, args=(engine.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as engine:
        threading.Thread(target=listen, daemon=True).start()
        with (
            site(tmp_path, f"http://127.0.0.1:{engine.getsockname()[1]}") as here,
            here.scheduler(),
            here.worker("w1"),
            here.manager("w1"),
        ):
            (task,) = here.submit({"kind": "ai_inference", "payload": {"model": rig.MODEL, "prompt": "Hi"}})
            until(asked.is_set)
            assert not left.is_set()
            assert here.ask("POST", f"/tasks/{task}/cancel")["state"] == "cancelled"
            until(left.is_set)
        engine.shutdown(socket.SHUT_RDWR)


def test_a_cancelled_task_never_begins_and_a_running_one_is_stopped(here: Site, tmp_path: Path) -> None:
    with here.scheduler(), here.worker("w1"), here.manager("w1"):
        (running,) = here.submit(note(tmp_path, "running", until=tmp_path / "never"))
        until(lambda: here.task(running)["progress"] == 0.5)
        assert here.task(running)["progress_text"] == "has written"
        waiting, following = here.submit(note(tmp_path, "waiting"), note(tmp_path, "following"))
        assert here.ask("POST", f"/tasks/{waiting}/cancel")["state"] == "cancelled"
        assert here.ask("POST", f"/tasks/{running}/cancel")["state"] == "cancelled"
        until(lambda: here.ended(following))
        assert [here.task(it)["progress"] for it in (running, waiting, following)] == [None, None, 1.0]
        assert evidence(tmp_path) == ["running", "following"]
