"""Speeds that were measured, in cluster.yaml: what is written, what isn't, and that the rest of the file stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.bench.saving import comparable, speeds, written
from cluster_ai.config.load import load_text
from tests.unit.bench.test_results import FAST

PATH = Path("cluster.yaml")
TEXT = """\
version: '1.0'
cluster:
  name: 'c'
  scheduler: {host: 'head'}
  workers:
    - name: 'w1'  # under the window
      resources: {cpu: 8, memory: '32GB'}
    - name: 'w2'
      resources: {cpu: 8, memory: '32GB'}
      speeds:
        big:70b: 4
  models:
    - name: 'm'
      replicas: all
"""
CONFIG = load_text(TEXT, PATH)


def test_speeds_are_written_under_the_names_that_cluster_yaml_has() -> None:
    found = speeds(
        CONFIG, [replace(FAST, tokens_per_second=107.71), replace(FAST, worker="w2"), replace(FAST, worker="x")]
    )
    assert found == {"w1": {"m": 108.0}, "w2": {"big:70b": 4, "m": 100.0}}
    text = written(TEXT, CONFIG, found)
    assert [it.speeds for it in load_text(text, PATH).workers] == list(found.values())
    assert all(line in text.splitlines() for line in TEXT.splitlines())


def test_only_a_model_that_two_were_measured_with_compares_them() -> None:
    assert not comparable(CONFIG, speeds(CONFIG, [FAST]))
    assert comparable(CONFIG, speeds(CONFIG, [FAST, replace(FAST, worker="w2")]))


@given(st.floats(1, 1000), st.floats(0.81, 1.19))
def test_what_is_measured_again_changes_nothing_unless_it_is_another_speed(speed: float, error: float) -> None:
    first = load_text(written(TEXT, CONFIG, speeds(CONFIG, [replace(FAST, tokens_per_second=speed)])), PATH)
    there = first.workers[0].speeds["m"]
    assert speeds(first, [replace(FAST, tokens_per_second=there * error)]) == {}
    assert speeds(first, [replace(FAST, tokens_per_second=there * error * 2)])
