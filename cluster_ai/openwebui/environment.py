"""What Open WebUI is told, by the variables that it reads: of version 0.12.4 (open_webui/env.py and config.py). Pure.

What its administrators set on its pages it keeps in its database, and takes from there before its environment. OURS is
what cluster.yaml decides: it is forgotten before each start, so that it is read from the environment then.
"""

from __future__ import annotations

import json
from pathlib import Path

from cluster_ai.settings import OpenWebuiOidc, OpenWebuiSettings

OURS = ("ollama.enable", "ollama.base_urls", "ollama.api_configs", "ui.enable_signup", "webui.url")
_CAS = "/etc/ssl/certs/ca-certificates.crt"


def environment(
    told: OpenWebuiSettings, state: Path, *, key: str, sessions: str, oidc_secret: str = ""
) -> dict[str, str]:
    """state: a folder that outlasts the process. key: for the gateway. sessions: what cookies are signed with."""
    found = {
        "FROM_INIT_PY": "true",  # as when its own command starts it
        "USE_SLIM_DOCKER": "true",  # without PyTorch and a vector database
        "DATA_DIR": str(state / "data"),
        "STATIC_DIR": str(state / "static"),  # it writes there at each start; a release is read-only
        "GLOBAL_LOG_LEVEL": "WARNING",
        # It asks nobody outside, and tells nobody.
        "OFFLINE_MODE": "true",
        "ENABLE_VERSION_UPDATE_CHECK": "false",
        "ENABLE_COMMUNITY_SHARING": "false",
        "DO_NOT_TRACK": "true",
        "SCARF_NO_ANALYTICS": "true",
        "ANONYMIZED_TELEMETRY": "false",
        # The gateway, and who asks: signed with the key, as gateway/identity/acting.py wants it.
        "ENABLE_OPENAI_API": "false",
        "OLLAMA_BASE_URL": told.gateway_url,
        "OLLAMA_API_CONFIGS": json.dumps({"0": {"enable": True, "key": key}}),
        "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
        "FORWARD_USER_INFO_HEADER_JWT_SECRET": key,
        "BYPASS_MODEL_ACCESS_CONTROL": "true",  # who may use which model, the gateway says
        # Else it sends tools with every chat, which models that know none refuse.
        "DEFAULT_MODEL_PARAMS": json.dumps({"function_calling": "legacy"}),
        # Files go whole into the prompt: there is nothing here that could search in them.
        "BYPASS_EMBEDDING_AND_RETRIEVAL": "true",
        "RAG_EMBEDDING_ENGINE": "ollama",
        # People. The first to sign up is its administrator, whatever this says.
        "WEBUI_AUTH": "true",
        "WEBUI_SECRET_KEY": sessions,
        "WEBUI_URL": told.url,
        "WEBUI_SESSION_COOKIE_SECURE": "true" if told.shows else "false",
        "CORS_ALLOW_ORIGIN": told.url,
        "ENABLE_SIGNUP": "false",
    }
    return found | (_provider(told.oidc, oidc_secret) if told.oidc else {})


def _provider(oidc: OpenWebuiOidc, secret: str) -> dict[str, str]:
    """People come by the provider alone then, and nobody is the first."""
    return {
        "ENABLE_LOGIN_FORM": "false",
        "ENABLE_OAUTH_SIGNUP": "true",
        "OAUTH_CLIENT_ID": oidc.client,
        "OAUTH_CLIENT_SECRET": secret,
        "OPENID_PROVIDER_URL": oidc.issuer.rstrip("/") + "/.well-known/openid-configuration",
        "OPENID_REDIRECT_URI": oidc.redirect,
        "OAUTH_PROVIDER_NAME": oidc.issuer.split("/")[2],
        "ENABLE_OAUTH_ROLE_MANAGEMENT": "true",
        "OAUTH_ROLES_CLAIM": oidc.role_claim,
        "OAUTH_ALLOWED_ROLES": ",".join(oidc.users),
        "OAUTH_ADMIN_ROLES": ",".join(oidc.admins),
        # The provider is known by the host's CAs, not by those of a Python package.
        "SSL_CERT_FILE": _CAS,
        "AIOHTTP_CLIENT_SSL_CERT_FILE": _CAS,
    }
