"""`bin/launch python3 -m cluster_ai.host models | gate | verify etc/host.json`, run on the host, as root."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cluster_ai import settings
from cluster_ai.errors import ExitCode


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster_ai.host")
    commands = parser.add_subparsers(dest="command", required=True)
    models = commands.add_parser("models", help="make every model that is placed here exist in the engine")
    models.add_argument("--prune", action="store_true", help="and remove those that this program made here before")
    gate = commands.add_parser("gate", help="exit 0 as soon as this host is healthy, and stays so")
    gate.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    gate.add_argument("--known", action="store_true", help="one good check is enough: it was healthy here before")
    verify = commands.add_parser("verify", help="exit 2 when this host has drifted from its release, and note it")
    verify.add_argument("--json", action="store_true")
    for command in (models, gate, verify):
        command.add_argument("settings", type=Path, help="etc/host.json of the release")
    options = parser.parse_args()
    told = settings.load(settings.HostSettings, options.settings)

    if options.command == "models":
        from cluster_ai.host.models import make

        failures = make(told, prune=options.prune)
    elif options.command == "gate":
        from cluster_ai.host.gate import IN_A_ROW, wait

        failures = wait(told, options.timeout, 1 if options.known else IN_A_ROW)
    else:
        from cluster_ai.host.record import record
        from cluster_ai.host.verify import SWITCH, examine, settled

        release = options.settings.resolve().parents[1]
        if not settled(release, 0 if options.json else SWITCH):
            print("not checked: a switch is under way, or was until now; its end sets the timer anew", file=sys.stderr)
            return ExitCode.OK
        found = examine(told, release)
        record(found)
        print(json.dumps(found.as_dict()) if options.json else "\n".join(found.lines()) or "as the release says")
        return ExitCode.CHANGES if found.faults else ExitCode.OK
    for line in failures:
        print(line, flush=True)
    return ExitCode.ROLLOUT if failures else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
