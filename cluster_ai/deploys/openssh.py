"""A pyinfra connector over OpenSSH's own client: a rollout reaches hosts in exactly the way in which they were probed.

pyinfra's SSH connector (paramiko) reads OpenSSH's configuration its own way, and can't share the connection that is
already open. Only what our deploys need: commands. Files go by rsync (transfer.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import subprocess
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command_for_host

CONNECT = 30  # seconds
SSH_FAILED = 255
FRESH = ("-o", "ControlMaster=no", "-o", "ControlPath=none")  # the first value of an option counts


class OpenSSH(BaseConnector):  # type: ignore[misc]
    """Host data: cluster_ai_ssh, the command line of ssh up to and with the address."""

    handles_execution = True
    on_line: Callable[[str], None] | None = None  # told each line of a command's output as it comes
    fresh = False  # each command over a connection of its own

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        raise NotImplementedError("hosts are given this connector, not found by it")

    def connect(self) -> None:
        try:
            code, output = self._run("true", (), CONNECT)
        except TimeoutError:
            raise ConnectError(f"Connection timed out: no answer in {CONNECT} s") from None
        if code:
            raise ConnectError(output.stderr.strip() or f"ssh ends with {code}")

    def run_shell_command(
        self, command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        stdin, timeout = arguments.pop("_stdin", None) or (), arguments.pop("_timeout", None)
        for name in ("_get_pty", "_success_exit_codes"):
            arguments.pop(name, None)
        line = make_unix_command_for_host(self.state, self.host, command, **arguments).get_raw_value()
        code, output = self._run(line, stdin, timeout)
        if code == SSH_FAILED:
            raise ConnectionError(output.stderr.strip() or "ssh fails without a word")
        return code == 0, output

    def _run(self, line: str, stdin: tuple[str, ...] | list[str], timeout: float | None) -> tuple[int, CommandOutput]:
        with tempfile.TemporaryFile() as err:  # not a pipe: a shared connection that stays open would hold it
            process = subprocess.Popen(
                [*self._argv(), line],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,  # Ctrl-C isn't for a connection that others share
            )
            try:
                with gevent.Timeout(timeout, TimeoutError):
                    try:
                        process.stdin.write("".join(f"{item}\n" for item in stdin).encode())
                        process.stdin.close()
                    except BrokenPipeError:
                        pass  # it ended without reading; its exit status says more
                    lines = [OutputLine("stdout", text) for text in self._lines(process.stdout)]
                    code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
                process.stdout.close()
            err.seek(0)
            said = err.read().decode(errors="replace").splitlines()
        return code, CommandOutput(lines + [OutputLine("stderr", text) for text in said])

    def _argv(self) -> list[str]:
        program, *rest = self.host.data.cluster_ai_ssh
        return [program, *(FRESH if self.fresh else ()), *rest]

    def _lines(self, stdout: Any) -> Iterator[str]:
        for raw in stdout:
            text = raw.decode(errors="replace").rstrip("\r\n")
            if self.on_line:
                self.on_line(text)
            yield text

    def put_file(self, *args: Any, **kwargs: Any) -> bool:
        raise NotImplementedError("files go by rsync")

    def get_file(self, *args: Any, **kwargs: Any) -> bool:
        raise NotImplementedError("files go by rsync")
