"""Cookies that browsers send over TLS alone.

Streamlit marks so all but the one that says who has signed in, since that mark is of no use on http://localhost. Where
this server speaks TLS, each cookie gets it.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SecureCookies:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                headers = MutableHeaders(scope=message)
                cookies = headers.getlist("set-cookie")
                del headers["set-cookie"]
                for cookie in cookies:
                    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
                    headers.append("set-cookie", cookie if "secure" in attributes else f"{cookie}; Secure")
            await send(message)

        await self._app(scope, receive, marked)
