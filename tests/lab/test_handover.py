"""The gateway is updated while it is used: nobody is refused, and a stream that began before goes on to its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable

import pytest

from cluster_ai import layout
from cluster_ai.errors import ExitCode
from tests.lab.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

MODEL = "smollm2:135m"
PORT = 11435


class Client:
    """One connection that is kept, as clients do."""

    def __init__(self, host: str, token: str) -> None:
        self._host = host
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: object) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, PORT, timeout=300)
        self._connection.request("POST", path, json.dumps(body), self._headers)
        return self._connection.getresponse()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def instances(cluster: Cluster) -> set[str]:
    said = cluster.lab.run_on("h1", "systemctl list-units --plain --no-legend 'cluster-ai-gateway@*'", check=False)
    return {line.split()[0] for line in said.splitlines()}


def test_requests_and_streams_notice_nothing_of_another_gateway(
    cluster: Cluster, edited: Callable[[str, str], None]
) -> None:
    token = cluster.run("status", "--token", check=True).stdout.strip()
    head = cluster.lab.address("h1")
    ends: list[bytes] = []
    lives: list[tuple[float, float]] = []  # of streams, in seconds of the clock that hosts share with this machine
    begun, over, failed = threading.Event(), threading.Event(), list[str]()
    answered = [0, 0]

    def stream() -> None:
        """One after the other: whenever gateways change, there is one, which the old one has enough time to end."""
        options = {"num_predict": 200, "temperature": 0, "seed": 1, "num_ctx": 2048}
        body = {"model": MODEL, "prompt": "1, 2, 3,", "raw": True, "options": options}
        while not over.is_set():
            with contextlib.closing(Client(head, token)) as client:
                ends.append(b"{}")
                asked = time.monotonic()
                for line in client.post("/api/generate", body):
                    ends[-1] = line
                    begun.set()
                lives.append((asked, time.monotonic()))

    def ask(number: int, keep: bool) -> None:
        with contextlib.closing(Client(head, token)) as client:
            while not over.is_set():
                try:
                    reply = client.post("/api/show", {"model": MODEL})  # of a worker, but needs no slot there
                    text = reply.read()
                    if reply.status != 200:
                        failed.append(f"{reply.status}: {text!r}")
                    answered[number] += 1
                except (OSError, http.client.HTTPException) as error:
                    failed.append(repr(error))
                    client.close()
                if not keep:
                    client.close()
                over.wait(0.02)  # as people do: two who never pause leave the update little of the machine

    until(lambda: len(instances(cluster)) == 1, what="the end of a gateway that another test replaced")
    before = instances(cluster)
    threads = [threading.Thread(target=ask, args=(number, keep)) for number, keep in enumerate((True, False))]
    streaming = threading.Thread(target=stream)
    try:
        for thread in (streaming, *threads):
            thread.start()
        assert begun.wait(600)
        until(lambda: all(answered))
        edited("  packages:\n", "  gateway: {policy: round_robin}\n  packages:\n")
        done = cluster.run("apply", "--yes", "--json")
        assert done.returncode == ExitCode.OK, done.stdout + done.stderr
        counted = list(answered)
        until(lambda: all(now > then for now, then in zip(answered, counted, strict=True)))
    finally:
        over.set()
        for thread in (streaming, *threads):
            thread.join(600)
    assert json.loads(done.stdout)["done"] == [head]
    assert failed == []
    assert [end for end in ends if json.loads(end).get("done") is not True] == []
    until(lambda: len(instances(cluster)) == 1, what="the end of the gateway before")
    (after,) = instances(cluster)
    assert {after} != before
    shown = cluster.lab.run_on("h1", f"systemctl show -p ActiveEnterTimestampMonotonic --value '{after}'")
    took_over = int(shown) / 1e6
    assert any(asked < took_over < ended for asked, ended in lives)  # one that began before went on to its end
    assert layout.GATEWAY_HOLDER in cluster.lab.run_on("h1", "systemctl list-units --plain 'cluster-ai-gateway*'")
