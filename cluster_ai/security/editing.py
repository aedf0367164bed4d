"""Secrets in an editor: in clear only in a folder of the owner's, in memory where there is such a file system.

The folder goes when the editor ends, and also when this process is killed: a small process of its own waits for that.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster_ai.errors import UsageError

MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of the owner's is made in it)
_WATCH = 'trap "" HUP INT TERM QUIT; read -r _; rm -rf -- "$1"'


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that others can't read, and that is gone afterwards."""
    base = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None
    with _signals_raise():
        folder = Path(tempfile.mkdtemp(prefix="cluster-ai-", dir=base))  # 0700
        try:
            watcher = subprocess.Popen(
                ["sh", "-c", _WATCH, "cluster-ai", folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # what ends a terminal's processes leaves it
            )
            try:
                yield folder
            finally:
                assert watcher.stdin
                watcher.stdin.close()  # as our death would
                watcher.wait()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def edit(text: str, name: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Have a text edited in a file of this name; what the person made of it."""
    path = folder / name
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    command = environment.get("VISUAL") or environment.get("EDITOR") or "vi"
    try:
        argv = shlex.split(command)
        done = subprocess.run([*argv, str(path)], env={**environment, "TMPDIR": str(folder)}, check=False)
    except (OSError, ValueError, IndexError) as error:
        remedy = "set EDITOR to one that is there: EDITOR=nano cluster-ai secrets edit"
        raise UsageError(f"the editor {command!r} can't be started: {error}", remedy=remedy) from error
    if done.returncode:
        raise UsageError(f"the editor {command!r} ended with {done.returncode}: nothing is changed")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("what the editor left is no text: nothing is changed") from error


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is under way as Ctrl-C does, so that what must be cleaned up is."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
