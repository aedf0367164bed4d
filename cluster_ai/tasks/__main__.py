"""`python3 -m cluster_ai.tasks etc/tasks.json`: the task manager, until SIGTERM.

Then it sends Dask nothing more, goes on answering, and waits for what runs, so long as layout.TASKS_GRACE says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from distributed.security import Security

from cluster_ai import layout, settings
from cluster_ai.errors import ClusterAIError, ConfigError, ExitCode, UnavailableError
from cluster_ai.tasks.batches.files import Files
from cluster_ai.tasks.batches.runner import Runner
from cluster_ai.tasks.batches.service import BatchService
from cluster_ai.tasks.batches.store import Store
from cluster_ai.tasks.dispatcher import Dispatcher
from cluster_ai.tasks.journal import Journal
from cluster_ai.tasks.results import Results
from cluster_ai.tasks.service import Service
from cluster_ai.tls.dask import security
from cluster_ai.tls.live import folder

KEPT = 7 * 24 * 3600.0  # seconds that a task is remembered after its end
TIDY = 3600.0  # seconds


def _load(path: Path) -> settings.TasksSettings:
    try:
        return settings.load(settings.TasksSettings, path)
    except OSError as e:
        raise ConfigError(f"can't be read: {e.strerror}", where=str(path)) from e
    except (KeyError, TypeError, json.JSONDecodeError) as e:
        raise ConfigError(f"is no task manager's settings: {e!r}", where=str(path)) from e


def _security(told: settings.TasksSettings, environ: Mapping[str, str]) -> Security | None:
    """None: the scheduler is reached without TLS."""
    if not told.scheduler.startswith("tls://"):
        return None
    return security(folder(environ) or Path())


def _listening(path: Path) -> socket.socket:
    """For this user's group to ask. What an ended one has left there is replaced."""
    path.unlink(missing_ok=True)
    own = socket.socket(socket.AF_UNIX)
    try:
        own.bind(str(path))
        path.chmod(0o660)
    except OSError as e:
        own.close()
        raise UnavailableError(f"can't listen there: {e.strerror}", where=str(path)) from e
    return own


async def _serve(told: settings.TasksSettings, journal: Journal, security: Security | None) -> None:
    def changed(reason: str) -> None:
        logging.getLogger("cluster_ai.tasks").warning(reason or "the scheduler is there")

    store, files = Store(journal), Files((journal.folder or Path()) / "files")
    files.keep(store.ids())
    dispatcher = Dispatcher(told.scheduler, security, told.workers, journal, Results(store, files), changed)
    runner = Runner(journal, store, files, dispatcher)
    batches = BatchService(journal, store, files, runner, dispatcher)
    config = uvicorn.Config(
        Service(journal, store, dispatcher, batches).app(),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    serving = asyncio.create_task(server._serve([_listening(Path(told.socket))]), name="serving")
    dispatching = asyncio.create_task(dispatcher.run(), name="dispatching")
    batching = asyncio.create_task(runner.run(), name="batching")
    tidying = asyncio.create_task(tidy(journal, dispatcher, runner), name="tidying")
    stopping = asyncio.create_task(ended.wait(), name="stopping")
    try:
        await asyncio.wait({serving, dispatching, batching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not dispatching.done():
            await dispatcher.drain(layout.TASKS_GRACE)
    finally:
        server.should_exit = True
        for task in (dispatching, batching, tidying, stopping):
            task.cancel()
        found = await asyncio.gather(serving, dispatching, batching, tidying, stopping, return_exceptions=True)
    for fault in found:
        if isinstance(fault, Exception):
            raise fault


async def tidy(journal: Journal, dispatcher: Dispatcher, runner: Runner) -> None:
    """Forgets what is over, until cancelled."""
    while True:
        try:
            await runner.tidy()
            await dispatcher.journal(journal.forget, KEPT)
        except (OSError, sqlite3.Error) as e:  # as on a full disk: it is tried again
            logging.getLogger("cluster_ai.tasks").warning("what is over can't be forgotten: %s", e)
        await asyncio.sleep(TIDY)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -m cluster_ai.tasks SETTINGS.json\n")
        return ExitCode.USAGE
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        told = _load(Path(arguments[0]))
        folder = Path(os.environ.get("STATE_DIRECTORY", "").partition(":")[0])
        with contextlib.closing(Journal(folder / "tasks.sqlite")) as journal:
            asyncio.run(_serve(told, journal, _security(told, os.environ)))
    except ClusterAIError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
