"""The page in a real browser: seen, clicked, typed at, and attacked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.host.peers import Broker as RawBroker
from tests.host.peers import Guest as RawGuest
from tests.inspector.stage import DOMAIN, Stage, stage
from tests.support.browser import Browser, chromium, need_browser, window
from tests.support.certificates import Certificates
from verser2_guest_python.service.inspector import Recorder

pytestmark = pytest.mark.limit(180)

ATTACK = (
    "<img src=x onerror=\"window.attacked=1;alert('attacked')\"><script>window.attacked=2;alert(2)</script>"
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="alert(3)">'
    "<script>alert(4)</script><rect width='40' height='40'/></svg>"
)
PATH = "/a?q=<img/src=x/onerror=alert(1)>&token=<script>alert(5)</script>"
ROW = ".row:not([hidden])"


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    """One Chromium for all tests here: each has a server of its own, and so a cookie of its own."""
    need_browser()
    with chromium() as url:
        yield url


@asynccontextmanager
async def opened(session: str, certs: Certificates, **options: Any) -> AsyncIterator[tuple[Stage, Browser]]:
    """The inspector in a browser that has opened the printed URL."""
    async with stage(certs, **options) as place, window(session) as browser:
        await browser.open(place.inspector.url(place.base))
        await browser.until_text("#link-text", "Live")
        yield place, browser
        assert await browser.log() == []


async def open_request(browser: Browser, path: str) -> None:
    """Clicks on the row of a path, and waits for its details."""
    await browser.until_text(ROW, path)
    await browser.run(
        "[...document.querySelectorAll('.row')].find((row) => row.innerText.includes(arguments[0])).click()",
        path,
    )
    await browser.until_text(".details h2", path)
    await browser.until_text(".details .facts", "Guest")


async def test_from_the_printed_url_to_a_replay(session: str, certs: Certificates) -> None:
    async with opened(session, certs) as (place, browser):
        assert await browser.url() == f"{place.base}/_verser/"  # the token has left the address bar
        assert "Nothing has passed yet" in await browser.text("#empty")
        await browser.until_text(".gauge", DOMAIN)
        assert "idle leases" in await browser.text("#gauges")

        # Requests appear by themselves, the newest on top
        await place.fetch("/first")
        await place.fetch(
            "/items?page=2",
            "POST",
            body=b'{"pears": [1, 2.50]}',
            headers={
                "content-type": "application/json",
                "x-want-type": "application/json",
                "x-want-status": "201",
                "authorization": "Bearer the-secret",
                "x-want-cookie": "yes",
            },
        )
        await browser.until_text(ROW, "/items?page=2")
        rows = await browser.run("return [...document.querySelectorAll('.row')].map((row) => row.innerText)")
        assert [row.split("\n")[:2] for row in rows] == [["POST", "/items?page=2"], ["GET", "/first"]]
        assert {"201", "guest-a", "20 B"} <= set(rows[0].split("\n"))
        assert await browser.run("return document.querySelector('#empty').hidden")

        # One is opened: waterfall, headers, bodies
        await browser.click(".row")
        await browser.until_text(".details pre", '"pears": [')
        details = await browser.text("#details")
        for words in (
            "Queued for a lease",
            "First byte",
            "in all",
            "x-want-status",
            "application/json · 20 B",
            "2.50",
        ):
            assert words in details

        # Secrets are hidden until they are clicked
        page = await browser.run("return document.body.innerText")
        assert "the-secret" not in page
        assert "other-secret" not in page
        hidden = await browser.run(
            "return [...document.querySelectorAll('.secret')].map((one) => one.getAttribute('aria-label'))"
        )
        assert hidden == ["Show what is hidden in set-cookie", "Show what is hidden in authorization"]
        await browser.click(".secret[aria-label*='authorization']")
        assert "Bearer the-secret" in await browser.text("#details")

        # It is sent again with one click, and what comes of it is opened
        await browser.click("#replay")
        await browser.until_text(".details .facts", "replay of no. 2")
        await browser.until_text(ROW, "replay")
        replayed = place.recorder.get(3)
        assert replayed is not None
        assert bytes(replayed.request.kept) == b'{"pears": [1, 2.50]}'
        assert replayed.start.headers["authorization"] == "Bearer the-secret"


async def test_a_body_that_was_cut_is_not_replayed(session: str, certs: Certificates) -> None:
    async with opened(session, certs) as (place, browser):
        await place.fetch("/large", "POST", body=b"x" * 100_000, headers={"content-type": "text/plain"})
        await open_request(browser, "/large")
        await browser.until_text(".details .why", "Only the first 64 KiB of its body are kept")
        assert await browser.run("return document.querySelector('#replay').disabled")
        await browser.until_text(".details .note", "text/plain · 98 KiB · the first 64 KiB are kept")


async def test_websocket_messages_as_they_pass(session: str, certs: Certificates) -> None:
    async with opened(session, certs) as (place, browser):
        async with await place.broker.websocket(f"ws://{DOMAIN}/chat") as chat:
            await open_request(browser, "/chat")
            await browser.until_text(".status", "open")
            await chat.send_text(f"hello {ATTACK}")
            await browser.until_text(".message.broker", f"hello {ATTACK}")
            await browser.until_text(".message.guest", f"you said hello {ATTACK}")
            await chat.send_bytes(b"\x00\xff")
            await browser.until_text(".message.guest", "binary 00 ff")
        await browser.until_text(".message", "close 1000")
        await browser.until_text(".details .status", "closed")
        assert not await attacked(browser)


async def test_guests_that_come_and_go(session: str, certs: Certificates) -> None:
    async with opened(session, certs) as (place, browser):
        async with RawGuest(place.host, certs, "guest-b", "b.localhost", "c.localhost") as guest:
            await guest.lease()
            await browser.until_text(".gauge", "guest-b")
            await browser.until_text(".gauge:last-child", "b.localhost\nc.localhost")
            await browser.until_text(".gauge:last-child", "1 idle lease")
        await browser.until_text(".gauge:last-child", "b.localhost (away)")


async def test_a_body_as_it_comes(session: str, certs: Certificates) -> None:
    more = asyncio.Queue[bytes]()

    async def ticker(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        while body := await more.get():
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with opened(session, certs, serve=ticker) as (place, browser):
        reading = asyncio.ensure_future(place.fetch("/ticks"))
        await open_request(browser, "/ticks")
        more.put_nowait(b"data: one\n\n")
        await browser.until_text(".details pre", "data: one")
        assert "still under way" in await browser.text("#details")
        more.put_nowait(b"data: two\n\n")
        await browser.until_text(".details pre", "data: two")
        more.put_nowait(b"")
        await browser.until_text(".details .sum", "in all")
        await reading


async def attacked(browser: Browser) -> bool:
    """Whether anything that was shown has run."""
    return await browser.has_dialog() or bool(
        await browser.run(
            "return window.attacked !== undefined || document.querySelector('img[src=x]') !== null"
        )
    )


async def test_what_is_shown_stays_text(session: str, certs: Certificates) -> None:
    """A path, a header, a method, a JSON body, HTML and SVG that would all like to run."""
    async with opened(session, certs) as (place, browser):
        await place.fetch("/attack", headers={"x-show": ATTACK, "cookie": ATTACK})
        for kind, body in (
            ("text/html", f"<html><body>{ATTACK}</body></html>"),
            ("application/json", json.dumps({"attack": ATTACK})),
            ("image/svg+xml", SVG),
            (ATTACK, ATTACK),
        ):
            async with RawBroker(place.host, certs, "broker-raw") as broker:  # which encodes no path
                stream = broker.request(
                    "POST", PATH, {"x-want-type": kind, "content-type": kind}, domain=DOMAIN, end=False
                )
                await stream.write(body.encode(), end=True)
                assert (await broker.answer(stream)).body == body.encode()
        await browser.until_text(ROW, "/a?q=<img/src=x/onerror=alert(1)>&token=")
        await open_request(browser, "/attack")
        assert ATTACK in await browser.text("#details")
        await browser.click(".secret")
        assert await browser.text(".secret") == ATTACK
        count = await browser.until("return document.querySelectorAll('.row').length === 5 && 5")
        for index in range(count - 1):
            await browser.run("document.querySelectorAll('.row')[arguments[0]].click()", index)
            await browser.until_text(".details .facts", "Guest guest-a")
            await browser.until("return document.querySelector('.details .body > *') !== null")
            await browser.run("for (const one of document.querySelectorAll('.details .secret')) one.click()")
        await browser.until("return document.querySelector('.details pre') !== null")
        assert not await attacked(browser)

        # The same bodies by themselves, as pages: an SVG is a program, and so is HTML
        for number in range(2, 6):
            await browser.open(f"{place.base}/_verser/api/requests/{number}/response-body")
            assert not await attacked(browser)
        await browser.open(f"{place.base}/_verser/")
        await browser.until_text("#link-text", "Live")
        blocked = [line for line in await browser.log() if "response-body" not in line]
        assert blocked == []


async def test_the_app_cannot_frame_or_read_it(session: str, certs: Certificates) -> None:
    async with opened(session, certs) as (place, browser):
        await browser.open(f"http://{DOMAIN}:{place.port}/")  # another origin, on the same server
        tried = await browser.run_async(
            "const read = async (options) => { try { return (await fetch(arguments[0], options)).status }"
            " catch (error) { return 'refused' } };"
            "return [await read({credentials: 'include'}),"
            " await read({mode: 'no-cors', credentials: 'include'}),"
            " await read({method: 'POST', mode: 'no-cors', credentials: 'include'})]",
            f"{place.base}/_verser/api/clear",
        )
        assert tried == ["refused", "refused", "refused"]
        await place.fetch("/still-here")
        framed = await browser.run_async(
            "const frame = document.createElement('iframe'); frame.src = arguments[0];"
            "const loaded = new Promise((done) => frame.addEventListener('load', done));"
            "document.body.append(frame); await loaded;"
            "try { return frame.contentDocument === null } catch { return true }",
            f"{place.base}/_verser/",
        )
        assert framed
        assert len(place.recorder) == 1
        await browser.log()


async def test_with_the_keyboard_alone(session: str, certs: Certificates) -> None:
    async with opened(session, certs) as (place, browser):
        for name in ("one", "two", "three"):
            await place.fetch(f"/{name}")
        await browser.until_text(ROW, "/three")

        async def focused() -> str:
            return str(
                await browser.run("return document.activeElement.innerText || document.activeElement.id")
            )

        await browser.press("Down")
        assert "/three" in await focused()
        await browser.press("Down")
        assert "/two" in await focused()
        assert await browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await browser.press("Enter")
        await browser.until_text(".details h2", "/two")
        await browser.until("return document.activeElement.id === 'details'")
        await browser.press("Escape")
        assert await browser.run("return document.querySelector('#details').hidden")
        assert "/two" in await focused()
        await browser.press("/")
        assert await focused() == "filter"
        await browser.type("#filter", "one")
        assert [row.split("\n")[1] for row in await shown(browser)] == ["/one"]
        await browser.press("Escape")
        assert len(await shown(browser)) == 3
        roles = await browser.run(
            "return [document.querySelector('#list').getAttribute('role'),"
            " document.querySelector('.row').getAttribute('role'),"
            " document.querySelector('.row').getAttribute('aria-label')]"
        )
        assert roles[:2] == ["listbox", "option"]
        assert roles[2].startswith("GET /three, 200, ")


async def shown(browser: Browser) -> list[str]:
    rows: list[str] = await browser.run(
        "return [...document.querySelectorAll('.row:not([hidden])')].map((row) => row.innerText)"
    )
    return rows


async def test_pausing_clearing_and_the_oldest_that_go(session: str, certs: Certificates) -> None:
    async with opened(session, certs, recorder=Recorder(max_requests=3)) as (place, browser):
        for number in range(5):
            await place.fetch(f"/{number}")
        await browser.until_text(ROW, "/4")
        await browser.until("return document.querySelectorAll('.row').length === 3")
        await browser.click("#pause")
        await place.fetch("/later")
        await browser.until_text("#count", "1 new")
        assert not any("/later" in row for row in await shown(browser))
        await browser.click("#pause")
        await browser.until_text(ROW, "/later")
        await browser.click("#clear")
        await browser.until("return document.querySelectorAll('.row').length === 0")
        assert "Nothing has passed yet" in await browser.text("#empty")


@pytest.mark.parametrize(("width", "height"), [(360, 640), (1280, 800)])
async def test_nothing_is_wider_than_the_window(
    session: str, certs: Certificates, width: int, height: int
) -> None:
    async with opened(session, certs) as (place, browser):
        await browser.size(width, height)
        await place.fetch("/" + "long" * 200 + "?x=" + "y" * 500, headers={"x-long": "z" * 2_000})
        await open_request(browser, "/longlong")
        await browser.until_text(".details pre", "hello")
        wide = (
            "return document.documentElement.scrollWidth > innerWidth ||"
            " document.querySelector('#details').scrollWidth > document.querySelector('#details').clientWidth"
        )
        assert not await browser.run(wide)
        if width < 600:
            assert not await browser.run("return document.querySelector('.requests').checkVisibility()")
            await browser.click(".back")
            assert await browser.run("return document.querySelector('.requests').checkVisibility()")
        assert not await browser.run("return document.documentElement.scrollWidth > innerWidth")
        small = await browser.run(
            "return [...document.querySelectorAll('button, input, .row')]"
            ".filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 24)"
            ".map((one) => one.outerHTML.slice(0, 80))"
        )
        assert small == []


async def test_the_colours_have_contrast(session: str, certs: Certificates) -> None:
    """Each text on each ground that the page uses: 4.5 to 1 or more (WCAG 2.2, 1.4.3), light and dark."""
    async with opened(session, certs) as (_, browser):
        for dark in (False, True):
            await browser.dark(dark)
            colours = await browser.run(
                "const style = getComputedStyle(document.documentElement);"
                "const read = (name) => [name, style.getPropertyValue('--' + name)];"
                "return Object.fromEntries(arguments[0].map(read))",
                [*TEXTS, *(ground for grounds in TEXTS.values() for ground in grounds)],
            )
            for text, grounds in TEXTS.items():
                for ground in grounds:
                    ratio = contrast(colours[text], colours[ground])
                    assert ratio >= 4.5, f"{text} on {ground}, {'dark' if dark else 'light'}: {ratio:.2f}"


TEXTS = {
    "text": ["ground", "sheet", "raised", "chosen", "refused-ground", "busy-ground"],
    "soft": ["ground", "sheet", "raised", "chosen", "busy-ground"],
    "accent": ["ground", "sheet"],
    "accent-text": ["accent"],
    **{name: [f"{name}-ground"] for name in ("good", "moved", "refused", "failed", "open", "busy")},
}


def contrast(one: str, other: str) -> float:
    """The contrast of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = [int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


async def test_a_run_that_is_over_is_told(session: str, certs: Certificates) -> None:
    async with stage(certs) as place, window(session) as browser:
        await browser.open(place.inspector.url(place.base))
        await browser.until_text("#link-text", "Live")
        place.inspector.close()
        await browser.until_text("#link-text", "trying again")
