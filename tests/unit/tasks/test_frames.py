"""data_processing on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from cluster_ai.tasks.data import frames
from cluster_ai.tasks.data.frames import DataError
from cluster_ai.tasks.data.steps import plan_of

CSV = """shop,day,amount,note
north,2026-01-01,10,
north,2026-01-02,20,late
south,2026-01-01,,a late one
south,2026-01-03,5,
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sales").mkdir(parents=True)
    (folder / "sales" / "a.csv").write_text(CSV)
    (folder / "sales" / "b.csv").write_text("shop,day,amount,note\nwest,2026-02-01,7,\n")
    pandas.DataFrame({"n": [1, 2, 3], "text": ["a", None, "c"]}).to_parquet(folder / "t.parquet")
    return folder


def done(root: Path, *steps: dict[str, Any], files: str = "sales/*.csv", output: str = "csv") -> list[dict[str, Any]]:
    out = root.parent / f"out.{output}"
    told: list[float] = []
    plan = plan_of({"input": files, "steps": list(steps), "output": output})
    result = frames.run(plan, root, out, 1, lambda share, text: told.append(share))
    found = pandas.read_parquet(out) if output == "parquet" else pandas.read_csv(out)
    assert (result["rows"], result["columns"]) == (len(found), list(found.columns))
    assert told[0] == 0.0
    rows: list[dict[str, Any]] = json.loads(found.to_json(orient="records"))
    return rows


def test_several_files_are_one_table_and_whole_numbers_stay_whole_where_some_are_missing(root: Path) -> None:
    done(root)
    assert (root.parent / "out.csv").read_text() == CSV + "west,2026-02-01,7,\n"


@pytest.mark.parametrize(
    ("comparison", "value", "kept"),
    [
        (">=", 10, ["north", "north"]),
        ("!=", 10, ["north", "south", "west"]),
        ("in", [5, 7], ["south", "west"]),
        ("missing", None, ["south"]),
        ("present", None, ["north", "north", "south", "west"]),
    ],
)
def test_rows_are_filtered_and_what_is_missing_is_neither_more_nor_less(
    root: Path, comparison: str, value: Any, kept: list[str]
) -> None:
    found = done(root, {"do": "filter", "column": "amount", "is": comparison, "value": value})
    assert [row["shop"] for row in found] == kept


def test_texts_and_dates_are_filtered_too(root: Path) -> None:
    late = {"do": "filter", "column": "note", "is": "contains", "value": "late"}
    assert [row["shop"] for row in done(root, late)] == ["north", "south"]
    steps = (
        {"do": "convert", "column": "day", "to": "date"},
        {"do": "filter", "column": "day", "is": ">", "value": "2026-01-02"},
    )
    assert [row["shop"] for row in done(root, *steps)] == ["south", "west"]


@pytest.mark.parametrize("output", ["csv", "parquet"])
def test_groups_are_aggregated(root: Path, output: str) -> None:
    step = {"do": "aggregate", "by": ["shop"], "of": {"amount": ["sum", "mean"], "day": "count"}}
    found = {row.pop("shop"): row for row in done(root, step, output=output)}
    assert found == {
        "north": {"amount_sum": 30, "amount_mean": 15.0, "day_count": 2},
        "south": {"amount_sum": 5, "amount_mean": 5.0, "day_count": 2},
        "west": {"amount_sum": 7, "amount_mean": 7.0, "day_count": 1},
    }


def test_without_groups_it_is_over_all_rows(root: Path) -> None:
    assert done(root, {"do": "aggregate", "of": {"amount": ["max", "count"]}}) == [
        {"amount_max": 20, "amount_count": 4}
    ]


def test_columns_are_selected_and_converted(root: Path) -> None:
    steps = {"do": "convert", "column": "n", "to": "text"}, {"do": "select", "columns": ["n"]}
    done(root, *steps, files="t.parquet", output="parquet")
    assert pandas.read_parquet(root.parent / "out.parquet")["n"].tolist() == ["1", "2", "3"]


def test_lines_of_json_leave_out_nothing(root: Path) -> None:
    plan = plan_of({"input": "t.parquet", "output": "jsonl"})
    frames.run(plan, root, root.parent / "out", 1, lambda share, text: None)
    lines = [json.loads(line) for line in (root.parent / "out").read_text().splitlines()]
    assert lines == [{"n": 1, "text": "a"}, {"n": 2, "text": None}, {"n": 3, "text": "c"}]


@pytest.mark.parametrize(
    ("files", "steps", "why"),
    [
        ("none.csv", [], "payload.input: there is no none.csv in this worker's data folder"),
        ("away.csv", [], "payload.input: away.csv leads out of the data folder"),
        (
            "sales/*.csv",
            [{"do": "select", "columns": ["shop"]}, {"do": "filter", "column": "x", "is": "==", "value": 1}],
            "payload.steps[1]: there is no column 'x'; there are: shop",
        ),
        ("sales/*.csv", [{"do": "convert", "column": "note", "to": "integer"}], "payload.input: "),
        ("bad.parquet", [], "payload.input: "),
    ],
)
def test_what_cant_be_done_is_told(root: Path, files: str, steps: list[dict[str, Any]], why: str) -> None:
    (root / "away.csv").symlink_to("/etc/passwd")
    (root / "bad.parquet").write_text("no parquet")
    with pytest.raises(DataError) as caught:
        done(root, *steps, files=files)
    assert str(caught.value).startswith(why)
