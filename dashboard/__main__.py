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


def main() -> int:
    told = settings.load(settings.DashboardSettings, Path(os.environ["CLUSTER_AI_DASHBOARD_SETTINGS"]))
    secure: dict[str, Any] = {}
    options = {
        "browser.serverAddress": told.host,  # else it asks the internet for its address
        "global.developmentMode": False,  # which it takes for granted outside of a folder named site-packages
    }
    try:
        if told.shows:
            context = public(told.shows, os.environ)
            secure = {"ssl_context_factory": lambda config, default: context}
            options["server.sslCertFile"] = str(context.cert)  # it then marks most cookies: to be sent over TLS alone
        sign_in = _sign_in(told.oidc) if told.oidc else None
        listener = listen(told.address, told.port, "interface.dashboard_port")
    except ClusterAIError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    import uvicorn
    from starlette.middleware import Middleware
    from streamlit import config
    from streamlit.starlette import App

    from dashboard import dask
    from dashboard.cookies import SecureCookies

    middleware = [Middleware(SecureCookies)] if told.shows else []
    app = App(
        Path(__file__).with_name("app.py"), secrets=sign_in, routes=dask.routes(told.dask_url), middleware=middleware
    )
    # Variables and arguments have no meaning to an application that Streamlit's own command doesn't run.
    for name, value in options.items():
        config.set_option(name, value)
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
