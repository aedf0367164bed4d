"""Named keys: told once, kept as digests, gone at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.gateway.admission.keys import FILE, Keys
from cluster_ai.gateway.admission.users import Limits, User
from cluster_ai.gateway.api.http import Refusal

ANNA = User("anna", 3, limits=Limits(tokens_per_minute=1000))


def test_a_key_is_its_users_until_it_is_revoked() -> None:
    keys = Keys(None)
    secret, key = keys.create(ANNA)
    assert keys.user(secret.encode()) == ANNA
    assert keys.list() == [key]
    keys.revoke("anna")
    assert keys.user(secret.encode()) is None
    assert keys.list() == []


@pytest.mark.parametrize("secret", [b"", b"cai-", b"cai-guess", b"\xff\x00"])
def test_what_is_no_key_is_nobodys(secret: bytes) -> None:
    keys = Keys(None)
    keys.create(ANNA)
    assert keys.user(secret) is None


def test_the_file_holds_no_key_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    secret, _ = Keys(tmp_path).create(ANNA)
    files = [path for path in tmp_path.iterdir() if path.name.startswith(FILE)]
    assert not any(secret.encode() in path.read_bytes() for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_what_one_gateway_does_the_other_knows_at_once(tmp_path: Path) -> None:
    one, other = Keys(tmp_path), Keys(tmp_path)
    secret, _ = one.create(ANNA)
    assert other.user(secret.encode()) == ANNA
    other.revoke("anna")
    assert one.user(secret.encode()) is None


def test_keys_outlast_the_gateway(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    secret, _ = keys.create(ANNA)
    keys.close()
    assert Keys(tmp_path).user(secret.encode()) == ANNA


@pytest.mark.parametrize("name", ["anna", "token", "anonymous"])
def test_a_name_is_taken_once(name: str) -> None:
    keys = Keys(None)
    keys.create(ANNA)
    with pytest.raises(Refusal) as caught:
        keys.create(User(name))
    assert caught.value.status == 409


def test_what_isnt_there_cant_be_revoked() -> None:
    with pytest.raises(Refusal) as caught:
        Keys(None).revoke("nobody")
    assert caught.value.status == 404


def test_a_broken_file_is_put_aside_and_told_of(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database " * 100)
    notes: list[str] = []
    assert Keys(tmp_path, notes.append).list() == []
    assert "put aside" in notes[0]
    assert list(tmp_path.glob(f"{FILE}.unreadable-*"))
