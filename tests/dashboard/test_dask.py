"""Dask's pages behind the login: who may come in, for how long, and what is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
from aiohttp import web
from starlette.applications import Starlette
from starlette.types import Message

from dashboard import dask
from dashboard.dask import PASS, TICKET, Passes

Check = Callable[[httpx.AsyncClient, Passes], Awaitable[None]]


def test_a_ticket_is_good_once_and_not_for_long() -> None:
    now = [0.0]
    passes = Passes(lambda: now[0])
    ticket = passes.ticket("anna's")
    cookie = passes.cookie(ticket)
    assert cookie
    assert passes.left(cookie) == PASS
    assert passes.cookie(ticket) is None
    late = passes.ticket("anna's")
    now[0] = TICKET + 1
    assert passes.cookie(late) is None
    now[0] = PASS + 1
    assert passes.left(cookie) == 0.0


def test_who_signs_out_is_out_here_too_and_others_are_not() -> None:
    passes = Passes()
    tickets = {name: passes.ticket(name) for name in ("anna", "otto", "anna again")}
    kept = {name: passes.cookie(tickets[name]) or "" for name in ("anna", "otto")}
    passes.end("anna")
    assert passes.left(kept["anna"]) == 0.0
    assert passes.left(kept["otto"]) > 0.0
    assert passes.cookie(tickets["anna again"])


def served(check: Check) -> list[dict[str, str]]:
    """Runs check against our routes before a server that plays Dask's; returns the headers that this one was sent."""
    asked: list[dict[str, str]] = []

    async def page(request: web.Request) -> web.Response:
        asked.append(dict(request.headers))
        return web.Response(text=f"{request.path}?{request.query_string}", headers={"X-Of": "dask"})

    async def run() -> None:
        there = web.Application()
        there.router.add_get("/{path:.*}", page)
        runner = web.AppRunner(there)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        passes = Passes()
        app = Starlette(routes=dask.routes(f"http://127.0.0.1:{runner.addresses[0][1]}", passes))
        transport = httpx.ASGITransport(app)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="https://dashboard") as client:
                await check(client, passes)
        finally:
            await runner.cleanup()

    asyncio.run(run())
    return asked


def test_a_page_is_passed_on_to_who_came_by_a_link_and_no_cookie_goes_with_it() -> None:
    async def check(client: httpx.AsyncClient, passes: Passes) -> None:
        entered = await client.get("/dask/open", params={"ticket": passes.ticket("anna")})
        assert (entered.status_code, entered.headers["location"]) == (303, "/dask/status")
        for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/dask"):
            assert word in entered.headers["set-cookie"]
        answer = await client.get("/dask/info/main.html?a=1", headers={"Authorization": "Bearer secret"})
        assert (answer.text, answer.headers["x-of"]) == ("/info/main.html?a=1", "dask")

    (sent,) = served(check)
    assert not {"Cookie", "Authorization"} & sent.keys()


def test_who_has_no_pass_gets_nothing_and_nobody_gets_dasks_way_to_other_servers() -> None:
    async def check(client: httpx.AsyncClient, passes: Passes) -> None:
        assert (await client.get("/dask/status")).status_code == 403
        assert (await client.get("/dask/open?ticket=guessed")).status_code == 403
        assert (await client.get("/dask/status", headers={"Cookie": "cluster_ai_dask=guessed"})).status_code == 403
        await client.get("/dask/open", params={"ticket": passes.ticket("anna")})
        for way in ("", "./", "%2e/", "x/../", "x/%2e%2e/", "%2e%2e%2f"):
            path = httpx.URL("https://dashboard").copy_with(raw_path=f"/dask/{way}proxy/9090/127.0.0.1/graph".encode())
            assert (await client.get(path)).status_code == 403, way
        assert (await client.post("/dask/status")).status_code == 405

    assert served(check) == []


def test_the_same_holds_of_websockets() -> None:
    passes = Passes()
    cookie = passes.cookie(passes.ticket("anna"))
    app = Starlette(routes=dask.routes("http://127.0.0.1:9", passes))
    headers = {"cookie": f"cluster_ai_dask={cookie}", "origin": "https://dashboard", "host": "dashboard"}

    async def closed(path: str) -> int:
        said: list[Message] = []
        scope = {
            **{"type": "websocket", "scheme": "wss", "path": path, "query_string": b"", "subprotocols": []},
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            said.append(message)

        await app(scope, receive, send)
        return int(said[-1]["code"])

    assert asyncio.run(closed("/dask/status/ws")) == 1000  # from a scheduler that is away
    for way in ("", "./", "x/../", "../"):  # as a server decodes them
        assert asyncio.run(closed(f"/dask/{way}proxy/1/h/ws")) == 4403


def test_a_scheduler_that_is_away_is_told() -> None:
    async def run() -> httpx.Response:
        passes = Passes()
        app = Starlette(routes=dask.routes("http://127.0.0.1:9", passes))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://dashboard") as client:
            await client.get("/dask/open", params={"ticket": passes.ticket("anna")})
            return await client.get("/dask/status")

    answer = asyncio.run(run())
    assert answer.status_code == 502
    assert "cluster-ai-scheduler" in answer.text
