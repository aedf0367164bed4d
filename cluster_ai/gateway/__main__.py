"""`python3 -m cluster_ai.gateway etc/gateway.json`"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from cluster_ai import settings
from cluster_ai.errors import ClusterAIError, ConfigError, ExitCode
from cluster_ai.gateway.server import run


def _load(path: Path) -> settings.GatewaySettings:
    try:
        return settings.load(settings.GatewaySettings, path)
    except OSError as e:
        raise ConfigError(f"can't be read: {e.strerror}", where=str(path)) from e
    except (KeyError, TypeError, json.JSONDecodeError) as e:
        raise ConfigError(f"is no gateway's settings: {e!r}", where=str(path)) from e


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -m cluster_ai.gateway SETTINGS.json\n")
        return ExitCode.USAGE
    try:
        run(_load(Path(arguments[0])), os.environ)
    except ClusterAIError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code
    return ExitCode.OK


sys.exit(main(sys.argv[1:]))
