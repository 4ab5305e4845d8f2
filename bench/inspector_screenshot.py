"""Takes the screenshots of the inspector: a small shop behind a Host, called for a minute, in Chromium.

    python -m bench.inspector_screenshot

Writes `docs/images/inspector.png`, and with a directory as argument all sizes and themes there. Needs
what `make test` needs, chromium and chromedriver.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.inspector.stage import DOMAIN, Stage, stage
from tests.support.browser import chromium, window
from tests.support.certificates import Certificates
from verser2_guest_python import VerserBrokerWebSocket, VerserError

IMAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "inspector.png"
ICON = files("verser2_guest_python.service.inspector").joinpath("static", "icon.svg").read_bytes()
SECONDS = 62.0
WIDTH, HEIGHT = 1280, 760
PEARS = [
    {"id": 7, "name": "Conference", "price": 1.20, "stock": 140},
    {"id": 8, "name": "Williams", "price": 1.45, "stock": 88},
    {"id": 9, "name": "Nashi", "price": 2.10, "stock": 12},
]


async def shop(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            order = json.loads(message["text"])["order"]
            await send({"type": "websocket.send", "text": json.dumps({"order": order, "state": "packed"})})
        return
    while (await receive()).get("more_body"):
        pass
    path, method = scope["path"], scope["method"]
    status, kind, body = 200, "application/json", json.dumps({"pears": PEARS}).encode()
    await asyncio.sleep(random.uniform(0.002, 0.02))
    if path == "/orders" and method == "POST":
        status, body = (
            201,
            json.dumps({"order": 4711, "state": "open", "total": 6.45, "items": PEARS[1:]}).encode(),
        )
    elif path == "/report":
        await asyncio.sleep(0.18)
        kind, body = "text/csv", b"name,sold\nConference,140\nWilliams,88\n" * 400
    elif path.startswith("/images/"):
        kind, body = "image/svg+xml", ICON
    elif path == "/account":
        status, body = 302, b""
    elif path.startswith("/old"):
        status, body = 404, b'{"error": "no such page"}'
    elif path == "/pay":
        raise ConnectionError("the bank does not answer")
    fields = [
        ("content-type", kind),
        ("cache-control", "private"),
        ("set-cookie", "session=0c1f2e; HttpOnly"),
    ]
    if status == 302:
        fields.append(("location", "/login?next=/account"))
    headers = [(name.encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for at in range(0, len(body), 8_192):
        await send({"type": "http.response.body", "body": body[at : at + 8_192], "more_body": True})
        await asyncio.sleep(0.004)
    await send({"type": "http.response.body", "body": b""})


ORDER = {"customer": "Ada", "items": [{"id": 8, "count": 3}, {"id": 9, "count": 1}], "note": "ripe, please"}
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/pears?page=1", {}),
    ("GET", "/images/williams.svg", {}),
    ("GET", "/account", {}),
    ("GET", "/pears?page=2&api_key=5ecret", {}),
    ("GET", "/report", {}),
    ("GET", "/old/offers", {}),
    ("DELETE", "/basket/3", {}),
    ("GET", "/pears/8", {}),
    ("POST", "/pay", {"json": {"order": 4711}}),
    ("GET", "/pears?page=1", {}),
    ("POST", "/orders", {"json": ORDER}),
]
HEADERS = {
    "accept": "application/json",
    "authorization": "Bearer eyJhbGciOi",
    "cookie": "session=0c1f2e",
    "user-agent": "Mozilla/5.0",
    "x-forwarded-proto": "http",
}


async def call(place: Stage, method: str, path: str, options: dict[str, Any]) -> None:
    try:
        await place.fetch(path, method, headers=HEADERS, **options)
    except VerserError:
        return  # the bank; it is shown as what it is


async def customers(place: Stage, seconds: float) -> VerserBrokerWebSocket:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        async with asyncio.TaskGroup() as group:
            for method, path, options in random.choices(CALLS[:8], k=random.randint(1, 14)):
                group.create_task(call(place, method, path, options))
        await asyncio.sleep(random.uniform(0.2, 1.0))
    for method, path, options in CALLS[:7]:
        await call(place, method, path, options)
        await asyncio.sleep(0.1)
    live = await place.broker.websocket(f"ws://{DOMAIN}/live")
    for order in range(4711, 4714):
        await live.send_text(json.dumps({"order": order}))
        await live.receive()
    for method, path, options in CALLS[7:]:
        await call(place, method, path, options)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.2)
    return live


async def take(directory: Path | None) -> None:
    random.seed(7)
    with tempfile.TemporaryDirectory() as made, chromium() as session:
        certs = Certificates.make(Path(made))
        async with stage(certs, shop) as place, window(session) as browser:
            await browser.size(WIDTH, HEIGHT)
            await browser.open(place.inspector.url(place.base))
            live = await customers(place, SECONDS)
            await browser.click(".row")
            await browser.until_text(".details pre", "ripe, please")
            await browser.run("document.activeElement.blur()")
            await browser.screenshot(IMAGE)
            if directory is not None:
                await everything(browser, directory)
            await live.close()


async def everything(browser: Any, directory: Path) -> None:
    for width, height in ((WIDTH, HEIGHT), (800, 900), (390, 800)):
        for dark in (False, True):
            await browser.size(width, height)
            await browser.dark(dark)
            name = f"{width}-{'dark' if dark else 'light'}"
            await asyncio.sleep(0.3)
            await browser.screenshot(directory / f"{name}-details.png")
            await browser.press("Escape")
            await asyncio.sleep(0.3)
            await browser.screenshot(directory / f"{name}-list.png")
            await browser.press("Enter")


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
