"""An audit log tells when it isn't what was written."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.audit.chain import BEGIN, REPAIRED, Event, Head, line, verify
from cluster_ai.audit.file import CURRENT, HEAD, AuditFile, now


def log(count: int) -> tuple[list[bytes], Head]:
    head, lines = BEGIN, []
    for number in range(count):
        text, head = line(Event("anna", "workers.steer", f"w{number}"), now(), head)
        lines.append(text.encode())
    return lines, head


def filled(folder: Path, count: int, full: int = 1 << 20) -> AuditFile:
    file = AuditFile(folder, full)
    for number in range(count):
        file.write(Event("anna", "keys.manage", f"key-{number}"))
    return file


def test_a_log_as_it_was_written_is_good() -> None:
    lines, head = log(5)
    found = verify(lines, head)
    assert (found.good, found.lines, found.first, found.head) == (True, 5, 1, head)
    assert verify([]).good


@given(st.integers(0, 4), st.sampled_from(["who", "what", "on", "at", "result", "address", "seq", "prev"]))
def test_a_changed_line_is_found(number: int, field: str) -> None:
    lines, head = log(5)
    fields = json.loads(lines[number])
    fields[field] = 77 if field == "seq" else "someone else"
    lines[number] = json.dumps(fields).encode()
    assert not verify(lines, head).good


@given(st.integers(0, 4))
def test_a_line_that_was_taken_out_is_found(number: int) -> None:
    lines, head = log(5)
    del lines[number]
    # the oldest may go, since logs are rotated away: that the log begins later is told
    found = verify(lines, head)
    assert not found.good or (number == 0 and found.first == 2)


@given(st.integers(0, 4))
def test_a_line_made_anew_with_all_that_follow_is_found_by_the_head(number: int) -> None:
    lines, head = log(5)
    other = BEGIN if not number else Head(number, json.loads(lines[number - 1])["hash"])
    for place in range(number, 5):
        text, other = line(Event("eve", "workers.steer"), now(), other)
        lines[place] = text.encode()
    assert verify(lines).good
    assert not verify(lines, head).good


def test_a_cut_off_end_is_found_by_the_head() -> None:
    lines, head = log(5)
    assert "cut off" in verify(lines[:3], head).problem


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_no_content_breaks_the_check(lines: list[bytes]) -> None:
    verify(lines, Head(1, "x"))


def test_a_file_is_written_verified_and_nobody_elses(tmp_path: Path) -> None:
    file = filled(tmp_path / "audit", 3)
    assert file.verify().good
    assert file.verify().lines == 3
    assert [json.loads(text)["on"] for text in file.after(1, 10)] == ["key-1", "key-2"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "audit").iterdir()} == {0o600}


def test_a_tampered_file_is_found_also_after_more_was_written(tmp_path: Path) -> None:
    file = filled(tmp_path, 3)
    path = tmp_path / CURRENT
    path.write_text(path.read_text().replace("key-1", "key-9"))
    file.write(Event("anna", "keys.manage", "later"))
    assert "line 2 was changed" in file.verify().problem


def test_a_truncated_file_is_found_also_after_more_was_written(tmp_path: Path) -> None:
    file = filled(tmp_path, 3)
    path = tmp_path / CURRENT
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert "cut off" in file.verify().problem
    file.write(Event("anna", "keys.manage", "later"))
    assert not file.verify().good


def test_half_a_last_line_is_told_and_then_marked(tmp_path: Path) -> None:
    file = filled(tmp_path, 2)
    with (tmp_path / CURRENT).open("a") as open_file:
        open_file.write('{"seq":3,"who":"an')
    assert "half a line" in file.verify().problem
    file.write(Event("anna", "keys.manage", "later"))
    assert file.verify().good
    assert [json.loads(text)["what"] for text in file.after(2, 10)] == [REPAIRED, "keys.manage"]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    file = filled(tmp_path, 2)
    path = tmp_path / CURRENT
    path.write_text(path.read_text().rstrip("\n"))
    (tmp_path / HEAD).write_text(f"1 {json.loads(path.read_text().splitlines()[0])['hash']}\n")
    file.write(Event("anna", "keys.manage", "later"))
    assert (file.verify().good, file.verify().lines) == (True, 3)


def test_a_missing_head_is_told(tmp_path: Path) -> None:
    file = filled(tmp_path, 1)
    (tmp_path / HEAD).unlink()
    assert HEAD in file.verify().problem


def test_the_chain_goes_on_through_rotated_files(tmp_path: Path) -> None:
    file = filled(tmp_path, 20, full=1000)
    assert len(list(tmp_path.glob("audit-*.jsonl"))) > 2
    assert (file.verify().good, file.verify().lines) == (True, 20)
    sorted(tmp_path.glob("audit-*.jsonl"))[1].unlink()
    assert not file.verify().good


def test_a_head_that_was_kept_elsewhere_finds_a_log_that_was_written_anew(tmp_path: Path) -> None:
    kept = filled(tmp_path / "one", 3).verify().head
    other = filled(tmp_path / "other", 5)
    assert other.verify().good
    assert "written anew" in other.verify(kept).problem


def _write(folder: str) -> None:
    filled(Path(folder), 20)


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(tmp_path),)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert (AuditFile(tmp_path).verify().good, AuditFile(tmp_path).verify().lines) == (True, 60)


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\u2028", "ü", "\ud800"])
def test_any_text_stays_one_line(tmp_path: Path, text: str) -> None:
    file = AuditFile(tmp_path)
    file.write(Event(text, "x", text))
    assert (file.verify().good, file.verify().lines) == (True, 1)
