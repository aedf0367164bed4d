"""An OpenID provider's word for who people are: its ID token (OpenID Connect Core 1.0, section 2), checked here.

Whoever has one, the dashboard or `cluster-ai login`, gives it here for a login of the gateway's own. A name belongs to
the subject that came with it first, so that nobody becomes another by renaming themselves at the provider.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.roles import ROLES, Rank
from cluster_ai.gateway.identity.tokens import invalid, must_be_now
from cluster_ai.settings import OidcSettings

METADATA = "/.well-known/openid-configuration"
TIMEOUT = 10.0  # seconds for an answer of the provider
# Signatures by a private key alone: with a shared secret, whoever checks could sign too.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# What an answer that isn't the metadata or the keys leads to, beside none.
_NONSENSE = (
    *(OSError, http.client.HTTPException, jwt.PyJWTError),
    *(ValueError, KeyError, TypeError, AttributeError),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Person:
    """subject: of the issuer, never given to anybody else."""

    subject: str
    name: str
    role: Rank


class Provider:
    def __init__(self, told: OidcSettings, clock: Callable[[], float] = time.time) -> None:
        self.told, self._clock = told, clock
        self._keys: jwt.PyJWKClient | None = None

    @property
    def session(self) -> float:
        return self.told.session

    async def person(self, id_token: str) -> Person:
        """Raises Refusal: 401 for a token that isn't good, 403 without a role, 503 while the provider is away."""
        return person_of(self.told, await asyncio.to_thread(self._claims, id_token))

    def _claims(self, id_token: str) -> Mapping[str, Any]:
        told, keys = self.told, self._signing_keys()
        try:
            key = keys.get_signing_key_from_jwt(id_token)
            claims: dict[str, Any] = jwt.decode(
                id_token,
                key,
                algorithms=ALGORITHMS,
                audience=[told.client, told.cli_client],
                issuer=told.issuer,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "verify_exp": False, "verify_iat": False},
            )
            times = float(claims["iat"]), float(claims["exp"])
        except (OSError, jwt.PyJWKClientConnectionError, json.JSONDecodeError) as error:  # asked for a new key's sake
            raise self._away(error) from error
        except jwt.InvalidAudienceError as error:
            raise invalid("the provider made it for another program than this cluster's") from error
        except jwt.InvalidIssuerError as error:
            raise invalid(f"it isn't from {told.issuer}") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise invalid(f"{told.issuer} didn't sign it so: {error}") from error
        must_be_now(*times, self._clock())
        others = claims["aud"] if isinstance(claims["aud"], list) else []
        if len(others) > 1 and claims.get("azp") not in (told.client, told.cli_client):
            raise invalid("the provider made it for another program, too")
        return claims

    def _signing_keys(self) -> jwt.PyJWKClient:
        """Read at least once. Raises Refusal (503) where the provider is away, or gives no such answer as it should."""
        try:
            keys = self._keys or self._asked()
            keys.get_signing_keys()  # which are kept for some minutes
        except _NONSENSE as error:
            raise self._away(error) from error
        self._keys = keys
        return keys

    def _asked(self) -> jwt.PyJWKClient:
        with urllib.request.urlopen(self.told.issuer.rstrip("/") + METADATA, timeout=TIMEOUT) as reply:  # noqa: S310 (an issuer of cluster.yaml)
            metadata = json.load(reply)
        if metadata["issuer"] != self.told.issuer:
            raise OSError(f"it calls itself {metadata['issuer']}: security.oidc.issuer must be just that")
        return jwt.PyJWKClient(metadata["jwks_uri"], timeout=TIMEOUT)

    def _away(self, error: Exception) -> Refusal:
        no_answer = isinstance(error, OSError | jwt.PyJWKClientConnectionError)
        why = str(error) if no_answer else f"its answer isn't that of an OpenID provider ({error!r})"
        text = f"the OpenID provider {self.told.issuer} can't be asked for its keys: {why}"
        return Refusal(503, "provider_away", text, [(b"retry-after", b"10")])


def person_of(told: OidcSettings, claims: Mapping[str, Any]) -> Person:
    """Raises Refusal (403)."""
    found = str(claims.get(told.name_claim) or "")
    if told.name_claim == "email" and claims.get("email_verified") is not True:
        raise Refusal(403, "no_name", f"{told.issuer} hasn't verified the address '{found}'")
    name = found.partition("@")[0]
    if not _NAME.fullmatch(name):
        text = f"the claim {told.name_claim} from {told.issuer} makes no name for here: '{found}'"
        raise Refusal(403, "no_name", f"{text}. A name has letters, digits, '.', '_' and '-'")
    given = values(claims, told.role_claim)
    roles = [it.role for it in told.roles if given & set(it.values)]
    if not roles:
        text = f"'{name}' has no role here: the claim {told.role_claim} has {', '.join(sorted(given)) or 'nothing'}"
        raise Refusal(403, "no_role", f"{text}, and none of that is in security.oidc.roles of cluster.yaml")
    return Person(f"{told.issuer} {claims['sub']}", name, max(roles, key=ROLES.index))


def values(claims: Mapping[str, Any], path: str) -> set[str]:
    """Of a claim, which may lie in others (`realm_access.roles`): a text, or a list of texts."""
    found: Any = claims
    if path in claims:
        found = claims[path]
    else:
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    return {it for it in (found if isinstance(found, list) else [found]) if isinstance(it, str)}
