"""The gateway in a real browser: a page, a form, a WebSocket and server-sent events, through all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.gateway.gateways import gateway_at
from tests.integrations.stacks import DOMAIN
from tests.support.browser import chromium, need_browser, window
from tests.support.certificates import Certificates
from tests.support.waiting import until

pytestmark = pytest.mark.limit(180)

PUBLIC = "shop.localhost"  # browsers take every name under .localhost for this machine
PAGE = """<!doctype html><title>Shop</title>
<form method="post" action="/order"><input name="fruit"><button>Order</button></form>"""


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    need_browser()
    with chromium() as url:
        yield url


class Shop:
    """The app. Its events go on only when the test says so; it notes when nobody reads them any more."""

    def __init__(self) -> None:
        self.next_event = asyncio.Event()
        self.left = 0
        self.app = Starlette(
            routes=[
                Route("/", self.page),
                Route("/order", self.order, methods=["POST"]),
                Route("/ordered/{fruit}", self.ordered),
                Route("/events", self.events),
                Route("/favicon.ico", lambda _request: Response(status_code=204)),
                WebSocketRoute("/talk", self.talk),
            ]
        )

    async def page(self, _request: Request) -> Response:
        response = HTMLResponse(PAGE)
        response.set_cookie("basket", "7", httponly=True, samesite="strict")
        return response

    async def order(self, request: Request) -> Response:
        form = await request.form()
        return RedirectResponse(f"/ordered/{form['fruit']}", status_code=303)

    async def ordered(self, request: Request) -> Response:
        fruit, basket = request.path_params["fruit"], request.cookies["basket"]
        host = request.headers["x-forwarded-host"].partition(":")[0]
        return PlainTextResponse(f"{fruit} in basket {basket} at {host}")

    async def events(self, request: Request) -> Response:
        async def body() -> AsyncIterator[str]:
            yield "data: first\n\n"
            await self.next_event.wait()
            yield "data: second\n\n"
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.left += 1

        return StreamingResponse(body(), media_type="text/event-stream")

    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat.v1")
        text: Any = await websocket.receive_text()
        await websocket.send_text(f"you said {text}")
        await websocket.send_bytes((await websocket.receive_bytes())[::-1])
        await websocket.close(4001, "closing time")


async def test_a_page_with_all_that_pages_do(session: str, certs: Certificates) -> None:
    shop = Shop()
    async with (
        gateway_at(
            certs, app=shop.app, maps={PUBLIC: DOMAIN}, broker={"host": {"server_timing": True}}
        ) as place,
        window(session) as browser,
    ):
        base = f"http://{PUBLIC}:{place.port}"
        await browser.open(f"{base}/")

        # A form: body, redirect, cookie, and a letter that is none of ASCII
        await browser.type("input", "pêche")
        await browser.click("button")
        await browser.until_text("body", "pêche in basket 7 at shop.localhost")
        assert await browser.url() == f"{base}/ordered/p%C3%AAche"

        # What its own tools show of how long the page took: the wait for a lease, as the Host says
        timings = await browser.run(
            "return performance.getEntriesByType('navigation')[0].serverTiming.map(one => one.toJSON())"
        )
        (record,) = (one for one in place.records if one.path.startswith("/ordered/"))
        assert [one["name"] for one in timings] == ["verser-lease"]
        assert timings[0]["duration"] == pytest.approx(record.lease_wait_ms, abs=0.001)

        # A WebSocket: subprotocol, text, bytes, and how it ended
        said = await browser.run_async(
            """
            const socket = new WebSocket(`ws://${location.host}/talk`, ["chat.v1"]);
            socket.binaryType = "arraybuffer";
            const heard = [];
            socket.onopen = () => { heard.push(socket.protocol); socket.send("salut ✓"); };
            socket.onmessage = (event) => {
              if (typeof event.data === "string") {
                heard.push(event.data);
                socket.send(new Uint8Array([1, 2, 255]));
              } else heard.push([...new Uint8Array(event.data)]);
            };
            return new Promise((resolve) => {
              socket.onclose = (event) => resolve([...heard, event.code, event.reason, event.wasClean]);
            });
            """
        )
        assert said == ["chat.v1", "you said salut ✓", [255, 2, 1], 4001, "closing time", True]

        # Server-sent events: each is there before the next is made; leaving ends them in the app
        await browser.run(
            "window.heard = []; window.source = new EventSource('/events');"
            "source.onmessage = (event) => heard.push(event.data)"
        )
        await browser.until("return heard.length === 1")
        shop.next_event.set()
        await browser.until("return heard.length === 2")
        assert await browser.run("return heard") == ["first", "second"]
        await browser.run("source.close()")
        await until(lambda: shop.left == 1)

        # A fetch that is given up; a name that nobody serves has a page to read
        status = await browser.run_async(
            """
            const stop = new AbortController();
            const answer = await fetch("/events", {signal: stop.signal});
            await answer.body.getReader().read();
            stop.abort();
            return answer.status;
            """
        )
        assert status == 200
        await until(lambda: shop.left == 2)
        assert await browser.log() == []
        await browser.open(f"http://nobody.localhost:{place.port}/")
        await browser.until_text("body", "nobody.localhost")
        await browser.log()  # the browser's own line about 404
