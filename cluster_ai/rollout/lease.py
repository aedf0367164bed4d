"""Who changes a cluster now, from whichever machine: a lease on the head host with owner, token, expiry and heartbeat.

A holder that dies without a word loses it when it expires; nobody has to break it by hand. Each heartbeat brings the
journal's record along, so that the head has a copy of what is going on.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import socket
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster_ai import layout
from cluster_ai.errors import HostError, LockedError, RolloutError
from cluster_ai.metrics.names import ROLLOUT_HOSTS, ROLLOUT_STARTED, ROLLOUT_STATE
from cluster_ai.metrics.text import exposition
from cluster_ai.provision import ssh
from cluster_ai.rollout.journal import STATES, Rollout
from cluster_ai.rollout.lock import user

LIFE = 60.0  # seconds without a heartbeat, after which another may take it
BEAT = 10.0  # seconds between heartbeats

# Runs on the head host, by its own clock. What it is told comes as arguments; none of it is secret.
_SCRIPT = """
import base64, fcntl, json, os, sys, time, zlib
do, folder, told = sys.argv[1], sys.argv[2], json.loads(zlib.decompress(base64.b64decode(sys.argv[3])))
os.umask(0o022)  # the gateway reads the records
os.makedirs(folder + "/rollouts", exist_ok=True)

def write(path, data):
    with open(path + ".new", "w") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)

def read(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}

