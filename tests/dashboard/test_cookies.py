"""Over TLS every cookie is marked to be sent over TLS alone, whoever sets it."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dashboard.cookies import SecureCookies


async def _sign_in(request: Request) -> Response:
    answer = PlainTextResponse("in", headers={"x-other": "stays"})
    answer.set_cookie("who", "secure", httponly=True, samesite="lax", path="/")
    answer.set_cookie("marked", "1", secure=True)
    answer.delete_cookie("old")
    return answer


def test_each_cookie_is_marked_once_and_keeps_what_else_it_says() -> None:
    app = Starlette(routes=[Route("/", _sign_in)], middleware=[Middleware(SecureCookies)])

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://dashboard") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    who, marked, old = answer.headers.get_list("set-cookie")
    assert who == "who=secure; HttpOnly; Path=/; SameSite=lax; Secure"
    assert marked.count("Secure") == 1
    assert old.endswith("; Secure")
    assert (answer.text, answer.headers["x-other"]) == ("in", "stays")
