from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_ai.landing import DamagedError, Landing


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def came(landing: Landing, content: bytes, most: int, *, partial: bool) -> None:
    """An answer of a server that breaks off after so many bytes."""
    assert landing.headers == ({"Range": f"bytes={landing.have}-"} if landing.have else {})
    begin = landing.have if partial else 0
    landing.begin(partial=partial)
    for piece in (content[begin : begin + most // 2], content[begin + most // 2 : begin + most]):
        landing.write(piece)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(1, 80), st.booleans()), max_size=6), st.booleans())
def test_however_often_it_breaks_off_what_lands_is_what_was_sent(
    tmp_path: Path, content: bytes, breaks: list[tuple[int, bool]], anew: bool
) -> None:
    path = tmp_path / "result.json"
    for most, partial in breaks:
        with Landing(digest(content), len(content), path) as landing:
            if not landing.whole:
                came(landing, content, most, partial=partial)
    with Landing(digest(content), len(content), path) as landing:
        if not landing.whole:
            came(landing, content, len(content), partial=not anew)
        landing.finish()
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()


@pytest.mark.parametrize("wrong", [b"other", b"longer than that"])
def test_what_is_damaged_leaves_what_was_there_before(tmp_path: Path, wrong: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with Landing(digest(b"right"), 5, path) as landing:
        came(landing, wrong, len(wrong), partial=False)
        with pytest.raises(DamagedError):
            landing.finish()
    assert [(it.name, it.read_bytes()) for it in tmp_path.iterdir()] == [("out", b"before")]


def test_an_open_file_is_written_from_where_it_stands(tmp_path: Path) -> None:
    out = io.BytesIO(b"head ")
    out.seek(5)
    with Landing(digest(b"tail"), 4, out) as landing:
        came(landing, b"tail", 2, partial=False)
        came(landing, b"tail", 4, partial=False)
        landing.finish()
    assert out.getvalue() == b"head tail"


def test_nothing_takes_the_place_of_a_device_or_a_folder(tmp_path: Path) -> None:
    for path in (Path("/dev/null"), tmp_path):
        with pytest.raises(OSError, match="is no plain file"), Landing(digest(b""), 0, path):
            pass
    assert Path("/dev/null").is_char_device()


def test_nothing_is_left_of_what_never_came(tmp_path: Path) -> None:
    with Landing(digest(b"x"), 1, tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())
