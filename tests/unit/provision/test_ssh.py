"""Calls run real processes; a local `sh -c` stands where ssh and the remote login shell would."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cluster_ai.errors import HostError
from cluster_ai.provision.refusals import Reply, refused
from cluster_ai.provision.ssh import Batch, Call, run

LOCAL = ("sh", "-c")


def test_every_host_gets_its_own_script_and_gives_its_own_answer() -> None:
    found = run([Call(f"h{n}", LOCAL, f"echo {n}; exit {n}", as_root=False) for n in range(5)])
    assert {host: (it.text, it.returncode) for host, it in found.items() if isinstance(it, Reply)} == {
        f"h{n}": (f"{n}\n", n) for n in range(5)
    }


def test_more_hosts_than_may_run_at_once_are_asked_in_turn() -> None:
    calls = [Call(f"h{n}", LOCAL, "echo here", as_root=False) for n in range(7)]
    assert len(Batch(calls, at_once=2).results()) == 7


def test_a_host_that_is_silent_costs_its_time_and_hides_no_other_answer() -> None:
    calls = [Call("slow", LOCAL, "exec sleep 600", as_root=False), Call("quick", LOCAL, "echo here", as_root=False)]
    begin = time.monotonic()
    found = Batch(calls, timeout=3).results()
    assert time.monotonic() - begin < 200
    assert isinstance(found["slow"], HostError)
    assert "no answer" in found["slow"].what
    assert isinstance(found["quick"], Reply)


def test_a_shared_connection_that_holds_standard_error_open_is_not_waited_for() -> None:
    begin = time.monotonic()
    (reply,) = run([Call("h", LOCAL, "sleep 600 >/dev/null & echo $!", as_root=False)], timeout=500).values()
    assert isinstance(reply, Reply)
    os.kill(int(reply.text), signal.SIGKILL)
    assert time.monotonic() - begin < 200


def test_a_script_too_long_for_an_argument_is_that_hosts_error_and_the_others_answer() -> None:
    calls = [Call("long", LOCAL, "#" * 3_000_000, as_root=False), Call("h", LOCAL, "echo here", as_root=False)]
    found = run(calls)
    assert isinstance(found["long"], HostError)
    assert "can't be started: Argument list too long" in found["long"].what
    assert isinstance(found["h"], Reply)


def test_a_big_answer_arrives_whole() -> None:
    (reply,) = run([Call("h", LOCAL, "head -c 3000000 /dev/zero; echo late >&2", as_root=False)]).values()
    assert isinstance(reply, Reply)
    assert len(reply.stdout) == 3_000_000
    assert reply.stderr == "late\n"


def fake_sudo(folder: Path, body: str) -> tuple[str, ...]:
    """A host whose user isn't root, with a sudo of its own."""
    for name, text in (("id", "echo 1000"), ("sudo", body)):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return ("env", f"PATH={folder}:{os.environ['PATH']}", "sh", "-c")


def test_who_is_not_root_becomes_root_by_sudo(tmp_path: Path) -> None:
    argv = fake_sudo(tmp_path, 'printf "%s\\n" "$1" >&2; shift 2; exec "$@"')
    (reply,) = run([Call("h", argv, 'echo "it\'s $(echo done)"')]).values()
    assert isinstance(reply, Reply)
    assert (reply.text, reply.stderr) == ("it's done\n", "-n\n")


def test_a_password_reaches_sudo_alone_and_never_a_command_line(tmp_path: Path) -> None:
    argv = fake_sudo(tmp_path, 'read -r password; shift 4; echo "$password $*" >&2; exec "$@"')
    (reply,) = run([Call("h", argv, "cat; echo end")], sudo_password="pass word").values()
    assert isinstance(reply, Reply)
    assert reply.text == "end\n"
    assert reply.stderr.startswith("pass word sh -c")


def test_a_password_that_root_has_no_use_for_is_not_read_by_the_script() -> None:
    if os.getuid():
        pytest.skip("not root")
    (reply,) = run([Call("h", LOCAL, "cat; echo end")], sudo_password="secret").values()
    assert isinstance(reply, Reply)
    assert reply.text == "end\n"


@pytest.mark.parametrize(
    ("code", "stderr", "what", "remedy"),
    [
        (255, "ssh: connect to host h port 22: Connection refused", "refuses connections", "start sshd"),
        (255, "ssh: connect to host h port 22: Connection timed out", "doesn't answer", "firewall"),
        (255, "Connection timed out during banner exchange", "doesn't answer", "firewall"),
        (255, "Timeout, server h not responding.", "doesn't answer", "firewall"),
        (255, "ssh: connect to host h port 22: No route to host", "can't be reached", "network"),
        (255, "root@h: Permission denied (publickey).", "refuses our SSH key", "authorized_keys"),
        (255, "Received disconnect: Too many authentication failures", "refuses our SSH key", "ssh.key"),
        (
            255,
            "No ED25519 host key is known for h.\nHost key verification failed.",
            "not known here",
            "cluster-ai trust h",
        ),
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "has changed",
            "cluster-ai trust h",
        ),
        (
            255,
            "WARNING: UNPROTECTED PRIVATE KEY FILE!\nLoad key: bad permissions\nPermission denied (x)",
            "private key",
            "600",
        ),
        (255, "ssh: Could not resolve hostname h: Name or service not known", "no address", "cluster.yaml"),
        (255, "kex_exchange_identification: Connection closed by remote host", "breaks the connection off", "sshd"),
        (255, "something new\n", "something new", "ssh -v h"),
        (255, "", "without a word", "ssh -v h"),
        (1, "Sorry, try again.\nsudo: 1 incorrect password attempt", "refuses the password", "--ask-sudo-password"),
        (1, "Sorry, try again.\nsudo: no password was provided", "refuses the password", "CLUSTER_AI_SUDO_PASSWORD"),
        (1, "sudo: a password is required", "asks for a password", "CLUSTER_AI_SUDO_PASSWORD"),
        (1, "deploy is not in the sudoers file.", "may not become root", "group sudo"),
        (127, "sh: 1: exec: sudo: not found", "has no sudo", "install sudo"),
    ],
)
def test_what_ssh_and_sudo_say_becomes_an_error_with_host_and_remedy(
    code: int, stderr: str, what: str, remedy: str
) -> None:
    error = refused(Reply("h", code, b"", stderr))
    assert error is not None
    assert error.where == "h"
    assert what in error.what
    assert remedy in error.remedy


def test_a_script_that_fails_by_itself_is_not_taken_for_a_refusal() -> None:
    assert refused(Reply("h", 1, b"", "tar: no space left")) is None
    assert refused(Reply("h", 1, b"text", "sudo: a password is required")) is None
