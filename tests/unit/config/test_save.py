from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_ai.config import load_text
from cluster_ai.config.document import read
from cluster_ai.config.save import backups, changed, resolve, restore, set_value
from cluster_ai.errors import ClusterAIError, ConfigError
from tests.unit.config.test_load import ROOT, SEED

FILE = Path("cluster.yaml")


def nothing(text: str) -> None:
    """A check that lets everything pass."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text("# head\n" + SEED + "  # tail\n")
    return path


def test_a_change_touches_its_line_only() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    new = changed(text, ROOT / "cluster.yaml", "cluster.models[llama2:13b].replicas", "1")
    pairs = [(old.split(), line.split()) for old, line in zip(text.splitlines(), new.splitlines(), strict=True)]
    different = [(old[:2], line[:2]) for old, line in pairs if old != line]
    assert different == [(["replicas:", "2"], ["replicas:", "1"])]


def test_comments_order_and_quotes_stay(file: Path) -> None:
    text = file.read_text()
    new = changed(text, file, "cluster.scheduler.host", "head.lan")
    assert new == text.replace("'scheduler.cluster.ai'", "'head.lan'")


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_lists_keep_the_indentation_of_the_file(indent: str) -> None:
    text = f"version: '1.0'\ncluster:\n  workers:\n  {indent}- name: a\n  {indent}  host: b\n  name: x\n"
    assert changed(text, FILE, "cluster.name", "y") == text.replace("name: x", "name: y")


def test_a_section_that_is_missing_is_made() -> None:
    new = changed(SEED, FILE, "cluster.gateway.port", "11500")
    assert new == SEED + "  gateway:\n    port: 11500\n"


def test_an_item_of_a_list_is_named_by_name_or_number() -> None:
    document = read(SEED, FILE)
    assert resolve("cluster.models[llama2:13b].replicas", document) == ("cluster", "models", 0, "replicas")
    assert resolve("cluster.workers[1].host", document) == ("cluster", "workers", 1, "host")


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("cluster.models[mistral].replicas", "found no item 'mistral', allowed: llama2:13b, or a number below 1"),
        ("cluster.workers[7].host", "found no item '7'"),
        ("cluster.name[0]", "cluster.name is not a list"),
        ("cluster..name", "not a key"),
        ("cluster.models[", "not a key"),
        ("", "no key is named"),
        ("cluster.name.first", "cluster.name has no keys"),
    ],
)
def test_a_key_that_leads_nowhere_is_told(key: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error.replace("[", r"\[")):
        changed(SEED, FILE, key, "1")


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("cluster.models[0].replicas", "all", "replicas: all"),
        ("cluster.models[0].options", "{num_ctx: 2048}", "num_ctx: 2048"),
        ("cluster.engine.version", "0.18.0", "version: 0.18.0"),
        ("version", "1.0", "version: '1.0'"),
        ("cluster.interface.dashboard", "false", "dashboard: false"),
        ("cluster.workers[0].labels.room", "204", "room: '204'"),
    ],
)
def test_a_value_is_what_it_would_be_in_the_file(key: str, value: str, line: str) -> None:
    new = changed(SEED, FILE, key, value)
    assert line in new
    load_text(new, FILE)


def test_the_file_as_it_was_is_in_a_dated_backup(file: Path) -> None:
    old = file.read_bytes()
    file.chmod(0o640)
    backup = set_value(file, "cluster.models[0].replicas", "1", nothing)
    assert backup is not None
    assert backup.name.startswith("cluster.yaml.2")
    assert backup.name.endswith(".bak")
    assert backup.read_bytes() == old
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, backup)} == {0o640}
    assert "replicas: 1" in file.read_text()
    assert {path.name for path in file.parent.iterdir()} == {file.name, backup.name}


def test_several_changes_in_one_second_have_each_its_backup(file: Path) -> None:
    made = [set_value(file, "cluster.gateway.port", str(port), nothing) for port in range(20000, 20004)]
    assert len(set(made)) == 4
    assert [p.name for p in backups(file)] == [p.name for p in reversed(made) if p]


def test_what_the_file_says_already_changes_nothing(file: Path) -> None:
    assert set_value(file, "cluster.models[0].replicas", "2", nothing) is None
    assert backups(file) == []


def test_what_the_check_refuses_is_not_written(file: Path) -> None:
    old = file.read_text()
    with pytest.raises(ClusterAIError, match=r"cluster.gateway.port: found 0"):
        set_value(file, "cluster.gateway.port", "0", lambda text: load_text(text, file))
    assert file.read_text() == old
    assert backups(file) == []


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    set_value(link, "cluster.models[0].replicas", "1", nothing)
    assert link.is_symlink()
    assert "replicas: 1" in file.read_text()


def test_a_write_that_fails_leaves_the_file_and_no_rest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().name.startswith(".cluster.yaml"):
            raise OSError(28, "No space left on device")

    old = file.read_text()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        set_value(file, "cluster.models[0].replicas", "1", nothing)
    assert file.read_text() == old
    assert [p.name for p in file.parent.iterdir() if p.name.startswith(".")] == []


def test_restore_brings_the_newest_back_and_can_be_undone(file: Path) -> None:
    first = file.read_text()
    set_value(file, "cluster.models[0].replicas", "1", nothing)
    second = file.read_text()
    restore(file)
    assert file.read_text() == first
    restore(file)
    assert file.read_text() == second


def test_restore_takes_a_backup_by_name(file: Path) -> None:
    first = file.read_text()
    backup = set_value(file, "cluster.models[0].replicas", "1", nothing)
    assert backup
    set_value(file, "cluster.gateway.port", "20000", nothing)
    restore(file, backup.name)
    assert file.read_text() == first


def test_restore_without_backups_says_so(file: Path) -> None:
    with pytest.raises(ConfigError, match="has no backup"):
        restore(file)
    with pytest.raises(ConfigError, match=r"there is no backup 'x.bak'"):
        restore(file, "x.bak")


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 65535), st.sampled_from(["cluster.gateway.port", "cluster.scheduler.port", "cluster.ssh.port"]))
def test_what_is_set_is_what_is_read(port: int, key: str) -> None:
    document = read(changed(SEED, FILE, key, str(port)), FILE)
    place = document.data
    for part in key.split("."):
        place = place[part]
    assert place == port
