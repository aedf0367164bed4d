"""pyinfra's process: runs a deploy on hosts by pyinfra's API, and tells what happens as JSON, a line for each thing.

`python -m cluster_ai.deploys.runner`, started by provision/pyinfra.py. Standard input has one JSON object: what to do,
the targets, how to reach each, and the sudo password. Lines out: {"event": {...}}, and at the end
{"outcomes": {host: {...}}}.
"""

from gevent import monkey

monkey.patch_all()  # before anything else is imported: pyinfra's hosts run as greenlets

import dataclasses  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any, TextIO  # noqa: E402

from pyinfra.api import BaseStateCallback, Config, Host, Inventory, State  # noqa: E402
from pyinfra.api.connect import connect_all, disconnect_all  # noqa: E402
from pyinfra.api.deploy import add_deploy  # noqa: E402
from pyinfra.api.exceptions import PyinfraError  # noqa: E402
from pyinfra.api.operations import run_ops  # noqa: E402

from cluster_ai.deploys import data, events  # noqa: E402
from cluster_ai.deploys.openssh import OpenSSH  # noqa: E402
from cluster_ai.deploys.operations import failure_of  # noqa: E402
from cluster_ai.deploys.release import push, renew, switch  # noqa: E402
from cluster_ai.deploys.remote import Failure  # noqa: E402


class Connections(BaseStateCallback):  # type: ignore[misc]
    """Connecting is a step too."""

    def __init__(self) -> None:
        self.refused: dict[str, Failure] = {}

    def host_before_connect(self, state: State, host: Host) -> None:
        events.tell(host, "connect", "start")

    def host_connect(self, state: State, host: Host) -> None:
        events.tell(host, "connect", "ok")

    def host_connect_error(self, state: State, host: Host, error: Exception) -> None:
        lines = str(error).splitlines() or ["can't be reached"]
        self.refused[host.name] = Failure(lines[-1], kind="host", said=str(error))
        events.tell(host, "connect", "failed", lines[-1])


def main() -> None:
    order = json.loads(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what pyinfra prints is not for our reader
    say(out, {"outcomes": work(order, out)})


def say(out: TextIO, message: dict[str, Any]) -> None:
    print(json.dumps(message), file=out, flush=True)


def work(order: dict[str, Any], out: TextIO) -> dict[str, Any]:
    events.listen(lambda event: say(out, {"event": dataclasses.asdict(event)}))
    targets = {target.name: target for target in data.load(order["targets"])}
    hosts = [
        (name, {"cluster_ai_ssh": order["ssh"][name], "cluster_ai_rsync": order["rsync"][name]}) for name in targets
    ]
    inventory = Inventory((hosts, {"cluster_ai_sudo_password": order["sudo_password"]}))
    for host in inventory:
        host.connector_cls = OpenSSH
    state = State(inventory, Config(PARALLEL=len(targets)), check_for_changes=False)
    connections = Connections()
    state.add_callback_handler(connections)
    try:
        connect_all(state)
        if order["do"] == "push":
            add_deploy(state, push, targets=targets)
        elif order["do"] == "renew":
            add_deploy(state, renew, targets=targets)
        else:
            add_deploy(state, switch, targets=targets, timeout=order["timeout"], one_by_one=False)
        # Others need no order between hosts; a switch has the head host before its workers.
        run_ops(state, no_wait=order["do"] != "switch")
        disconnect_all(state)
    except PyinfraError:
        pass  # no host is left: each has its reason
    return {
        host.name: outcome(state, host, connections.refused.get(host.name) or failure_of(host)) for host in inventory
    }


def outcome(state: State, host: Host, failure: Failure | None) -> dict[str, Any]:
    done = [data.operation_meta for data in state.ops[host].values() if data.operation_meta.is_complete()]
    changed = any(meta.did_change() for meta in done)
    if failure is None and (host in state.failed_hosts or len(done) < len(state.ops[host]) or not done):
        failure = Failure("a step failed without saying why", remedy="run it again; if it stays: cluster-ai doctor")
    return {"changed": changed, "error": failure.as_dict() if failure else None}


if __name__ == "__main__":
    main()
