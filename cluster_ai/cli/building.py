"""What is built or fetched on this machine, as it goes on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextlib.contextmanager
def building(stream: TextIO) -> Iterator[Callable[[str, int, int | None], None]]:
    """Yields progress(what, done, total), where total is None while it isn't known."""
    if not stream.isatty():
        yield _Lines(stream)
        return
    bars = _Bars(stream)
    try:
        yield bars
    finally:
        bars.close()


class _Bars:
    """A bar for each thing; rich is imported only when there is one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._progress: Progress | None = None
        self._tasks = dict[str, "TaskID"]()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if self._progress is None:
            self._progress = self._begin()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def _begin(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
        console = Console(file=self._stream)
        progress = Progress(TextColumn("{task.description}", markup=False), *columns, console=console)
        progress.start()
        return progress

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


class _Lines:
    """A line when something begins, and one at each further tenth of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._told = stream, dict[str, int]()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else 0
        if self._told.get(what, -1) < tenth:
            self._told[what] = tenth
            print(f"{what}: {10 * tenth} %" if total else what, file=self._stream, flush=True)
