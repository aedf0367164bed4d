"""A file that is fetched: in the end it is there whole and as its digest says, or not at all.

What has come before a connection breaks stays beside it (.NAME.DIGEST.part), and the next try goes on from there. Needs
nothing but Python: the client for programs uses it, and the commands do.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import IO

_PIECE = 1 << 20


class DamagedError(Exception):
    """What came is not what its digest says. Nothing of it is kept, but what went into an open file."""


class Landing:
    """Use it as `with Landing(...) as landing`; every call may raise OSError.

    to: a path, or a file that is open for writing bytes: there it begins where the file stands, and what came is there
    even where it broke off or is damaged.
    """

    def __init__(self, sha256: str, size: int, to: str | PathLike[str] | IO[bytes]) -> None:
        self._sha256, self._size = sha256, size
        self._path = Path(to) if isinstance(to, str | PathLike) else None
        self._file = None if isinstance(to, str | PathLike) else to
        self._digest = hashlib.sha256()
        self._skip = 0
        self._open = ExitStack()
        self.have = 0  # bytes that have come

    def __enter__(self) -> Landing:
        if self._path is not None:
            if self._path.exists() and not self._path.is_file():
                raise OSError(errno.EINVAL, "is no plain file", str(self._path))
            self._file = self._open.enter_context(os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666), "r+b"))
            while piece := self._file.read(_PIECE):
                self._digest.update(piece)
                self.have += len(piece)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()
        if not self.have and self._path is not None:
            self._part.unlink(missing_ok=True)

    @property
    def whole(self) -> bool:
        return self.have >= self._size

    @property
    def headers(self) -> dict[str, str]:
        """What to ask with."""
        return {"Range": f"bytes={self.have}-"} if self.have else {}

    def begin(self, *, partial: bool) -> None:
        """An answer comes; partial: it begins where the last one broke off (206), rather than anew."""
        self._skip = 0 if partial else self.have

    def write(self, piece: bytes) -> None:
        piece, self._skip = piece[self._skip :], max(self._skip - len(piece), 0)
        assert self._file is not None
        self._file.write(piece)
        self._digest.update(piece)
        self.have += len(piece)

    def finish(self) -> None:
        """Of what is whole. Raises DamagedError."""
        self._open.close()
        good = self.have == self._size and self._digest.hexdigest() == self._sha256
        if self._path is not None and good:
            self._part.replace(self._path)
        elif self._path is not None:
            self._part.unlink(missing_ok=True)
        if not good:
            raise DamagedError("it isn't what its digest says")

    @property
    def _part(self) -> Path:
        assert self._path is not None
        return self._path.with_name(f".{self._path.name}.{self._sha256[:12]}.part")
