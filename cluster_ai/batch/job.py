"""What is under way, in a folder beside the answers, so that the same command again goes on where it was.

The prompts are cut into parts, each a batch at the gateway, which is made with a key of its own: whoever dies, and
when, each part is one batch. The answers are put together at the end, and put in place whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from cluster_ai.batch import reading
from cluster_ai.errors import ConfigError, LockedError

FORMAT = 1
LINES, BYTES = 10_000, 50 << 20  # of a part


@dataclass(frozen=True, slots=True)
class Part:
    """batch: None before the gateway has it."""

    name: str
    endpoint: str
    lines: int
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """of: what the command said, as a digest, so that another command doesn't go on with it."""

    of: str
    key: str
    parts: tuple[Part, ...]


class Folder:
    def __init__(self, out: Path) -> None:
        self.out, self.errors = out, out.with_name(f"{out.stem}.errors{out.suffix}")
        self.path = out.with_name(f"{out.name}.batch")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises LockedError while another run has it, ConfigError where there are answers already."""
        if self.out.exists() and not self.path.exists():
            remedy = "remove it, or give another --out"
            raise ConfigError("is there already, and nothing is under way", where=str(self.out), remedy=remedy)
        try:
            self.path.mkdir(exist_ok=True)
            lock = (self.path / "lock").open("w")
        except OSError as e:
            raise ConfigError(f"can't be written: {e.strerror}", where=str(self.path)) from e
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LockedError("another run is at work on it", where=str(self.path)) from None
            try:
                yield
            finally:
                if self.path.exists() and self.job() is None:  # the prompts couldn't be read
                    shutil.rmtree(self.path)

    def job(self) -> Job | None:
        """What is under way; None before its parts are all there."""
        try:
            said = json.loads((self.path / "job.json").read_text())
        except FileNotFoundError:
            return None
        return Job(said["of"], said["key"], tuple(Part(**part) for part in said["parts"]))

    def keep(self, job: Job) -> None:
        self.put(self.path / "job.json", (json.dumps({"format": FORMAT, **asdict(job)}, indent=1).encode(),))

    def made(self, job: Job, part: Part, batch: str) -> Job:
        parts = tuple(replace(it, batch=batch) if it.name == part.name else it for it in job.parts)
        job = replace(job, parts=parts)
        self.keep(job)
        return job

    def put(self, path: Path, pieces: Iterator[bytes] | tuple[bytes, ...]) -> None:
        """Whole or not at all."""
        beside = path.with_name(f".{path.name}")
        with beside.open("wb") as file:
            file.writelines(pieces)
        beside.replace(path)

    def wrong(self) -> Iterator[dict[str, Any]]:
        """Rows that couldn't be asked."""
        with (self.path / "wrong.jsonl").open("rb") as file:
            yield from map(json.loads, file)

    def faults(self) -> Iterator[dict[str, Any]]:
        """Rows without an answer, when all is done."""
        with self.errors.open("rb") as file:
            yield from map(json.loads, file)

    def done(self) -> None:
        """Gone as one: half a folder would look like a job of which nothing was sent yet."""
        over = self.path.with_name(f".{self.path.name}")
        self.path.rename(over)
        shutil.rmtree(over)


def digest(path: Path, said: Mapping[str, Any]) -> str:
    """Of the prompts, and of what the command says of them."""
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    files = sorted(it for it in path.rglob("*") if it.is_file()) if path.is_dir() else [path]
    try:
        for file in files:
            with file.open("rb") as opened:
                found.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as e:
        raise ConfigError(f"can't be read: {e.strerror}", where=str(file)) from e
    return found.hexdigest()


def prepare(
    folder: Folder, of: str, path: Path, column: str | None, model: str | None, options: Mapping[str, Any]
) -> Job:
    """Cuts the prompts into parts, all on disk before the first is sent. Raises ConfigError."""
    parts: list[Part] = []
    with (folder.path / "wrong.jsonl").open("wb") as wrong, _Cutter(folder.path, parts) as cutter:
        number = 0
        for number, row in zip(count(1), reading.rows(path, column), strict=False):
            asked = reading.asked(number, row, model, options)
            custom_id = f"{number}:{json.dumps(asked.id)}"
            if asked.endpoint is None or len(custom_id) > 512:
                message = asked.body.get("message", "its id is too long")
                told = {"id": asked.id, "row": number, "error": {"code": "invalid_row", "message": message}}
                wrong.write(encoded(told))
                continue
            request = {"custom_id": custom_id, "method": "POST", "url": asked.endpoint, "body": asked.body}
            cutter.add(asked.endpoint, encoded(request))
    if not number:
        raise ConfigError("has no prompts", where=str(path))
    job = Job(of, secrets.token_hex(16), tuple(parts))
    folder.keep(job)
    return job


class _Cutter:
    """A part is full, or has another endpoint than the next row."""

    def __init__(self, folder: Path, parts: list[Part]) -> None:
        self._folder, self._parts = folder, parts
        self._file: Any = None
        self._endpoint, self.lines, self._size = "", 0, 0

    def __enter__(self) -> _Cutter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, endpoint: str, line: bytes) -> None:
        full = self.lines >= LINES or self._size + len(line) > BYTES
        if self._file is None or full or endpoint != self._endpoint:
            self._close()
            self._endpoint, self.lines, self._size = endpoint, 0, 0
            self._file = (self._folder / f"part-{len(self._parts) + 1}.jsonl").open("wb")
        self._file.write(line)
        self.lines, self._size = self.lines + 1, self._size + len(line)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._parts.append(Part(Path(self._file.name).name, self._endpoint, self.lines))
            self._file = None


def encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def told(custom_id: str) -> tuple[int, Any]:
    """A row's number, and its id."""
    number, _, text = custom_id.partition(":")
    return int(number), json.loads(text)


def answers(replies: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    for reply in replies:
        _, row_id = told(reply["custom_id"])
        yield encoded({"id": row_id, **reading.answer(reply["response"]["body"])})
