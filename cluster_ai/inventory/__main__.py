"""What inventory/hosts.py prints: `python -m cluster_ai.inventory CONFIG --list | --host NAME | --pyinfra`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster_ai.config import load
from cluster_ai.errors import ClusterAIError, ExitCode
from cluster_ai.inventory.groups import for_ansible_script, for_pyinfra


def main(arguments: Sequence[str]) -> int:
    try:
        match arguments:
            case [path, "--list"]:
                answer: dict[str, Any] = for_ansible_script(load(Path(path)))
            case [path, "--host", name]:
                answer = for_ansible_script(load(Path(path)))["_meta"]["hostvars"].get(name, {})
            case [path, "--pyinfra"]:
                answer = for_pyinfra(load(Path(path)))
            case _:
                print("usage: hosts.py --list | --host NAME", file=sys.stderr)
                return ExitCode.USAGE
    except ClusterAIError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(answer, indent=2))
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
