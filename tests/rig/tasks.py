"""A task manager over a real Dask, and a plugin whose function leaves evidence of each run."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cluster_ai import settings
from tests.rig import cluster as rig
from tests.rig.processes import REPOSITORY, Process, free_port, running

PLUGIN = '''
import os, time
from cluster_ai.tasks.progress import report

def note(path, text, until=None):
    """Appends a line, and waits until a file is there."""
    with open(path, "a") as file:
        file.write(text + "\\n")
    report(0.5, "has written")
    while until and not os.path.exists(until):
        time.sleep(0.02)
    return {"said": text}

def much(size):
    return {"text": "x" * size}

def eat(size, apart=False):
    """Takes so many bytes; apart: by a process that has made itself a session."""
    child = os.fork() if apart else 0
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if apart:
        os.setsid()
    taken = b"x" * size
    if apart:
        os._exit(0)
    return len(taken)

def hold(path, until):
    """Which card it has, and keeps until a file is there."""
    with open(path, "a") as file:
        file.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\\n")
    while not os.path.exists(until):
        time.sleep(0.02)

def fail(path, times):
    with open(path, "a") as file:
        file.write("x\\n")
    if len(open(path).readlines()) <= times:
        raise ValueError("not yet")
    return "at last"
'''


def plugin(folder: Path) -> str:
    """A folder for PYTHONPATH in which a plugin is installed, as pip would leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evidence.py").write_text(PLUGIN)
    told = folder / "evidence-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: evidence\nVersion: 1\n")
    functions = "".join(f"{name} = evidence:{name}\n" for name in ("note", "fail", "much", "eat", "hold"))
    (told / "entry_points.txt").write_text(f"[cluster_ai.tasks]\n{functions}")
    return f"{REPOSITORY}:{folder}"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


@dataclass
class Site:
    """Its parts are started and stopped by the test."""

    folder: Path
    keys: Path
    port: int
    engine: str
    path: str
    socket: str

    @property
    def scheduler_url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def scheduler(
        self, told: settings.SchedulerSettings | None = None, ttl: str = "5 minutes"
    ) -> contextlib.AbstractContextManager[Process]:
        return rig.scheduler(self.folder / "scheduler", self.keys, self.port, told, ttl)

    def worker(
        self,
        name: str,
        cpu: int = 1,
        memory: int = 2,
        slots: int = 1,
        processes: settings.Processes | None = None,
        gpu: int = 0,
        group: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> contextlib.AbstractContextManager[Process]:
        """memory: GiB; slots: of its engine; gpu: cards; group: a cgroup of its own."""
        size, data = memory * 1024**3, str(self.folder / "data")
        told = settings.WorkerSettings(
            *(name, self.scheduler_url, self.engine, cpu, size, gpu, (rig.MODEL,), data, processes)
        )
        return rig.dask_worker(
            *(self.folder / name, self.keys, told),
            pythonpath=self.path,
            slots=slots,
            group=group,
            environment=environment,
        )

    def manager(
        self, *workers: str, memory: Sequence[int] = (), gpu: int = 0, processes: int = 1
    ) -> contextlib.AbstractContextManager[Process]:
        """memory: GiB of each worker; gpu: cards of each; processes: that each may have."""
        sizes = zip_longest(workers, memory, fillvalue=2)
        there = tuple(
            settings.TaskWorker(str(it), 1, int(size) * 1024**3, gpu, (rig.MODEL,), True, processes)
            for it, size in sizes
        )
        told = settings.TasksSettings(self.scheduler_url, self.socket, there)
        path = self.folder / "tasks.json"
        path.write_text(settings.dump(told))
        environment = {"CREDENTIALS_DIRECTORY": str(self.keys), "STATE_DIRECTORY": str(self.folder)}
        return running(
            [sys.executable, "-m", "cluster_ai.tasks", str(path)],
            self.folder / "tasks.log",
            environment=environment,
            until_ready=lambda: self.ask("GET", "/counts"),
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self.read(path, method, body))

    def read(self, path: str, method: str = "GET", body: Any = None) -> bytes:
        with contextlib.closing(_Connection(self.socket)) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            return connection.getresponse().read()

    def submit(self, *specs: dict[str, Any], keys: list[str | None] | None = None, user: str = "ada") -> list[str]:
        said = self.ask("POST", "/tasks", {"tasks": specs, "keys": keys or [None] * len(specs), "user": user})
        ids: list[str] = said["ids"]
        return ids

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/tasks/{task_id}")
        return found

    def ended(self, *ids: str) -> bool:
        return all(self.task(it)["state"] in ("done", "failed", "cancelled") for it in ids)


@contextlib.contextmanager
def site(folder: Path, engine: str) -> Iterator[Site]:
    folder.mkdir(parents=True, exist_ok=True)
    keys = rig.authority().credentials(folder / "keys", "head", "head")
    sockets = Path(tempfile.mkdtemp(prefix="ct", dir="/tmp"))
    try:
        yield Site(folder, keys, free_port(), engine, plugin(folder / "plugin"), str(sockets / "s"))
    finally:
        shutil.rmtree(sockets)
