"""Files that clients upload."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_ai.gateway.api.http import ClientGone, Refusal
from cluster_ai.gateway.models.blobs import KEPT, PIECE, Blobs, digest_of, digests, read

CONTENT = os.urandom(3 * PIECE + 17)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


async def pieces(content: bytes, size: int = 100_000, *, leave: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if leave:
        raise ClientGone


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def test_a_file_comes_back_as_it_went_in(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    assert blobs.path(DIGEST) is None
    assert await blobs.store(DIGEST, pieces(CONTENT))
    path = blobs.path(DIGEST)
    assert path is not None
    assert b"".join([piece async for piece in read(path)]) == CONTENT
    assert await blobs.store(DIGEST, pieces(b"not even looked at")) is False
    blobs.forget(DIGEST)
    assert blobs.path(DIGEST) is None


async def test_a_file_that_is_not_what_it_says_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(Refusal, match="digest mismatch") as caught:
        await blobs.store(DIGEST, pieces(CONTENT[:-1]))
    assert caught.value.status == 400
    assert is_empty(tmp_path)


async def test_a_client_that_leaves_midway_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClientGone):
        await Blobs(tmp_path).store(DIGEST, pieces(CONTENT, leave=True))
    assert is_empty(tmp_path)


async def test_what_no_model_was_made_of_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / "sha256-old", tmp_path / "sha256-new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, time.time() - KEPT - 60))
    await Blobs(tmp_path).store(DIGEST, pieces(CONTENT))
    assert (old.exists(), new.exists()) == (False, True)


async def test_without_a_folder_they_end_when_it_is_closed() -> None:
    blobs = Blobs(None)
    await blobs.store(DIGEST, pieces(CONTENT))
    path = blobs.path(DIGEST)
    assert path is not None
    blobs.close()
    assert blobs.path(DIGEST) is None
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "sha256", "sha256:zz", "sha1:" + "a" * 40, "sha256:" + "a" * 65, "sha256:../x"])
def test_what_is_no_digest_never_becomes_a_path(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        digest_of(text)
    assert caught.value.status == 400


def test_both_of_ollamas_spellings_are_one() -> None:
    assert digest_of("sha256-" + "A" * 64) == digest_of("sha256:" + "a" * 64) == "sha256:" + "a" * 64


@settings(max_examples=40)
@given(body=st.recursive(st.none() | st.text() | st.integers(), lambda c: st.dictionaries(st.text(), c) | st.lists(c)))
def test_only_digests_are_taken_from_a_request_to_create(body: object) -> None:
    good = "sha256:" + "b" * 64
    assert list(digests({"files": {"a": good}, "adapters": body})) == [good]
    assert list(digests(body)) == []
