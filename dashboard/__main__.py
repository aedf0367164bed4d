"""`python3 -m dashboard`: the dashboard as a server; $CLUSTER_AI_DASHBOARD_SETTINGS names its settings.

Streamlit's own command reads a certificate once, and a host's lives for days: so its application is served from here,
over a context that looks for another one at each new connection.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from cluster_ai import layout, settings
from cluster_ai.errors import ClusterAIError, ConfigError, ExitCode
from cluster_ai.listening import listen
from cluster_ai.tls.public import public

# Of Streamlit. It takes itself to be under development outside of a folder named site-packages.
OPTIONS = {
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "STREAMLIT_GLOBAL_DEVELOPMENT_MODE": "false",
    "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
    "STREAMLIT_SERVER_HEADLESS": "true",
}


def main() -> int:
    told = settings.load(settings.DashboardSettings, Path(os.environ["CLUSTER_AI_DASHBOARD_SETTINGS"]))
    secure: dict[str, Any] = {}
    try:
        if told.shows:
            context = public(told.shows, os.environ)
            secure = {"ssl_context_factory": lambda config, default: context}
            # Streamlit then marks most of its cookies: to be sent over TLS alone.
            os.environ["STREAMLIT_SERVER_SSL_CERT_FILE"] = str(context.cert)
        sign_in = _sign_in(told.oidc) if told.oidc else None
        listener = listen(told.address, told.port, "interface.dashboard_port")
    except ClusterAIError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    os.environ.update(OPTIONS)
    import uvicorn
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    from dashboard import dask
    from dashboard.cookies import SecureCookies

    middleware = [Middleware(SecureCookies)] if told.shows else []
    app = App(
        Path(__file__).with_name("app.py"), secrets=sign_in, routes=dask.routes(told.dask_url), middleware=middleware
    )
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, ws="websockets-sansio", **secure))
    server.run(sockets=[listener])
    return ExitCode.OK if server.started else ExitCode.UNAVAILABLE


def _sign_in(oidc: settings.DashboardOidc) -> dict[str, Any]:
    """What Streamlit's st.login is told of the provider. Its cookies are signed anew after a restart."""
    path = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), layout.OIDC_SECRET)
    try:
        secret = path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"the dashboard's secret at {oidc.issuer} can't be read: {error.strerror}", where=str(path)
        ) from error
    return {
        "auth": {
            "client_id": oidc.client,
            "client_secret": secret,
            "cookie_secret": secrets.token_hex(32),
            "expose_tokens": "id",
            "redirect_uri": oidc.redirect,
            "server_metadata_url": oidc.issuer.rstrip("/") + "/.well-known/openid-configuration",
        }
    }


sys.exit(main())
