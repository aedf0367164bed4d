"""provision/pyinfra.py: what the process says, in words for a person."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_ai.errors import HostError, RolloutError
from cluster_ai.provision.pyinfra import HostOutcome, _outcome


def told(**failure: str) -> dict[str, Any]:
    return {"changed": False, "error": {"what": "w", "remedy": "r", "kind": "rollout", "said": "", **failure}}


def test_a_host_without_an_error_is_done() -> None:
    assert _outcome("h", {"changed": True, "error": None}, "") == HostOutcome(ok=True, changed=True)


def test_a_process_that_dies_fails_every_host_it_told_nothing_of() -> None:
    outcome = _outcome("h", None, "Traceback\nMemoryError\n\n")
    assert isinstance(outcome.error, RolloutError)
    assert outcome.error.where == "h"
    assert "MemoryError" in outcome.error.what


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("deploy@h: Permission denied (publickey).", "refuses our SSH key"),
        ("ssh: connect to host h port 22: No route to host", "can't be reached"),
        ("sudo: a password is required", "sudo asks for a password"),
        ("Sorry, try again.\nsudo: 1 incorrect password attempt", "sudo refuses the password"),
    ],
)
def test_what_ssh_and_sudo_refuse_is_worded_as_everywhere(said: str, words: str) -> None:
    error = _outcome("h", told(kind="host", said=said), "").error
    assert isinstance(error, HostError)
    assert words in error.what
    assert error.remedy


def test_an_unknown_word_of_ssh_leaves_the_step_to_say_it() -> None:
    error = _outcome("h", told(kind="host", said="???"), "").error
    assert isinstance(error, HostError)
    assert (error.what, error.remedy) == ("w", "r")
