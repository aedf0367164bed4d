from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.config.document import read
from cluster_ai.config.extend import with_workers
from cluster_ai.config.load import load_text
from cluster_ai.config.model import Resources, Worker
from cluster_ai.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
PATH = Path("cluster.yaml")
NEW = Worker("new-1", "10.0.0.9", Resources(8, 32 * 10**9, 1, 12_800_000_000), {})
HEAD = "version: '1.0'\ncluster:\n  name: 'c'\n  scheduler: {host: 'head'}\n"


def test_the_example_gets_a_worker_and_every_other_line_stays() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    new = with_workers(text, PATH, [NEW])
    lines = new.splitlines()
    at = lines.index("    - name: 'new-1'")
    assert lines[at : at + 3] == [
        "    - name: 'new-1'",
        "      host: '10.0.0.9'",
        "      resources: {cpu: 8, memory: '32GB', gpu: 1, gpu_memory: '12.8GB'}",
    ]
    assert [*lines[:at], *lines[at + 3 :]] == text.splitlines()
    assert load_text(new, PATH).workers[-1] == NEW


@pytest.mark.parametrize(
    "workers",
    [
        "  workers:\n    - name: 'w1'\n      resources: {cpu: 1, memory: '2GB'}  # old\n    # the last\n",
        "  workers:\n  - name: 'w1'\n    resources:\n      cpu: 1\n      memory: '2GB'\n\n  # models:\n",
        "  workers:\n  -   resources: {cpu: 1,\n        memory: '2GB'}\n      name: w1\n  models: []\n",
        "  workers:\n    - resources: {cpu: 1, memory: '2GB'}\n      name: |-\n        w1\n  models: []\n",
        "  workers:\n    - {name: 'w1', resources: {cpu: 1, memory: '2GB'}}",
    ],
)
def test_however_the_list_is_written_a_worker_comes_after_the_last(workers: str) -> None:
    new = with_workers(HEAD + workers, PATH, [NEW])
    assert [worker.name for worker in load_text(new, PATH).workers] == ["w1", "new-1"]
    assert all(line in new.splitlines() for line in workers.splitlines())


def test_a_list_in_brackets_is_left_alone() -> None:
    with pytest.raises(ConfigError, match="not a list with an item a line"):
        with_workers(HEAD + "  workers: [{name: w1, resources: {cpu: 1, memory: '2GB'}}]\n", PATH, [NEW])


@given(
    st.lists(
        st.builds(
            Worker,
            st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
            st.just("10.0.0.9"),
            st.builds(
                Resources,
                st.integers(1, 4096),
                st.integers(1, 10**13),
                st.integers(0, 8),
                st.none() | st.integers(1, 10**12),
            ),
            st.just({}),
        ),
        max_size=3,
    )
)
def test_what_was_written_is_what_is_read(workers: list[Worker]) -> None:
    text = HEAD + "  workers:\n    - name: 'w1'\n      resources: {cpu: 1, memory: '2GB'}\n"
    data = read(with_workers(text, PATH, workers), PATH).data["cluster"]["workers"]
    assert [it["name"] for it in data[1:]] == [worker.name for worker in workers]
    assert [it["resources"]["cpu"] for it in data[1:]] == [worker.resources.cpu for worker in workers]
