from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.batch import reading
from cluster_ai.batch.reading import CHAT, EMBEDDINGS, Asked
from cluster_ai.errors import ConfigError


def asked(path: Path, column: str | None = None, model: str | None = "m") -> list[Asked]:
    return [reading.asked(n, row, model, {}) for n, row in enumerate(reading.rows(path, column), 1)]


def said(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def test_a_line_is_a_text_or_an_object_or_one_of_openais(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    whole = {"custom_id": "z", "method": "POST", "url": "/v1/completions", "body": {"model": "n", "prompt": "p"}}
    rows: list[Any] = ["Hi", {"id": "x", "prompt": "Ho"}, {"input": "to embed"}, whole]
    path.write_text("\n\n".join(map(json.dumps, rows)) + "\nnot JSON\n{}\n")
    assert asked(path)[:4] == [
        Asked(1, CHAT, said("Hi")),
        Asked("x", CHAT, said("Ho")),
        Asked(3, EMBEDDINGS, {"model": "m", "input": "to embed"}),
        Asked("z", "/v1/completions", {"model": "n", "prompt": "p"}),
    ]
    assert [it.endpoint for it in asked(path)[4:]] == [None, None]


def test_a_text_in_a_table_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,question\n7,"a, ""b""\nand c"\n,d\n')
    assert asked(path, "question") == [Asked("7", CHAT, said('a, "b"\nand c')), Asked(2, CHAT, said("d"))]


def test_parquet_is_read_a_partition_after_the_other(tmp_path: Path) -> None:
    for number in range(2):
        frame = pandas.DataFrame({"id": [number], "prompt": [f"p{number}"], "more": [1.0]})
        frame.to_parquet(tmp_path / f"part.{number}.parquet")
    assert asked(tmp_path) == [Asked(0, CHAT, said("p0")), Asked(1, CHAT, said("p1"))]
    assert asked(tmp_path / "part.1.parquet") == [Asked(1, CHAT, said("p1"))]


def test_a_table_without_prompts_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="it has a, b"):
        asked(path)


def test_a_row_without_a_model_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('"Hi"\n{"prompt": "Ho", "model": "n"}\n')
    assert [it.endpoint for it in asked(path, model=None)] == [None, CHAT]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "messages", "input", "id", "model", "body", "custom_id", "url"]), inner
        )
    ),
    max_leaves=6,
)


@given(json_values)
def test_whatever_a_row_is_it_is_asked_or_told_why_not(row: Any) -> None:
    found = reading.asked(1, row, "m", {})
    assert found.endpoint is not None or found.body["message"]
