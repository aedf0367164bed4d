from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.settings import TaskWorker
from cluster_ai.tasks import placing
from cluster_ai.tasks.data.steps import Aggregate, Convert, Filter, Plan, Select, StepsError, plan_of
from cluster_ai.tasks.model import WrongError, spec_of


def test_a_payload_is_a_plan() -> None:
    steps = [
        {"do": "convert", "column": "day", "to": "date"},
        {"do": "filter", "column": "shop", "is": "in", "value": ["north", "south"]},
        {"do": "aggregate", "by": ["shop"], "of": {"amount": ["sum", "mean"], "day": "max"}},
        {"do": "select", "columns": ["shop", "amount_sum"]},
    ]
    assert plan_of({"input": "sales/*.csv", "steps": steps, "output": "parquet"}) == Plan(
        ("sales/*.csv",),
        ".csv",
        (
            Convert("day", "date"),
            Filter("shop", "in", ["north", "south"]),
            Aggregate(("shop",), (("amount", "sum"), ("amount", "mean"), ("day", "max"))),
            Select(("shop", "amount_sum")),
        ),
        "parquet",
    )


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({}, "payload.input: a path, or a list of them"),
        ({"input": "/etc/passwd.csv"}, "must be relative to the data folder"),
        ({"input": ["a.csv", "../b.csv"]}, "payload.input: '../b.csv' must be relative"),
        ({"input": ["a.csv", "b.parquet"]}, "all paths must end in .csv, or all in .parquet"),
        ({"input": "a.txt"}, "all paths must end in .csv"),
        ({"input": "a.csv", "output": "xls"}, "payload.output: 'xls' is none of csv, jsonl, parquet"),
        ({"input": "a.csv", "code": "rm"}, "payload.code: there is no such field"),
        ({"input": "a.csv", "steps": [{"do": "eval"}]}, "payload.steps[0].do: must be one of select, filter"),
        ({"input": "a.csv", "steps": [{"do": "select", "columns": []}]}, "payload.steps[0].columns: names"),
        ({"input": "a.csv", "steps": [{"do": "convert", "column": "a", "to": "x"}]}, ".to: 'x' is none of integer"),
        ({"input": "a.csv", "steps": [{"do": "filter", "column": "a", "is": "like"}]}, ".is: 'like' is none of =="),
        ({"input": "a.csv", "steps": [{"do": "filter", "column": "a", "is": "in", "value": 1}]}, ".value: in takes"),
        ({"input": "a.csv", "steps": [{"do": "aggregate", "of": {"a": "eval"}}]}, ".of.a: 'eval' is none of sum"),
        ({"input": "a.csv", "steps": [{"do": "select", "columns": ["a"], "x": 1}]}, ".x: there is no such field"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(payload: dict[str, Any], why: str) -> None:
    with pytest.raises(StepsError) as caught:
        plan_of(payload)
    assert why in str(caught.value)
    with pytest.raises(WrongError):
        spec_of({"kind": "data_processing", "payload": payload})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(["select", "aggregate", "in"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["do", "column", "is", "value", "to", "by", "of", "columns"]), inner)
    ),
    max_leaves=12,
)


def wrong(payload: dict[str, Any]) -> str:
    """Empty: it is a plan."""
    try:
        plan_of(payload)
    except StepsError as e:
        return str(e)
    return ""


@given(JSON, JSON, JSON)
def test_whatever_is_sent_is_a_plan_or_told_to_be_none(paths: Any, steps: Any, output: Any) -> None:
    told = wrong({"input": paths, "steps": steps, "output": output})
    assert not told or told.startswith("payload.")


@given(st.lists(JSON, max_size=3))
def test_no_step_is_too_strange(steps: list[Any]) -> None:
    steps = [{"do": "aggregate"} | step if isinstance(step, dict) else step for step in steps]
    told = wrong({"input": "a.csv", "steps": steps})
    assert not told or told.startswith("payload.steps[")


def test_it_runs_where_there_is_a_data_folder_and_may_always_run_again() -> None:
    spec = spec_of({"kind": "data_processing", "payload": {"input": "a.csv"}})
    assert spec.idempotent
    workers = TaskWorker("a", 1, 1, 0, (), data=False), TaskWorker("b", 1, 1, 0, (), data=True)
    assert placing.able(spec, workers) == ("b",)
    assert placing.nowhere(spec, workers[:1]).endswith("a lacks a data folder (tasks.data in cluster.yaml)")
    with pytest.raises(WrongError, match="may always run again"):
        spec_of({"kind": "data_processing", "payload": {"input": "a.csv"}, "idempotent": False})
