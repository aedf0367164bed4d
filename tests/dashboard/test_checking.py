from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashboard.checking import check, difference

EXAMPLE = (Path(__file__).parents[2] / "cluster.yaml").read_text()
WORKERS = """version: '1.0'
cluster:
  name: lab
  scheduler: {host: head}
  workers:
    - {name: large, resources: {cpu: 8, memory: 64GB, gpu: 1, gpu_memory: 24GB}}
    - {name: small, resources: {cpu: 4, memory: 16GB}}
  models:
"""


def test_the_example_is_right_and_its_models_have_their_places() -> None:
    found = check(EXAMPLE, {})
    assert (found.problems, found.unknown) == ((), ())
    assert "llama2:13b" in {it.model for it in found.placement}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("version: '1.0'\ncluster: {name: x\n", 3, "not valid YAML"),
        ("version: '2.0'\n", 1, "version: found '2.0', allowed: '1.0'"),
        ("version: '1.0'\nclutser: {}\n", 2, "clutser: found an unknown key"),
        ("version: '1.0'\ncluster:\n  name: x\n  gateway:\n    port: many\n", 5, "cluster.gateway.port: found 'many'"),
        (WORKERS + "    - {name: 'x:1b', replicas: 3}\n", 9, "found 3, allowed: at most 2"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, what: str) -> None:
    found = check(text, {}).problems
    assert any(it.line == line and what in it.what for it in found), found


def test_a_model_that_fits_nowhere_is_told_with_what_it_lacks_and_what_to_do() -> None:
    (problem,) = check(WORKERS + "    - {name: 'tiny:1b'}\n    - {name: 'giant:405b', replicas: 1}\n", {}).problems
    assert problem.line == 10
    assert problem.what.startswith("model 'giant:405b' needs 264 GB for its replica")
    assert problem.what.endswith("fits on no worker")
    assert problem.details == (
        "large: free 24 GB on GPU, 51.2 GB in RAM",
        "small: free 12.8 GB in RAM",
    )
    assert "take a smaller model" in problem.remedy


def test_replicas_that_find_no_place_are_told() -> None:
    (problem,) = check(WORKERS + "    - {name: x, replicas: 2, resources: {memory: 20GB}}\n", {}).problems
    assert "each of its 2 replicas" in problem.what
    assert "fits on 1 of 2 workers" in problem.what
    assert problem.remedy.startswith("set replicas to 1")


def test_models_that_fit_only_one_at_a_time_are_told() -> None:
    models = "".join(f"    - {{name: m{i}, resources: {{memory: 50GB}}}}\n" for i in range(2))
    (problem,) = check(WORKERS + models, {}).problems
    assert "beside the other models" in problem.what


def test_a_model_that_is_a_file_is_placed_by_what_the_cluster_knows_of_it() -> None:
    text = WORKERS + "    - {name: Own, source: own.gguf, quantize: q8_0}\n    - {name: new, source: /etc/passwd}\n"
    found = check(text, {"own:latest": 20_000_000_000})
    assert not found.problems
    assert [(it.model, it.worker, it.processor) for it in found.placement] == [("Own", "large", "gpu")]
    assert found.unknown == ("new",)
    (problem,) = check(text, {"own:latest": 200_000_000_000}).problems
    assert "fits on no worker" in problem.what


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: [" * 100_000,
        "version: &a [*a]\n",
        "cluster: &a {workers: [*a], models: [*a]}\n",
        "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(30)),
        "".join(f"- &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9) if i else ''}], k{i}: 1}}\n" for i in range(30)),
        "version: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(3000)),
    ],
)
def test_what_is_nested_without_end_is_told(text: str) -> None:
    assert check(text, {}).problems


MODELS = st.text(max_size=30).map(lambda name: f"{WORKERS}    - {{name: x, source: {json.dumps(name)}}}\n")


@given(st.text(max_size=200) | MODELS)
@example(f"{WORKERS}    - {{name: x, source: ~nobody-of-this-name/x}}\n")
def test_nothing_that_somebody_types_breaks_it(text: str) -> None:
    for it in check(text, {}).problems:
        assert it.line >= 1
        assert it.what


def test_only_what_was_changed_is_in_the_difference() -> None:
    found = difference("a\nb\nc\n", "a\nB\nc\n")
    assert "-b" in found
    assert "+B" in found
    assert difference("a\n", "a\n") == ""
    assert difference("a\n", "b\n", ("monday", "friday")).startswith("--- monday\n+++ friday\n")
