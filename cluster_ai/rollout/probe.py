"""Ask every host at once what it is. The asking may begin before other work, and end after it."""

from __future__ import annotations

from collections.abc import Mapping

from cluster_ai.errors import HostError
from cluster_ai.provision.ssh import TIMEOUT, Batch, Call
from cluster_ai.rollout.observe import SCRIPT, Observed, parse


class Probe:
    """A question on its way to every host. argv: host -> OpenSSH's command line up to the address."""

    def __init__(
        self, argv: Mapping[str, tuple[str, ...]], *, sudo_password: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        self.argv = dict(argv)
        calls = [Call(host, line, SCRIPT) for host, line in argv.items()]
        self._batch = Batch(calls, sudo_password=sudo_password, timeout=timeout)

    def start(self) -> Probe:
        self._batch.start()
        return self

    def cancel(self) -> None:
        self._batch.cancel()

    def results(self) -> dict[str, Observed | HostError]:
        """What each host answered, in the order of argv."""
        found: dict[str, Observed | HostError] = {}
        answers = self._batch.results()
        for host in self.argv:
            reply = answers[host]
            if isinstance(reply, HostError):
                found[host] = reply
                continue
            try:
                found[host] = parse(host, reply.text)
            except HostError as error:
                found[host] = error
        return found
