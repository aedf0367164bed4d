"""Some members of a .tar.gz as another one, deterministically. A script of its own: it takes a processor for seconds.

Standard input has one JSON object: archive, members (their paths), place.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tarfile
from collections.abc import Collection
from pathlib import Path


def repack(archive: Path, members: Collection[str], place: Path) -> None:
    """A hard link becomes a file, since what it leads to may be left out."""
    new = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with (
            new.open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            tarfile.open(archive) as whole,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as some,
        ):
            for member in whole:
                content = whole.extractfile(member) if member.name in members else None
                if content is not None:
                    info = tarfile.TarInfo(member.name)  # times, owners and names stay zero and empty
                    info.mode, info.size = member.mode, content.seek(0, os.SEEK_END)
                    content.seek(0)
                    some.addfile(info, content)
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)


if __name__ == "__main__":
    order = json.loads(sys.stdin.read())
    repack(Path(order["archive"]), set(order["members"]), Path(order["place"]))
