from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster_ai.batch import job as jobs
from cluster_ai.batch.job import Folder, Part
from cluster_ai.errors import ConfigError, LockedError


def prepared(tmp_path: Path, *rows: object) -> tuple[Folder, jobs.Job]:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = Folder(tmp_path / "out.jsonl")
    folder.path.mkdir(exist_ok=True)
    return folder, jobs.prepare(folder, "digest", path, None, "m", {})


def test_a_part_is_full_at_its_limit_and_ends_where_another_endpoint_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LINES", 2)
    folder, job = prepared(tmp_path, "a", "b", "c", {"input": "d"}, {"nothing": 1})
    assert [(part.endpoint, part.lines) for part in job.parts] == [
        ("/v1/chat/completions", 2),
        ("/v1/chat/completions", 1),
        ("/v1/embeddings", 1),
    ]
    assert [it["row"] for it in folder.wrong()] == [5]
    assert folder.job() == job


def test_what_the_gateway_has_is_remembered(tmp_path: Path) -> None:
    folder, job = prepared(tmp_path, "a")
    folder.made(job, job.parts[0], "batch_1")
    found = folder.job()
    assert found is not None
    assert found.parts == (Part("part-1.jsonl", "/v1/chat/completions", 1, "batch_1"),)


def test_two_runs_are_not_at_work_on_the_same_answers(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out.jsonl")
    with folder.held(), pytest.raises(LockedError), Folder(tmp_path / "out.jsonl").held():
        pass
    assert not folder.path.exists()


def test_answers_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="is there already"), Folder(tmp_path / "out.jsonl").held():
        pass


def test_other_prompts_have_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("a")
    first = jobs.digest(path, {"model": "m"})
    assert jobs.digest(path, {"model": "n"}) != first
    path.write_text("b")
    assert jobs.digest(path, {"model": "m"}) != first


def test_rows_that_could_not_be_asked_say_why(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Why?\n" + "[" * 100_000 + "\n")
    folder = Folder(tmp_path / "out.jsonl")
    with folder.held():
        jobs.prepare(folder, "of", tmp_path / "prompts.txt", None, "m", {})
        wrong = list(folder.wrong())
    assert [it["row"] for it in wrong] == [1, 2]
    assert all(it["error"]["message"].startswith("is no JSON: ") for it in wrong)


def test_an_id_comes_back_as_it_was() -> None:
    assert jobs.told('12:"a:b"') == (12, "a:b")
    assert jobs.told("3:7") == (3, 7)
