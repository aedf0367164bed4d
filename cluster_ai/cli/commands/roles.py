"""`cluster-ai roles`."""

from __future__ import annotations

import json

from cluster_ai.cli.session import Json
from cluster_ai.gateway.identity.roles import EVERYTHING, MEANING, allows, those_who_may


def command(json_: Json = False) -> None:
    """Show what each role may: an action on a resource, a column for each role."""
    if json_:
        print(json.dumps({f"{action} {resource}": those_who_may(action, resource) for action, resource in EVERYTHING}))
        return
    for role, meaning in MEANING.items():
        print(f"{role:9} {meaning}")
    print()
    width = max(len(f"{action} {resource}") for action, resource in EVERYTHING)
    print(" " * width, *(f"{role:9}" for role in MEANING), sep="  ")
    for action, resource in EVERYTHING:
        marks = (f"{'yes' if allows(role, action, resource) else '':9}" for role in MEANING)
        print(f"{f'{action} {resource}':{width}}", *marks, sep="  ")
