"""ansible-runner's events as ours, and its failures as errors that say what to do."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.errors import ClusterAIError, HostError, RolloutError
from cluster_ai.provision import ansible
from cluster_ai.provision.ansible import TaskEvent, failure, reason, task_event


def event(kind: str, result: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": "h1", "role": "base", "task": "T", "res": result or {}, **data}}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (event("runner_on_start"), "running"),
        (event("runner_on_ok"), "ok"),
        (event("runner_on_ok", {"changed": True}), "changed"),
        (event("runner_on_skipped"), "skipped"),
        (event("runner_on_failed", {"msg": "no"}), "failed"),
        (event("runner_on_failed", {"msg": "no"}, ignore_errors=True), "ok"),
        (event("runner_on_unreachable", {"msg": "gone"}), "unreachable"),
    ],
)
def test_an_event_of_a_task_is_told(raw: dict[str, Any], status: str) -> None:
    told = task_event(raw)
    assert told is not None
    assert (told.host, told.role, told.task, told.status) == ("h1", "base", "T", status)
    assert bool(told.message) == (status in ("failed", "unreachable"))


@pytest.mark.parametrize("kind", ["playbook_on_start", "playbook_on_task_start", "runner_item_on_ok", "verbose", ""])
def test_other_events_are_not(kind: str) -> None:
    assert task_event(event(kind)) is None
    assert task_event({"event": kind}) is None


def test_a_reason_has_the_modules_words_and_what_its_command_complained_of() -> None:
    assert reason({"msg": "non-zero return code", "stderr": "tar: broken", "stdout": "x"}) == (
        "non-zero return code\ntar: broken"
    )
    assert (
        reason({"msg": "All items completed", "results": [{"failed": False}, {"failed": True, "msg": "two"}]}) == "two"
    )
    assert reason({"msg": "same words", "stderr": "same words"}) == "same words"
    assert reason({"censored": "hidden"}) == "hidden"


def failed(message: str, status: ansible.Status = "failed") -> ClusterAIError:
    return failure(TaskEvent("h1", "base", "Install packages", status, message))


def test_a_roles_own_message_brings_its_remedy() -> None:
    error = failed("Fedora 40 is not supported -> install Debian 12")
    assert isinstance(error, HostError)
    assert (error.where, error.what, error.remedy) == ("h1", "Fedora 40 is not supported", "install Debian 12")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Failed to connect to the host via ssh: root@h1: Permission denied (publickey).", "refuses our SSH key"),
        (
            "Failed to connect to the host via ssh: connect to h1 port 22: Connection refused",
            "refuses connections",
        ),
        ("Failed to connect to the host via ssh: connect to host h1 port 22: Connection timed out", "doesn't answer"),
        ("Failed to connect to the host via ssh: Host key verification failed.", "host key is not known"),
        ("Data could not be sent to remote host", "Data could not be sent"),
    ],
)
def test_an_unreachable_host_is_a_fault_of_the_host(message: str, said: str) -> None:
    error = failed(message, "unreachable")
    assert isinstance(error, HostError)
    assert said in error.what
    assert error.remedy


@pytest.mark.parametrize("status", ["failed", "unreachable"])
@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Incorrect sudo password", "refuses the password"),
        ("Missing sudo password", "asks for a password"),
        ("deploy is not in the sudoers file.", "may not become root"),
        ("/bin/sh: 1: sudo: not found", "no sudo"),
    ],
)
def test_sudo_that_refuses_is_a_fault_of_the_host(message: str, said: str, status: ansible.Status) -> None:
    error = failed(message, status)
    assert isinstance(error, HostError)
    assert said in error.what
    assert error.remedy


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("No package matching 'nginx' is available", "packages.source"),
        ("Failed to update apt cache: E: Could not resolve 'mirror'", "can't be reached"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend", "wait"),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "dpkg --configure -a"),
        ("cp: error writing: No space left on device", "make room"),
        ("something else", "docs/host-layer.md"),
    ],
)
def test_a_failed_task_names_role_and_task_and_says_what_to_do(message: str, advice: str) -> None:
    error = failed(message)
    assert isinstance(error, RolloutError)
    assert error.what.startswith("base: Install packages: ")
    assert advice in error.remedy


def test_a_host_without_python_is_said() -> None:
    assert "no Python 3" in failed("/bin/sh: 1: /usr/bin/python3: not found").what


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "\x1b[0;31m[ERROR]: couldn't resolve module/action 'x'.\r\nOrigin: site.yml:3:7\r\n\r\n3     - x: {}\r\n"
            "        ^ column 7\r\n\x1b[0m\r\n",
            "couldn't resolve module/action 'x'.\nOrigin: site.yml:3:7",
        ),
        ("[ERROR]: one that was ignored\n\n[ERROR]: no hosts to target.\n", "no hosts to target."),
        ("Traceback:\nMemoryError\n\n", "MemoryError"),
        ("", "it said nothing"),
    ],
)
def test_of_what_ansible_says_its_error_is_told_with_its_place(output: str, said: str) -> None:
    assert ansible.last_words(output) == said


@given(st.text(), st.sampled_from(["failed", "unreachable"]))
def test_any_message_becomes_an_error_with_a_host(message: str, status: ansible.Status) -> None:
    assert failed(message, status).where == "h1"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])))
def test_a_sudo_password_comes_through_the_file_as_it_is_and_the_file_goes_away(password: str) -> None:
    with ansible._private({"a": [1]}, password) as folder:
        file = folder / "env" / "extravars"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        read = yaml.load(file.read_text(), _Unsafe)
    assert read == {"a": [1], "ansible_become_password": password}
    assert not folder.exists()


class _Unsafe(yaml.SafeLoader):
    """Reads Ansible's tag !unsafe."""


def _text(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Unsafe.add_constructor("!unsafe", _text)


def test_hosts_that_a_bundle_could_not_be_built_for_fail_without_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.unit.provision.test_host_layer import CONFIG

    config = dataclasses.replace(
        CONFIG,
        path=tmp_path / "cluster.yaml",
        ssh=dataclasses.replace(CONFIG.ssh, port=1, known_hosts=tmp_path / "none"),
        workers=(dataclasses.replace(CONFIG.workers[0], host="127.0.0.1"),),
        packages=dataclasses.replace(CONFIG.packages, source="bundle"),
    )
    told: list[TaskEvent] = []
    result = ansible.converge(config, ["one"], stamps={}, sudo_password=None, on_event=told.append)
    assert isinstance(result.failed["one"], HostError)
    assert {event.host for event in told} == {"one"}
