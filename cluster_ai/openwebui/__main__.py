"""`python3 -m cluster_ai.openwebui SETTINGS`: Open WebUI as a server, by what etc/open-webui.json says.

Its own command would take a certificate once, and believe what a client says of its address. What is secret comes from
files into this process's environment here, so that it isn't in what others see of it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from cluster_ai import layout, settings
from cluster_ai.errors import ClusterAIError, ConfigError, ExitCode
from cluster_ai.listening import listen
from cluster_ai.openwebui.environment import OURS, environment
from cluster_ai.tls.public import public


def main(arguments: list[str]) -> int:
    told = settings.load(settings.OpenWebuiSettings, Path(arguments[0]))
    state = Path(os.environ["STATE_DIRECTORY"])
    secure: dict[str, Any] = {}
    try:
        if told.shows:
            context = public(told.shows, os.environ)
            secure = {"ssl_context_factory": lambda config, default: context}
        found = environment(
            told,
            state,
            key=_secret(layout.OPEN_WEBUI_KEY),
            sessions=_secret(layout.OPEN_WEBUI_SECRET),
            oidc_secret=_secret(layout.OIDC_SECRET) if told.oidc else "",
        )
        listener = listen(told.address, told.port, "interface.open_webui_port")
    except ClusterAIError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    os.environ.update(found)
    forget(Path(found["DATA_DIR"]) / "webui.db")
    import uvicorn

    config = uvicorn.Config("open_webui.main:app", access_log=False, proxy_headers=False, **secure)
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    return ExitCode.OK if server.started else ExitCode.UNAVAILABLE


def forget(database: Path) -> None:
    """What it keeps of that which cluster.yaml decides."""
    if not database.is_file():
        return
    with contextlib.closing(sqlite3.connect(database)) as kept, contextlib.suppress(sqlite3.OperationalError), kept:
        kept.executemany("DELETE FROM config WHERE key = ?", [(key,) for key in OURS])


def _secret(name: str) -> str:
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), name)
    try:
        return path.read_text().strip()
    except OSError as error:
        remedy = "`cluster-ai apply` puts it there"
        raise ConfigError(f"can't be read: {error.strerror}", where=str(path), remedy=remedy) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
