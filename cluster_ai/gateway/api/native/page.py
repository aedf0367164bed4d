"""The API's page: it reads the OpenAPI description and sends requests, with nothing from outside the gateway.

Clusters may have no internet. The page itself tells nothing and needs no token, like a login; what it shows, it asks
for with the token that it is given.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from cluster_ai.gateway.api.http import Header

PAGE = files(__package__).joinpath("page.html").read_bytes()


def _hashes(element: str) -> str:
    found = re.findall(rf"<{element}>(.*?)</{element}>".encode(), PAGE, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(it).digest()).decode()}'" for it in found)


HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'".encode(),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
