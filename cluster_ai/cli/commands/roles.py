"""`cluster-ai roles`."""

from __future__ import annotations

import json

from cluster_ai.cli.session import Json
from cluster_ai.gateway.identity.roles import LEAST, MEANING, ROLES, allows, those_who_may


def command(json_: Json = False) -> None:
    """Show what each role may: an action on a resource, a column for each role."""
    if json_:
        print(json.dumps({f"{action} {resource}": those_who_may(action, resource) for action, resource in LEAST}))
        return
    for role in ROLES:
        print(f"{role:9} {MEANING[role]}")
    print()
    width = max(len(f"{action} {resource}") for action, resource in LEAST)
    print(" " * width, *(f"{role:9}" for role in ROLES), sep="  ")
    for action, resource in LEAST:
        marks = (f"{'yes' if allows(role, action, resource) else '':9}" for role in ROLES)
        print(f"{f'{action} {resource}':{width}}", *marks, sep="  ")
