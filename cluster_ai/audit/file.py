"""An audit log in a folder: `audit.jsonl`, what was rotated away as `audit-<first line>.jsonl`, and its head.

Several processes write it (two gateways of a hand-over, commands at once), one at a time, under a lock. A line is on
the disk before the head tells of it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cluster_ai.audit.chain import BEGIN, Event, Head, Verdict, head_of, line, parsed, repair, verify

CURRENT, HEAD, LOCK = "audit.jsonl", "audit.head", "audit.lock"
FULL = 8 * 1024 * 1024  # bytes, from which on a new file is begun
KEPT = 64  # files
_LAST = 64 * 1024  # bytes at the end, in which the last line is whole


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class AuditFile:
    """Raises OSError where the disk doesn't take it."""

    def __init__(self, folder: Path, full: int = FULL) -> None:
        self._folder, self._full = folder, full

    def write(self, event: Event) -> list[str]:
        """The lines that were written, for a second place: one, and before it that of a repair."""
        with self._locked():
            last, half = self._last()
            known = self.head()
            # A log that is shorter than it was goes on with the number that was due, so that the gap stays to be seen.
            before = last if known is None or known.seq <= last.seq else Head(known.seq, last.hash)
            texts = []
            if half and parsed(half) is None:
                text, before = line(repair(half), now(), before)
                texts.append(text)
            text, before = line(event, now(), before)
            texts.append(text)
            self._append(("\n" if half else "") + "\n".join(texts) + "\n")
            self._keep(before)
            if self._path.stat().st_size >= self._full:
                self._rotate()
        return texts

    def head(self) -> Head | None:
        """As it was kept; None: it wasn't."""
        try:
            seq, digest = (self._folder / HEAD).read_text().split()
            return Head(int(seq), digest)
        except (FileNotFoundError, ValueError):
            return None

    def verify(self, known: Head | None = None) -> Verdict:
        """known: a head that the caller kept, beside the one that is kept here."""
        with self._locked():
            lines = list(self.lines())
            kept = self.head()
        if kept is None and lines:
            found = verify(lines, known)
            problem = f"{self._folder / HEAD} is missing or unreadable: whether the log's end was cut off can't be told"
            return Verdict(found.lines, found.first, found.head, found.problem or problem)
        found = verify(lines, kept)
        return found if known is None or not found.good else verify(lines, known)

    def lines(self) -> Iterator[bytes]:
        """The oldest first, without their ends."""
        for path in [*self._rotated(), self._path]:
            if path.exists():
                with path.open("rb") as file:
                    yield from (text.rstrip(b"\n") for text in file)

    def after(self, seq: int, most: int) -> list[bytes]:
        """Lines that come after number seq; what is between them and isn't whole comes along."""
        found: list[bytes] = []
        with self._locked():
            for text in self.lines():
                fields = parsed(text)
                if fields is None:
                    if found:
                        found.append(text)
                elif fields["seq"] > seq:
                    if len(found) >= most:
                        break
                    found.append(text)
        return found

    @property
    def _path(self) -> Path:
        return self._folder / CURRENT

    def _rotated(self) -> list[Path]:
        return sorted(self._folder.glob("audit-*.jsonl"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _last(self) -> tuple[Head, bytes]:
        """The last whole line of all files, and what has no end: half a line, or a whole one that only lacks that."""
        half = b""
        for path in [self._path, *reversed(self._rotated())]:
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LAST))
                lines = file.read().split(b"\n")
            if path == self._path:
                half = lines[-1]  # empty where the file ends as it should
            for text in reversed(lines):
                fields = parsed(text)
                if fields is not None:
                    return head_of(fields), half
        return BEGIN, half

    def _append(self, text: str) -> None:
        file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            rest = text.encode()
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)

    def _keep(self, head: Head) -> None:
        new = self._folder / f"{HEAD}.new"
        new.write_text(f"{head.seq} {head.hash}\n")
        new.chmod(0o600)
        new.replace(self._folder / HEAD)

    def _rotate(self) -> None:
        with self._path.open("rb") as file:
            first = next((fields["seq"] for text in file if (fields := parsed(text)) is not None), 0)
        self._path.rename(self._folder / f"audit-{first:012d}.jsonl")
        for path in self._rotated()[:-KEPT]:
            path.unlink()


def fields_of(text: bytes) -> dict[str, object]:
    """A line for people; one that isn't whole is told as such."""
    found = parsed(text)
    return found if found is not None else {"what": "half a line", "note": json.dumps(text.decode(errors="replace"))}
