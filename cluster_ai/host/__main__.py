"""`bin/launch python3 -m cluster_ai.host models | gate | verify etc/host.json`, run on the host, as root.

Also `issue etc/issuer.json`, the issuer of certificates on the head host, and `renew etc/renew.json`, which asks it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from cluster_ai import layout, settings
from cluster_ai.errors import ClusterAIError, ExitCode


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
    issue = commands.add_parser("issue", help="give registered hosts new certificates, until told to end")
    renew = commands.add_parser(
        "renew", help="get this host a new certificate, when half of the old one's life is over"
    )
    renew.add_argument("--now", action="store_true", help="however young the old one is")
    for command in (models, gate, verify, issue, renew):
        command.add_argument("settings", type=Path, help="a file under etc/ of the release")
    options = parser.parse_args()
    if options.command in ("issue", "renew"):
        return _certificates(options)
    told = settings.load(settings.HostSettings, options.settings)

    if options.command == "models":
        from cluster_ai.host.models import make

        failures = make(told, prune=options.prune)
    elif options.command == "gate":
        from cluster_ai.host.gate import IN_A_ROW, wait

        failures = wait(told, options.timeout, 1 if options.known else IN_A_ROW)
    else:
        from cluster_ai.host.record import record
        from cluster_ai.host.verify import SWITCH, undisturbed

        found = undisturbed(told, options.settings.resolve().parents[1], 0 if options.json else SWITCH)
        if found is None:
            print("not checked: a switch is under way, or was until now; its end sets the timer anew", file=sys.stderr)
            return ExitCode.OK
        record(found)
        print(json.dumps(found.as_dict()) if options.json else "\n".join(found.lines()) or "as the release says")
        return ExitCode.CHANGES if found.faults else ExitCode.OK
    for line in failures:
        print(line, flush=True)
    return ExitCode.ROLLOUT if failures else ExitCode.OK


def _certificates(options: argparse.Namespace) -> int:
    if options.command == "issue":
        from cluster_ai.host.issuer import serve

        places = Path(os.environ["CREDENTIALS_DIRECTORY"]), Path(os.environ[layout.TLS_VARIABLE])
        serve(settings.load(settings.IssuerSettings, options.settings), *places)
        return ExitCode.OK
    from cluster_ai.host.renew import renew

    try:
        print(renew(settings.load(settings.RenewSettings, options.settings), Path(layout.STATE), now=options.now))
    except ClusterAIError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
