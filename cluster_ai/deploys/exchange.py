"""Files to all hosts of a push: each leaves this machine once, and goes on from host to host, as distribution.py says.

Every host that takes part runs peer.py for as long as the push lasts. What can't be had from another host comes from
here, as a single host's files do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event
from gevent.queue import Queue
from pyinfra.api import Host, QuoteString, State, StringCommand

from cluster_ai import layout
from cluster_ai.deploys import remote, transfer
from cluster_ai.deploys.data import HostTarget
from cluster_ai.deploys.distribution import CONTROLLER, Distribution, Step
from cluster_ai.deploys.remote import Failure
from cluster_ai.deploys.session import Message, Session

SMALL = 1 << 20  # bytes: less isn't worth a way of its own
NOBODY = "nobody"

Files = Mapping[str, str]  # SHA-256 -> path here

_all: WeakKeyDictionary[State, Exchange] = WeakKeyDictionary()


def of(state: State) -> Exchange:
    """The exchange of a run of pyinfra."""
    return _all.setdefault(state, Exchange())


def owner(user: str) -> str:
    """Whose layout.INCOMING is, and who gives and fetches: the user that we are there, unless that is root."""
    return NOBODY if user == "root" else user


class Exchange:
    """Hosts by the names that pyinfra has for them."""

    def __init__(self) -> None:
        self.distribution = Distribution()
        self._sessions: dict[str, Session] = {}
        self._addresses: dict[str, str] = {}
        self._settled: set[str] = set()
        self._change = Event()

    def takes_part(self, host: Host) -> bool:
        return host.name in self._sessions

    def bring(self, host: Host, target: HostTarget, files: Files, shared: set[str], tell: Callable[[str], None]) -> str:
        """Bring a host all of these files. shared: those that other hosts want too. Returns what came from where."""
        self._addresses[host.name] = target.address
        return _Delivery(self, host, files, shared, tell).run()

    def settle(self, host: Host, *, ok: bool) -> None:
        """A host wants nothing more; one that failed gives nothing more either."""
        if not ok:
            self.drop(host)
        self._settled.add(host.name)
        self._change.set()

    def drop(self, host: Host) -> None:
        self.distribution.left(host.name)
        if session := self._sessions.pop(host.name, None):
            session.close()

    def end(self, host: Host, names: list[str]) -> None:
        """When no host wants anything any more, this one serves no longer. names: archives that it kept for others."""
        while not {it.name for it in host.state.inventory.get_active_hosts()} <= self._settled:
            self._change.clear()
            self._change.wait(timeout=1)
        if session := self._sessions.pop(host.name, None):
            session.order(end=names)
            session.close()

    def open(self, host: Host, sizes: Mapping[str, int], told: Callable[[Message | None], None]) -> Session | str:
        """A host's session; the reason where there is none. One that can't serve can still fetch."""
        prefix, before, user = remote.as_root(host)
        shell, address = transfer.ssh(host)
        command = StringCommand(*prefix, "python3", "-I", "-c", QuoteString(remote.script("peer.py"))).get_raw_value()
        places = {"state": str(layout.STATE), "etc": str(layout.TLS)}
        order = {**places, "user": owner(user), "port": layout.PEER_PORT}

        def hear(message: Message | None) -> None:
            if message is None:
                self.distribution.left(host.name)
            told(message)

        session = Session([*shell, "-l", user, "--", address], command, before, order, hear)
        first = session.ready()
        if "error" in first:
            session.close()
            return str(first["error"])
        session.order(give=dict(sizes))
        self._sessions[host.name] = session
        if not first["hindrance"]:
            self.distribution.serves(host.name)
        return session

    def source(self, step: Step) -> tuple[str, int]:
        return self._addresses[step.source], layout.PEER_PORT


class _Delivery:
    """One host's files on their way."""

    def __init__(
        self, exchange: Exchange, host: Host, files: Files, shared: set[str], tell: Callable[[str], None]
    ) -> None:
        self._exchange, self._host, self._files, self._tell = exchange, host, files, tell
        self._shared = shared
        self._size = {sha: Path(path).stat().st_size for sha, path in files.items()}
        self._queue: Queue[tuple[str, Any]] = Queue()
        self._steps: dict[str, Step] = {}  # what is being fetched there
        self._here: set[str] = set()  # what is to be sent from here
        self._sending: dict[gevent.Greenlet[None], set[str]] = {}
        self._percent: dict[gevent.Greenlet[None], int] = {}
        self._fetched = 0  # bytes
        self._from: dict[str, str] = {}  # what has come -> its source
        self._notes: list[str] = []
        self._session: Session | None = None

    def run(self) -> str:
        try:
            self._begin()
            while self._here or self._steps or self._sending:
                self._send()
                what, value = self._queue.get()
                match what:
                    case "message":
                        self._message(value)
                    case "sent":
                        self._sent(*value)
                    case "percent":
                        self._show()
        finally:
            gevent.killall(list(self._sending))
        return self._told()

    def _begin(self) -> None:
        self._here = set(self._files) - self._shared
        if self._shared:
            sizes = {sha: self._size[sha] for sha in self._shared}
            opened = self._exchange.open(self._host, sizes, lambda it: self._queue.put(("message", it)))
            if isinstance(opened, str):
                self._notes.append(f"it can't share with other hosts: {opened}")
                self._here |= self._shared
            else:
                self._session = opened
                for sha in sorted(self._shared, key=lambda sha: (-self._size[sha], sha)):
                    self._take(self._exchange.distribution.wants(sha, self._host.name))

    def _take(self, step: Step) -> None:
        if step.source == CONTROLLER or self._session is None:
            self._here.add(step.file)
        else:
            self._steps[step.file] = step
            self._session.order(fetch=step.file, **{"from": self._exchange.source(step)})

    def _send(self) -> None:
        """Start to send what is to come from here."""
        if self._here:
            names, self._here = self._here, set()

            def work() -> None:
                greenlet = gevent.getcurrent()

                def percent(done: int) -> None:
                    self._percent[greenlet] = done
                    self._queue.put(("percent", None))

                try:
                    user = remote.as_root(self._host)[2]
                    transfer.send(self._host, [(sha, self._files[sha]) for sha in sorted(names)], user, percent)
                except Exception as error:
                    self._queue.put(("sent", (greenlet, error)))
                else:
                    self._queue.put(("sent", (greenlet, None)))

            self._sending[gevent.spawn(work)] = names

    def _sent(self, greenlet: gevent.Greenlet[None], error: Exception | None) -> None:
        names = self._sending.pop(greenlet)
        if error:
            raise error
        self._percent.pop(greenlet, None)
        for sha in names:
            self._arrived(sha, CONTROLLER)

    def _arrived(self, sha: str, source: str) -> None:
        self._from[sha] = source
        if self._session and sha in self._shared:
            self._exchange.distribution.arrived(sha, self._host.name)

    def _message(self, message: Message | None) -> None:
        if message is None:
            self._alone("the connection to its peer.py was lost")
        elif "at" in message:
            self._fetched = message["at"]
            self._show()
        elif "got" in message:
            step = self._steps.pop(message["got"])
            self._arrived(step.file, step.source)
        elif "failed" in message:
            self._failed(self._steps.pop(message["failed"]), message["why"], message["said"])

    def _failed(self, step: Step, why: str, said: str) -> None:
        if why == "full":
            raise transfer.disk_full()
        if why == "host":
            raise Failure(f"files can't be fetched there: {said}", kind="host", remedy="run it again")
        self._notes.append(f"{step.source}: {said}")
        self._tell(f"{step.source} is no source: {said}")
        self._take(self._exchange.distribution.failed(step, "corrupt" if why == "corrupt" else "unreachable"))

    def _alone(self, reason: str) -> None:
        """Without other hosts."""
        self._exchange.drop(self._host)
        self._session = None
        self._notes.append(reason)
        self._here |= set(self._steps)
        self._steps.clear()

    def _show(self) -> None:
        come = sum(self._size[sha] for sha in self._from if self._from[sha] == CONTROLLER)
        come += sum(
            self._percent.get(greenlet, 0) * sum(self._size[sha] for sha in names) // 100
            for greenlet, names in self._sending.items()
        )
        self._tell(f"{min(99, 100 * (come + self._fetched) // max(1, sum(self._size.values())))} %")

    def _told(self) -> str:
        here = sum(self._size[sha] for sha, source in self._from.items() if source == CONTROLLER)
        others = sum(self._size[sha] for sha, source in self._from.items() if source != CONTROLLER)
        text = size(here) if not others else f"{size(here)} from here, {size(others)} from other hosts"
        return "; ".join([text, *self._notes])


def size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