lock = open(folder + "/lease.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
path, now = folder + "/lease.json", time.time()
if do == "read":
    names = sorted(name for name in os.listdir(folder + "/rollouts") if name.endswith(".json"))[-told["limit"]:]
    print(json.dumps({"now": now, "lease": read(path), "rollouts": [read(folder + "/rollouts/" + n) for n in names]}))
    sys.exit()
held = read(path)
alive = held.get("expires", 0) > now
mine = held.get("token") == told["token"]
if do == "acquire" and alive and not mine and held.get("controller") != told["controller"]:
    print(json.dumps({"ok": False, "held": held, "now": now}))
    sys.exit()
if do in ("renew", "release") and held.get("token") and not mine:
    print(json.dumps({"ok": False, "held": held, "now": now}))
    sys.exit()
if told.get("rollout"):
    write(folder + "/rollouts/" + told["rollout"]["id"] + ".json", told["rollout"])
    for name in sorted(os.listdir(folder + "/rollouts"))[:-told["keep"]]:
        os.unlink(folder + "/rollouts/" + name)
    if os.path.isdir(told["textfiles"]):  # else the host layer isn't done yet
        metrics = told["textfiles"] + "/cluster-ai-rollout.prom"
        with open(metrics + ".new", "w") as file:
            file.write(told["metrics"])
        os.replace(metrics + ".new", metrics)
if do == "release":
    write(path, {"released": now})
else:
    lease = {name: told[name] for name in ("token", "owner", "controller", "pid", "since", "doing")}
    write(path, {**lease, "expires": now + told["life"], "released": held.get("released", 0)})
print(json.dumps({"ok": True, "released": held.get("released", 0), "now": now}))
"""
_KEPT = 100  # records on the head host


@dataclass(frozen=True, slots=True)
class Head:
    """The head host's side: the lease, and the copies of records. argv: OpenSSH's command line up to its address."""

    name: str
    argv: tuple[str, ...]
    sudo_password: str | None = field(default=None, repr=False)

    def order(self, do: str, told: dict[str, Any], script: str = _SCRIPT, what: str = "the lease") -> dict[str, Any]:
        """Raises HostError where it can't be asked, or can't keep what it is told."""
        packed = base64.b64encode(zlib.compress(json.dumps(told).encode()))  # an argument may have 128 kB
        words = ("python3", "-c", script, do, str(layout.STATE), packed.decode())
        reply = ssh.run([ssh.Call(self.name, self.argv, shlex.join(words))], sudo_password=self.sudo_password)[
            self.name
        ]
        if isinstance(reply, HostError):
            raise reply
        try:
            return dict(json.loads(reply.text.strip().splitlines()[-1]))
        except (ValueError, IndexError, TypeError):
            last = (reply.stderr.strip().splitlines() or [f"exit code {reply.returncode}"])[-1]
            raise HostError(
                f"can't keep {what}: {last}",
                where=self.name,
                remedy=f"see that root may write to {layout.STATE} there",
            ) from None

    def read(self, limit: int = 50) -> tuple[tuple[Rollout, ...], dict[str, Any]]:
        """Its copies of records, the oldest first, and who holds the lease: nobody where that is empty."""
        said = self.order("read", {"limit": limit})
        found = []
        for data in said["rollouts"]:
            with contextlib.suppress(KeyError, TypeError):  # one that can't be read is left out
                found.append(Rollout.read(data))
        return tuple(found), said["lease"] if said["lease"].get("expires", 0) > said["now"] else {}


class Lease:
    """`with Lease(...) as lease`: held, and renewed by a thread of its own, until the end.

    Raises LockedError on entering where another holds it.
    """

    def __init__(self, head: Head, doing: str, controller: str, record: Callable[[], Rollout | None]) -> None:
        """controller: this machine and folder, whose lock is held: what another run from here left behind is void.

        record: the journal's record, to be copied.
        """
        self._head, self._record, self._doing = head, record, doing
        owner = f"{user()}@{socket.gethostname()}"
        self._told = {"owner": owner, "controller": controller, "since": time.time(), "life": LIFE, "keep": _KEPT}
        self._told |= {"token": f"{controller} {time.time_ns()}", "pid": os.getpid()}
        self._stop = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._lost = ""
        self.released = 0.0  # when its last holder gave it back, by the head's clock

    def __enter__(self) -> Lease:
        said = self._order("acquire")
        if not said["ok"]:
            raise LockedError(
                f"another run changes this cluster: {told(said['held'], said['now'])}",
                where=self._head.name,
                remedy="wait for it to end; when it has died, the lease ends by itself within a minute",
            )
        self.released = float(said["released"])
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._beating.join()
        with contextlib.suppress(HostError):  # else it expires
            self._order("release")

    def doing(self, what: str) -> None:
        """Tell the head what goes on, with the record as it is now. Raises RolloutError where the lease is lost."""
        self._doing = what
        with contextlib.suppress(HostError):  # else the next heartbeat tells it
            self._renew()
        if self._lost:
            raise RolloutError(
                f"the lease was lost, and another run has taken it: {self._lost}",
                where=self._head.name,
                remedy="wait for that run to end, then look: cluster-ai rollouts list",
            )

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(HostError):  # a head that is away comes back, or the next step on it fails
                self._renew()

    def _renew(self) -> None:
        said = self._order("renew")
        if not said["ok"]:
            self._lost = told(said["held"], said["now"])

    def _order(self, do: str) -> dict[str, Any]:
        record = self._record()
        said = {**self._told, "doing": self._doing, "rollout": record.as_dict() if record else None}
        if record:
            said |= {"metrics": metrics(record), "textfiles": str(layout.TEXTFILES)}
        return self._head.order(do, said)


def metrics(rollout: Rollout) -> str:
    """In Prometheus' text format, for the head host's node_exporter."""
    states = {f'state="{state}"': float(state == rollout.state) for state in STATES}
    hosts = float(len(rollout.intent.hosts))
    return exposition({ROLLOUT_STATE: states, ROLLOUT_HOSTS: {"": hosts}, ROLLOUT_STARTED: {"": rollout.started}})


def told(held: dict[str, Any], now: float) -> str:
    """A holder in words."""
    since = max(0, now - held.get("since", now))
    ago = f"{since:.0f} s" if since < 120 else f"{since / 60:.0f} min"
    return f"{held.get('owner', 'unknown')} (process {held.get('pid', '?')}), for {ago}: {held.get('doing', '?')}"
