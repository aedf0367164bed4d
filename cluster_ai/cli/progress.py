"""How a rollout is shown while it runs: a line for each host that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DONE = ("ok", "changed", "failed", "unreachable", "skipped")


class Shown(Protocol):
    """What a rollout tells."""

    def stage(self, title: str, hosts: Sequence[str]) -> None: ...

    def step(self, host: str, step: str, status: str, detail: str = "") -> None: ...

    def close(self) -> None: ...


def shown(stream: TextIO) -> Shown:
    return Moving(stream) if stream.isatty() else Plain(stream)


class Plain:
    """A line when a stage begins, and one for each step that changed something or failed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage(self, title: str, hosts: Sequence[str]) -> None:
        print(f"{title}: {', '.join(hosts)}", file=self._stream, flush=True)

    def step(self, host: str, step: str, status: str, detail: str = "") -> None:
        if status in ("changed", "failed", "unreachable"):
            print(f"  {host}: {step}: {status}{f' ({detail})' if detail else ''}", file=self._stream, flush=True)

    def close(self) -> None:
        pass


class Moving:
    """A bar of what goes on at each host; a stage that is over leaves one line."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._title, self._begin = "", 0.0
        self._failed: set[str] = set()

    def stage(self, title: str, hosts: Sequence[str]) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.close()
        self._title, self._begin, self._failed = title, time.monotonic(), set()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[host]}", style="bold"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks = {host: self._progress.add_task(title, host=host, total=None) for host in hosts}
        self._progress.start()

    def step(self, host: str, step: str, status: str, detail: str = "") -> None:
        if self._progress is None or host not in self._tasks:
            return
        text = f"{step} {detail}".strip() if status not in DONE else f"{step}: {status}"
        self._progress.update(self._tasks[host], description=text.replace("[", r"\["))
        if status in ("failed", "unreachable"):
            self._failed.add(host)
            self._progress.console.print(f"  {host}: {step}: {detail or status}", style="red", markup=False)

    def close(self) -> None:
        if self._progress is None:
            return
        self._progress.stop()
        self._progress = None
        mark = "[red]x[/]" if self._failed else "[green]\N{CHECK MARK}[/]"
        seconds = time.monotonic() - self._begin
        self._console.print(
            f"{mark} {self._title}: {', '.join(self._tasks)} [dim]({seconds:.1f} s)[/]", highlight=False
        )
