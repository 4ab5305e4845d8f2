"""Replay: a request sent again as it was, and why some are not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx2

from tests.inspector.stage import DOMAIN, Stage, app, stage
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python.service.inspector.replay import MAX_REPLAYS


async def details(client: httpx2.AsyncClient, number: int) -> Any:
    return (await client.get(f"/_verser/api/requests/{number}")).json()


async def replay(client: httpx2.AsyncClient, number: int) -> tuple[int, Any]:
    response = await client.post(f"/_verser/api/requests/{number}/replay")
    return response.status_code, response.json()


def sent(place: Stage, number: int) -> tuple[Any, ...]:
    record = place.recorder.get(number)
    assert record is not None
    start = record.start
    return start.method, start.path, start.domain, start.headers, bytes(record.request.kept)


async def test_a_request_is_sent_again_as_it_was(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        await place.fetch(
            "/items?x=%C3%A9", "PUT", body=b"a pear", headers={"x-want-status": "201", "x-a": "é"}
        )
        assert await replay(client, 1) == (200, {"id": 2})
        assert sent(place, 2) == sent(place, 1)
        view = await details(client, 2)
        assert (view["replayOf"], view["status"], view["state"]) == (1, 201, "done")
        body = await client.get("/_verser/api/requests/2/response-body")
        assert body.text == "a pear"


async def test_a_request_without_a_body(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        await place.fetch("/?q=1", headers={"x-forwarded-host": f"{DOMAIN}:8080"})
        assert await replay(client, 1) == (200, {"id": 2})
        assert sent(place, 2) == sent(place, 1)
        assert await replay(client, 2) == (200, {"id": 3})


async def test_one_whose_body_was_cut_is_not_sent(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        await place.fetch("/", "POST", body=b"x" * 65_537)
        view = await details(client, 1)
        assert (view["replay"], view["requestBody"]["cut"]) == (False, True)
        assert "first 64 KiB" in view["whyNot"]
        status, answer = await replay(client, 1)
        assert (status, answer) == (409, {"error": view["whyNot"]})
        assert len(place.recorder) == 1
        await place.fetch("/", "POST", body=b"x" * 65_536)
        assert (await replay(client, 2))[0] == 200


async def test_one_whose_body_never_arrived_is_not_sent(certs: Certificates) -> None:
    reading = asyncio.Event()

    async def answers_early(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        reading.set()
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"enough"})

    async def endless() -> Any:
        yield b"some"
        await reading.wait()
        while True:
            yield b"x" * 100
            await asyncio.sleep(0.01)

    async with stage(certs, answers_early) as place, place.visitor() as client:
        assert await place.fetch("/", "POST", body=endless()) == b"enough"
        view = await details(client, 1)
        assert (view["replay"], view["whyNot"]) == (False, "Its body did not arrive whole.")


async def test_a_websocket_is_not_replayed(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        async with await place.broker.websocket(f"ws://{DOMAIN}/chat"):
            pass
        assert (await replay(client, 1))[0] == 409


async def test_a_replay_that_fails_is_a_request_too(certs: Certificates) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        raise ValueError("boom")

    async with stage(certs, fails) as place, place.visitor() as client:
        response = await client.get("/")
        assert response.status_code == 200
        with contextlib.suppress(RuntimeError):
            await place.fetch("/")
        assert await replay(client, 1) == (200, {"id": 2})
        assert (await details(client, 2))["error"] == "local-handler-failure"


async def test_replays_are_bounded(certs: Certificates) -> None:
    go_on = asyncio.Event()
    slow = False
    waiting = 0

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        nonlocal waiting
        waiting += 1
        if slow:
            await go_on.wait()
        await app(scope, receive, send)

    async with stage(certs, waits) as place, place.visitor() as client:
        await place.fetch("/")
        slow, waiting = True, 0
        replays = [asyncio.ensure_future(replay(client, 1)) for _ in range(MAX_REPLAYS)]
        await until(lambda: waiting == MAX_REPLAYS)
        assert (await replay(client, 1))[0] == 429
        go_on.set()
        assert {status for status, _ in await asyncio.gather(*replays)} == {200}
