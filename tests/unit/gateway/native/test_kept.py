from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.kept import sessions as kept
from cluster_ai.gateway.api.native.kept.database import FILE, Database
from cluster_ai.gateway.api.native.kept.fleet import FleetChanges, restore
from cluster_ai.gateway.api.native.kept.sessions import Message, Sessions
from cluster_ai.gateway.api.native.kept.templates import Template, Templates
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.settings import Upstream
from tests.rig.cluster import gateway_settings

ASKED, ANSWERED = Message("user", "Why?  Say\nit."), Message("assistant", "So.", worker="w1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(database: Database, clock: Clock) -> Sessions:
    return Sessions(database, clock)


def refused(status: int) -> pytest.RaisesExc[Refusal]:
    return pytest.RaisesExc(Refusal, check=lambda e: e.status == status)


def test_a_turn_is_kept_whole_and_names_the_session(sessions: Sessions) -> None:
    made = sessions.create("anna", title="", model="m", system=None)
    assert sessions.append("anna", made.id, 1, [ASKED, ANSWERED]) == 1
    found, said = sessions.get("anna", made.id)
    assert (found.title, found.turns, found.model) == ("Why? Say it.", 1, "m")
    assert [(m.role, m.content, m.worker) for m in said] == [("user", ASKED.content, None), ("assistant", "So.", "w1")]


def test_a_session_is_nobody_elses(sessions: Sessions) -> None:
    made = sessions.create("anna", title="t", model=None, system=None)
    for ask in (sessions.get, sessions.delete):
        with refused(404):
            ask("ben", made.id)
    with refused(404):
        sessions.append("ben", made.id, 1, [ASKED])
    assert sessions.list("ben") == ()
    assert [s.id for s in sessions.list("anna")] == [made.id]


def test_of_two_turns_at_once_the_second_is_not_kept(sessions: Sessions) -> None:
    made = sessions.create("anna", title="t", model=None, system=None)
    sessions.append("anna", made.id, 1, [ASKED, ANSWERED])
    with refused(409):
        sessions.append("anna", made.id, 1, [ASKED, ANSWERED])
    assert sessions.get("anna", made.id)[0].turns == 1


def test_a_session_that_is_full_keeps_what_it_has(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SIZE", 20)
    made = sessions.create("anna", title="t", model=None, system=None)
    sessions.append("anna", made.id, 1, [ASKED, ANSWERED])
    with refused(409):
        sessions.append("anna", made.id, 2, [ASKED, ANSWERED])
    assert len(sessions.get("anna", made.id)[1]) == 2


def test_one_user_has_only_so_many_sessions(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "PER_OWNER", 1)
    sessions.create("anna", title="t", model=None, system=None)
    with refused(409):
        sessions.create("anna", title="t", model=None, system=None)
    sessions.create("ben", title="t", model=None, system=None)


def test_what_is_deleted_leaves_no_message_behind(sessions: Sessions, database: Database) -> None:
    made = sessions.create("anna", title="t", model=None, system=None)
    sessions.append("anna", made.id, 1, [ASKED, ANSWERED])
    sessions.delete("anna", made.id)
    with database.transaction() as db:
        assert db.execute("SELECT count(*) FROM messages").fetchone()[0] == 0


def test_the_last_used_session_comes_first_and_the_unused_are_forgotten(sessions: Sessions, clock: Clock) -> None:
    old, new = (sessions.create("anna", title=title, model=None, system=None) for title in ("old", "new"))
    clock.now += 100
    sessions.append("anna", old.id, 1, [ASKED, ANSWERED])
    assert [s.title for s in sessions.list("anna")] == ["old", "new"]
    assert sessions.forget(50) == 1
    assert [s.id for s in sessions.list("anna")] == [old.id]
    with refused(404):
        sessions.get("anna", new.id)


def test_sessions_outlast_the_process_in_a_file_that_only_the_gateway_reads(tmp_path: Path) -> None:
    first = Database(tmp_path)
    made = Sessions(first).create("anna", title="t", model=None, system=None)
    second = Database(tmp_path)  # as during an update, when two gateways run
    try:
        Sessions(second).append("anna", made.id, 1, [ASKED, ANSWERED])
        assert Sessions(first).get("anna", made.id)[0].turns == 1
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    finally:
        first.close()
        second.close()


def test_a_file_that_cant_be_read_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, " * 100)
    said: list[str] = []
    made = Database(tmp_path, said.append)
    try:
        assert Sessions(made).list("anna") == ()
        assert "can't be read" in said[0]
        assert list(tmp_path.glob(f"{FILE}.unreadable-*"))
    finally:
        made.close()


def test_a_disk_that_takes_nothing_is_told_as_503(database: Database) -> None:
    sessions = Sessions(database)
    with database.transaction() as db:
        db.execute("PRAGMA query_only = ON")
    with refused(503):
        sessions.create("anna", title="t", model=None, system=None)


def test_ones_own_template_goes_before_everyones(database: Database) -> None:
    templates = Templates(database)
    templates.put("admin", Template("t", "everyone's {{x}}", shared=True))
    templates.put("anna", Template("t", "Anna's"))
    templates.put("anna", Template("u", "only hers"))
    assert [(t.name, t.text, t.shared) for t in templates.list("anna")] == [
        ("t", "Anna's", False),
        ("u", "only hers", False),
    ]
    assert [(t.name, t.shared) for t in templates.list("ben")] == [("t", True)]
    templates.delete("anna", "t", shared=False)
    assert templates.get("anna", "t").text == "everyone's {{x}}"
    with refused(404):
        templates.delete("anna", "t", shared=False)
    templates.delete("admin", "t", shared=True)
    with refused(404):
        templates.get("ben", "t")


def test_a_template_that_is_put_again_is_replaced(database: Database) -> None:
    templates = Templates(database)
    templates.put("anna", Template("t", "a", system="s"))
    templates.put("anna", Template("t", "b"))
    assert (templates.get("anna", "t").text, templates.get("anna", "t").system) == ("b", None)


def test_what_is_missing_or_has_no_gap_is_named() -> None:
    template = Template("explain", "Explain {{topic}} to {{ reader }}.", system="{{tone}}, {{topic}}")
    assert template.variables == ("tone", "topic", "reader")
    with pytest.raises(Refusal, match="needs variables 'tone', 'reader'") as caught:
        template.fill({"topic": "tides"})
    assert caught.value.status == 400
    with pytest.raises(Refusal, match="no variable 'who'"):
        template.fill({"topic": "a", "reader": "b", "tone": "c", "who": "d"})


@given(st.dictionaries(st.sampled_from(["a", "b_1", "C"]), st.text(), min_size=3, max_size=3), st.text())
def test_values_go_in_as_they_are_and_are_never_filled_in_again(values: dict[str, str], rest: str) -> None:
    around = rest.replace("{{", "{").replace("}}", "}")
    filled = Template("t", f"{around} {{{{a}}}}|{{{{ b_1 }}}}|{{{{C}}}}").fill(values)
    assert filled.text == f"{around} {values['a']}|{values['b_1']}|{values['C']}"


def test_braces_that_name_nothing_are_text() -> None:
    text = '{"a": {"b": 1}} {{}} {{1x}} {{a.b}} {{a b}} {{__import__("os")}} { {x} }'
    assert Template("t", text).fill({}).text == text


def test_changes_of_the_fleet_are_restored_unless_the_configuration_names_them_by_now(database: Database) -> None:
    changes, said = FleetChanges(database), list[str]()
    lent = Upstream("lent", "http://127.0.0.1:1", (), 2, 1)
    changes.add_worker(lent, "anna")
    changes.add_worker(Upstream("w1", "http://127.0.0.1:2", (), 1, 0), "anna")
    changes.set_context("own:latest", 4096)
    changes.set_context("placed:latest", 4096)
    configured = Upstream("w1", "https://w1:11443", ("placed",), 1, 0)
    for _ in range(2):
        fleet = Fleet(gateway_settings(upstreams=(configured,), models={"placed": 2048}))
        restore(fleet, changes, said.append)
        assert {name: w.upstream for name, w in fleet.workers.items()} == {"w1": configured, "lent": lent}
        assert fleet.contexts == {"placed:latest": 2048, "own:latest": 4096}
    assert len(said) == 2
    changes.remove_worker("lent")
    changes.set_context("own:latest", None)
    assert (changes.workers(), changes.contexts()) == ((), {})
