from __future__ import annotations

import shlex
import stat
import subprocess
import time
from pathlib import Path

import pytest

from cluster_ai.discovery.tokens import Tokens, line
from cluster_ai.errors import UsageError


def test_a_token_is_taken_by_one_machine_once(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    made = tokens.create("c1")
    assert tokens.use(made.id, "SHA256:a")
    assert not tokens.use(made.id, "SHA256:b")
    assert tokens.use(made.id, "SHA256:a"), "the same machine may be answered again"
    (kept,) = Tokens(tmp_path).all()
    assert (kept.state(time.time()), kept.used_by) == ("used", "SHA256:a")


def test_a_token_that_expired_or_was_revoked_is_worth_nothing(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    expired, revoked = tokens.create("c1", -1), tokens.create("c1")
    tokens.revoke(revoked.text)
    assert not tokens.use(expired.id, "SHA256:a")
    assert not tokens.use(revoked.id, "SHA256:a")
    assert [it.state(time.time()) for it in tokens.all()] == ["expired", "revoked"]


def test_only_what_can_be_revoked_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no join token 'zzzzzz'"):
        Tokens(tmp_path).revoke("zzzzzz")


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.create("c1")
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600


def test_the_line_runs_by_itself_and_is_short_enough_for_any_terminal() -> None:
    text = line("nonsense")
    assert len(text) < 4096
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "this is no join token" in done.stderr
    assert shlex.split(text)[-1] == "nonsense"
