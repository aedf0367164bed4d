"""Files that users upload and batches write: on disk under the task manager's state, each with its digest."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from python_multipart.multipart import MultipartParser, parse_options_header

from cluster_ai.tasks.batches.file import File
from cluster_ai.tasks.batches.store import KEPT

LIMIT = 200 << 20  # bytes of a file
QUOTA = 5 << 30  # bytes of all files of one user
ROOM = 1 << 30  # bytes that stay free on the disk
PURPOSES = ("batch",)


class UploadError(ValueError):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Files:
    """folder: made here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(self, ids: Container[str]) -> None:
        """Only these: what was written, but not told of before everything died, nobody knows."""
        for path in self._folder.iterdir():
            if path.name not in ids:
                path.unlink()

    def path(self, file: File) -> Path:
        return self._folder / file.id

    def forget(self, file: File) -> None:
        self.path(file).unlink(missing_ok=True)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """What isn't finished is gone after."""
        writing = Writing(self._folder / f".{secrets.token_hex(12)}")
        try:
            yield writing
        finally:
            writing.file.close()
            with suppress(FileNotFoundError):
                writing.path.unlink()

    def free(self) -> int:
        return shutil.disk_usage(self._folder).free - ROOM


class Writing:
    """A file that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[bytes] = path.open("xb")
        self.size, self._digest = 0, hashlib.sha256()

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        self._digest.update(piece)
        self.file.write(piece)

    def finish(self, user: str, name: str, purpose: str, now: float) -> File:
        """On the disk, under its own name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        file_id = f"file-{secrets.token_hex(12)}"
        self.path.rename(self.path.with_name(file_id))
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        return File(file_id, user, name, purpose, self.size, self._digest.hexdigest(), now, now + KEPT)


class Form:
    """Reads a multipart form piece by piece: the part named `file` goes to the disk, the others are small fields."""

    def __init__(self, content_type: str, writing: Writing) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise UploadError(400, "invalid_request", "a form is needed: multipart/form-data with purpose and file")
        self._writing = writing
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name, self._text = "", b""
        self.whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._opened,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._whole,
            },
        )

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except UploadError:
            raise
        except ValueError as e:
            raise UploadError(400, "invalid_request", f"the form can't be read: {e}") from None

    def _begin(self) -> None:
        self._headers, self._name, self._text = {}, "", b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _opened(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            self.filename = options.get(b"filename", b"upload").decode("utf-8", "replace")[:255]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            if self._writing.size + end - start > LIMIT:
                raise UploadError(413, "file_too_large", f"the file is larger than {LIMIT >> 20} MiB")
            self._writing.write(data[start:end])
        else:
            self._text += data[start:end]
            if len(self._text) > 1000 or len(self.fields) > 20:
                raise UploadError(400, "invalid_request", f"{self._name}: too long")

    def _end(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._text.decode("utf-8", "replace")

    def _whole(self) -> None:
        self.whole = True


async def receive(form: Form, pieces: AsyncIterator[bytes]) -> None:
    """Raises UploadError for what is no upload."""
    async for piece in pieces:
        form.feed(piece)
    if not form.whole:
        raise UploadError(400, "invalid_request", "the form breaks off")
    if form.filename is None:
        raise UploadError(400, "missing_required_parameter", "file: a file is needed")
    if form.fields.get("purpose") not in PURPOSES:
        found = form.fields.get("purpose")
        raise UploadError(400, "invalid_purpose", f"purpose: must be {' or '.join(PURPOSES)}, found {found!r}")


def deleted(file: File) -> dict[str, Any]:
    return {"id": file.id, "object": "file", "deleted": True}
