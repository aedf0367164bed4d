"""Scripts on many hosts at once, one OpenSSH client each; a host that refuses gives a HostError beside the answers.

Plain subprocesses and selectors: a run with nothing to do is measured in tenths of a second, and asyncio's import alone
is one of them.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from cluster_ai.errors import HostAwayError, HostError
from cluster_ai.provision.refusals import Reply, refused

TIMEOUT = 30.0  # seconds for one script, connecting included
AT_ONCE = 64  # clients of ssh
_AS_ROOT = (
    'if [ "$(id -u)" = 0 ]; then exec sh -c "$1" cluster-ai </dev/null; fi; '
    'LC_ALL=C exec sudo {how} -- sh -c "$1" cluster-ai'
)


@dataclass(frozen=True, slots=True)
class Call:
    """A script for one host. argv is OpenSSH's command line up to, and with, the address."""

    host: str
    argv: tuple[str, ...]
    script: str
    as_root: bool = True


def remote_command(script: str, *, as_root: bool = True, password: bool = False) -> str:
    """The command for the remote login shell, whichever that is.

    The script travels as an argument, so that standard input has the password alone, and nothing else ever reads that.
    """
    if not as_root:
        return shlex.join(("sh", "-c", script))
    return shlex.join(("sh", "-c", _AS_ROOT.format(how='-S -p ""' if password else "-n"), "cluster-ai", script))


class Batch:
    """Scripts that run on many hosts at once. `start` returns at once, so that other work can go on meanwhile."""

    def __init__(
        self,
        calls: Sequence[Call],
        *,
        sudo_password: str | None = None,
        timeout: float = TIMEOUT,
        at_once: int = AT_ONCE,
        on_reply: Callable[[str, Reply | HostError], None] | None = None,
    ) -> None:
        self._waiting = list(calls)
        self._password = sudo_password
        self._timeout = timeout
        self._at_once = at_once
        self._on_reply = on_reply
        self._running: dict[str, _Client] = {}
        self._done: dict[str, Reply | HostError] = {}

    def start(self) -> Batch:
        """Start as many clients as may run at once."""
        while self._waiting and len(self._running) < self._at_once:
            call = self._waiting.pop(0)
            try:
                self._running[call.host] = _Client(call, self._password, time.monotonic() + self._timeout)
            except FileNotFoundError:
                self._finish(
                    call.host, HostError("there is no ssh here", where=call.host, remedy="apt install openssh-client")
                )
            except OSError as error:  # such as a script that is longer than an argument may be
                self._finish(call.host, HostError(f"ssh can't be started: {error.strerror}", where=call.host))
        return self

    def results(self) -> dict[str, Reply | HostError]:
        """Wait for all. Each host has `timeout` seconds from the start of its client."""
        try:
            with selectors.DefaultSelector() as selector:
                self.start()
                for client in self._running.values():
                    client.register(selector)
                while self._running:
                    self._wait(selector)
        finally:
            self.cancel()
        return self._done

    def cancel(self) -> None:
        """End the clients that still run."""
        for client in self._running.values():
            client.kill()
        self._running.clear()
        self._waiting.clear()

    def _wait(self, selector: selectors.BaseSelector) -> None:
        nearest = min(client.deadline for client in self._running.values())
        for key, _ in selector.select(max(0.0, nearest - time.monotonic())):
            client: _Client = key.data
            if client.ended:  # by its other pipe, just now
                continue
            if client.read(key.fileobj, selector):  # type: ignore[arg-type]
                del self._running[client.call.host]
                self._finish(client.call.host, client.reply())
        now = time.monotonic()
        for host, client in list(self._running.items()):
            if client.deadline <= now:
                client.unregister(selector)
                client.kill()
                del self._running[host]
                self._finish(host, _silent(host, self._timeout))
        before = set(self._running)
        self.start()
        for host in self._running.keys() - before:
            self._running[host].register(selector)

    def _finish(self, host: str, answer: Reply | HostError) -> None:
        if isinstance(answer, Reply):
            answer = refused(answer) or answer
        self._done[host] = answer
        if self._on_reply:
            self._on_reply(host, answer)


class _Client:
    """One running client of ssh."""

    def __init__(self, call: Call, password: str | None, deadline: float) -> None:
        self.call, self.deadline = call, deadline
        command = remote_command(call.script, as_root=call.as_root, password=password is not None)
        self.process = subprocess.Popen(
            [*call.argv, command],
            stdin=subprocess.DEVNULL if password is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours to handle; a shared master outlives us
        )
        self.out, self.err, self.ended = bytearray(), bytearray(), False
        if password is not None:
            assert self.process.stdin
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(password.encode() + b"\n")
                self.process.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def register(self, selector: selectors.BaseSelector) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, self)

    def unregister(self, selector: selectors.BaseSelector) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(pipe)  # type: ignore[arg-type]

    def read(self, pipe: IO[bytes], selector: selectors.BaseSelector) -> bool:
        """Take what is there. True: the client has ended.

        The end is that of standard output: a connection that stays for the next call may hold standard error open.
        """
        chunk = os.read(pipe.fileno(), 1 << 16)
        (self.out if pipe is self.process.stdout else self.err).extend(chunk)
        if chunk:
            return False
        selector.unregister(pipe)
        if pipe is not self.process.stdout:
            return False
        self.process.wait()
        assert self.process.stderr
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.process.stderr.fileno(), 1 << 16):
                self.err.extend(more)
        self.unregister(selector)
        self._close()
        return True

    def reply(self) -> Reply:
        return Reply(self.call.host, self.process.returncode, bytes(self.out), self.err.decode(errors="replace"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self.ended = True
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def run(
    calls: Sequence[Call],
    *,
    sudo_password: str | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, Reply | HostError]:
    """Run each script on its host, all at once, and wait."""
    return Batch(calls, sudo_password=sudo_password, timeout=timeout).results()


def stream(call: Call, *, sudo_password: str | None = None) -> Reply:
    """Run a script whose output goes to ours as it comes, for as long as it lasts. The reply has the rest of it.

    Raises HostError where the host can't be reached.
    """
    command = remote_command(call.script, as_root=call.as_root, password=sudo_password is not None)
    with tempfile.TemporaryFile() as errors:  # a pipe would be held open by a connection that stays for the next call
        stdin = subprocess.DEVNULL if sudo_password is None else subprocess.PIPE
        client = subprocess.Popen([*call.argv, command], stdin=stdin, stderr=errors)
        try:
            if client.stdin and sudo_password is not None:
                with contextlib.suppress(BrokenPipeError), client.stdin:
                    client.stdin.write(f"{sudo_password}\n".encode())
            client.wait()
        finally:
            client.kill()
            client.wait()
        errors.seek(0)
        reply = Reply(call.host, client.returncode, b"", errors.read().decode(errors="replace"))
    if wrong := refused(reply):
        raise wrong
    return reply


def calls(hosts: Mapping[str, tuple[str, ...]], script: str, *, as_root: bool = True) -> list[Call]:
    """The same script for several hosts. hosts: name -> ssh's command line."""
    return [Call(host, argv, script, as_root) for host, argv in hosts.items()]


def _silent(host: str, seconds: float) -> HostError:
    return HostAwayError(
        f"gave no answer in {seconds:.0f} s",
        where=host,
        remedy="see that it is up and not overloaded: cluster-ai doctor " + host,
    )
