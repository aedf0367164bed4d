"""HTTP on the head host's loopback, asked from here through SSH: for what listens there only, or can't be reached."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from cluster_ai.errors import HostError, UnavailableError
from cluster_ai.provision import ssh

_REMOTE = """
import json, sys, urllib.error, urllib.request
method, url, body, timeout, token_file, more = sys.argv[1:]
headers = {"Content-Type": "application/json", **json.loads(more)}
try:
    headers["Authorization"] = "Bearer " + open(token_file).read().strip()
except OSError:
    pass
request = urllib.request.Request(url, body.encode() or None, headers, method=method)
try:
    with urllib.request.urlopen(request, timeout=float(timeout)) as reply:
        status, text = reply.status, reply.read().decode()
except urllib.error.HTTPError as error:
    status, text = error.code, error.read().decode(errors="replace")
except OSError as error:
    status, text = -1 if isinstance(getattr(error, "reason", None), ConnectionRefusedError) else 0, str(error)
print(json.dumps([status, text]))
"""


class RefusedError(UnavailableError):
    """Nothing listens at that port of the head."""


@dataclass(frozen=True, slots=True)
class OnHead:
    """argv: OpenSSH's command line, up to the head's address."""

    head: str
    argv: tuple[str, ...]
    sudo_password: str | None = None

    def ask(
        self,
        method: str,
        port: int,
        path: str,
        body: str = "",
        *,
        what: str,
        unit: str,
        token_file: str = "",
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Status and text of the answer. token_file: a bearer token, on the head. what: who listens there, for people.

        Raises HostError where the head can't be reached, UnavailableError where nothing answers on it:
        RefusedError where nothing could have heard it.
        """
        url = f"http://127.0.0.1:{port}{path}"
        words = (method, url, body, str(timeout), token_file, json.dumps(dict(headers or {})))
        script = shlex.join(("python3", "-c", _REMOTE, *words))
        reply = ssh.run(
            [ssh.Call(self.head, self.argv, script)],
            sudo_password=self.sudo_password,
            timeout=timeout + ssh.TIMEOUT,
        )[self.head]
        if isinstance(reply, HostError):
            raise reply
        try:
            status, text = json.loads(reply.text)
        except ValueError:
            raise UnavailableError(reply.stderr.strip()[-300:] or "no answer", where=self.head) from None
        if status <= 0:
            kind = RefusedError if status else UnavailableError
            raise kind(
                f"{what} doesn't answer: {text}",
                where=self.head,
                remedy=f"on it: journalctl -u {unit}",
            )
        return int(status), str(text)
