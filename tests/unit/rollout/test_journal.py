from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import ConfigError, ExitCode, UsageError
from cluster_ai.rollout.journal import STATES, Change, Intent, Journal, Rollout, Step

A, B = "a" * 64, "b" * 64
INTENT = Intent("test", "rolling", "c" * 64, {"h1": Change(A, B), "h2": Change(None, B)}, ({"hosts": ["h1", "h2"]},))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / ".cluster-ai" / "rollouts.sqlite")


def test_what_a_rollout_did_is_read_again_as_it_was_written(journal: Journal) -> None:
    name = journal.begin("cluster-ai apply", "me@here", INTENT)
    journal.step(name, "switch", "h1", "start")
    journal.step(name, "switch", "h1", "failed", "did not become healthy")
    found = journal.get(name)
    assert (found.state, found.ended, found.intent) == ("running", None, INTENT)
    assert [(it.step, it.host, it.status, it.detail) for it in found.steps] == [
        ("switch", "h1", "start", ""),
        ("switch", "h1", "failed", "did not become healthy"),
    ]
    assert found.at == "h1: switch failed"
    journal.set_state(name, "returned", "no")
    ended = journal.get(name)
    assert (ended.state, ended.reason) == ("returned", "no")
    assert ended.ended is not None


def test_steps_are_there_though_their_writer_was_killed(journal: Journal, tmp_path: Path) -> None:
    name = journal.begin("cluster-ai apply", "me@here", INTENT)
    script = (
        "import os, sys, pathlib; from cluster_ai.rollout.journal import Journal\n"
        "Journal(pathlib.Path(sys.argv[1])).step(sys.argv[2], 'push', 'h1', 'start'); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / ".cluster-ai" / "rollouts.sqlite"
    subprocess.run([sys.executable, "-c", script, str(path), name], check=False)
    assert journal.get(name).at == "h1: push start"
    assert journal.interrupt_running() == (name,)
    assert journal.get(name).state == "interrupted"


def test_the_newest_is_meant_where_none_is_named_and_a_beginning_is_enough(journal: Journal) -> None:
    first, second = (journal.begin("cluster-ai apply", "me@here", INTENT) for _ in range(2))
    newest = max(first, second)
    assert journal.get().id == newest
    assert journal.get(first).id == first
    assert [it.id for it in journal.all()] == sorted((first, second), reverse=True)
    assert [it.id for it in journal.all(1)] == [newest]
    with pytest.raises(UsageError, match="several rollouts begin with 20") as caught:
        journal.get("20")
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_rollout_that_never_was_is_a_mistake_of_the_command(journal: Journal) -> None:
    with pytest.raises(UsageError, match="there has been no rollout"):
        journal.get()
    with pytest.raises(UsageError, match="there is no rollout 1999"):
        journal.get("1999")


@given(
    st.builds(
        Rollout,
        id=st.text("0123456789-", min_size=1, max_size=20),
        command=WORDS,
        who=WORDS,
        started=st.floats(0, 2e9),
        ended=st.none() | st.floats(0, 2e9),
        state=st.sampled_from(list(STATES)),
        reason=WORDS,
        intent=st.just(INTENT),
        steps=st.lists(st.builds(Step, st.floats(0, 2e9), WORDS, WORDS, WORDS, WORDS)).map(tuple),
    )
)
def test_a_record_of_another_controller_is_taken_whole(
    tmp_path_factory: pytest.TempPathFactory, other: Rollout
) -> None:
    assert Rollout.read(other.as_dict()) == other
    journal = Journal(tmp_path_factory.mktemp("journal") / "rollouts.sqlite")
    journal.take(other)
    assert journal.get(other.id) == other
    shorter = Rollout.read({**other.as_dict(), "steps": other.as_dict()["steps"][:-1], "ended": None})
    if (other.steps, other.ended) != ((), None):
        journal.take(shorter)
        assert journal.get(other.id) == other


def test_of_a_record_that_went_on_elsewhere_the_end_is_taken_though_it_has_no_further_step(journal: Journal) -> None:
    name = journal.begin("cluster-ai apply", "me@here", INTENT)
    journal.step(name, "switch", "h1", "changed")
    early = journal.get(name)
    ended = Rollout.read({**early.as_dict(), "state": "done", "ended": early.started + 1})
    journal.take(ended)
    assert journal.get(name) == ended
    journal.take(early)
    assert journal.get(name) == ended


def test_a_journal_that_is_damaged_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.sqlite"
    path.write_text("this is no database, however long one looks at it")
    with pytest.raises(ConfigError) as caught:
        Journal(path).begin("cluster-ai apply", "me@here", INTENT)
    assert str(caught.value).startswith(
        f"{path}: the journal of rollouts can't be used: file is not a database\n  -> move"
    )


def test_a_journal_without_its_folder_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "rollouts.sqlite").mkdir()
    with pytest.raises(ConfigError, match="can't be used: unable to open database file"):
        Journal(tmp_path / "rollouts.sqlite").begin("cluster-ai apply", "me@here", INTENT)
