"""What a viewer is sent while it looks, and what it is not: nothing is kept for one that does not read."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.inspector.stage import DOMAIN, Stage, stage
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python.service.inspector import live
from verser2_guest_python.service.inspector.live import MAX_VIEWERS, Viewers
from verser2_guest_python.service.inspector.recorder import Recorder

WAIT_SECONDS = 10.0


class Events:
    """Server-sent events, one after the other; the name of the first one is read already."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._event = b"all"

    async def next(self, name: str) -> Any:
        """The next event of this name."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                kind, _, value = (await self._reader.readline()).strip().partition(b": ")
                if kind == b"event":
                    self._event = value
                elif kind == b"data" and self._event == name.encode():
                    return json.loads(value)

    async def request(self, **wanted: Any) -> Any:
        """The next change of a request after which it is so."""
        while True:
            for request in (await self.next("requests"))["requests"]:
                if all(request[name] == value for name, value in wanted.items()):
                    return request


@asynccontextmanager
async def looking(place: Stage) -> AsyncIterator[Events]:
    async with place.visitor() as client:
        reader, writer = await place.viewer(client)
        try:
            yield Events(reader)
        finally:
            writer.close()
            await writer.wait_closed()


async def test_requests_as_they_come(certs: Certificates) -> None:
    async with stage(certs) as place:
        await place.fetch("/before")
        async with looking(place) as events:
            everything = await events.next("all")
            assert [request["path"] for request in everything["requests"]] == [[["/before", False]]]
            assert everything["limit"] == 500
            await place.fetch("/after", "POST", body=b"12345", headers={"x-want-status": "404"})
            request = await events.request(state="done")
            assert (request["method"], request["path"], request["status"]) == (
                "POST",
                [["/after", False]],
                404,
            )
            assert (request["bytesIn"], request["bytesOut"], request["guest"]) == (5, 5, "guest-a")
            assert 0 <= request["leased"] <= request["answered"] <= request["ended"]


async def test_a_websocket_as_it_goes(certs: Certificates) -> None:
    async with stage(certs) as place, looking(place) as events:
        async with await place.broker.websocket(f"ws://{DOMAIN}/chat") as chat:
            await events.request(state="open", method="WS")
            await chat.send_text("one")
            await chat.receive()
            await events.request(state="open", messages=2)
        assert (await events.request(state="done"))["messages"] == 4


async def test_the_host_as_it_is(certs: Certificates) -> None:
    async with stage(certs) as place, looking(place) as events:
        host = await events.next("host")
        (guest,) = host["guests"]
        assert (guest["id"], guest["routes"]) == ("guest-a", [{"domain": DOMAIN, "state": "active"}])
        assert guest["idle"] >= 1


async def test_clearing_is_seen_by_all(certs: Certificates) -> None:
    async with stage(certs) as place, looking(place) as events, place.visitor() as client:
        await place.fetch()
        await events.request(state="done")
        await client.post("/_verser/api/clear")
        assert (await events.next("all"))["requests"] == []


async def test_viewers_are_counted_and_forgotten(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        async with looking(place) as events:
            await events.next("all")
            assert len(place.recorder._listeners) == 1
        await until(lambda: not place.recorder._listeners)
        viewers = [await place.viewer(client) for _ in range(MAX_VIEWERS)]
        response = await client.get("/_verser/api/events")
        assert (response.status_code, "close one" in response.text) == (503, True)
        for _, writer in viewers:
            writer.close()
            await writer.wait_closed()
        await until(lambda: not place.recorder._listeners)


async def test_a_viewer_that_does_not_read_is_let_go(
    certs: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent no more than fits on its way; then it is dropped, and the others go on."""
    monkeypatch.setattr(live, "MAX_WRITE_SECONDS", 0.2)
    monkeypatch.setattr(live, "LEAVE_SECONDS", 0.2)
    monkeypatch.setattr(live, "SAMPLE_SECONDS", 0.01)
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(live, "BUSY_PAUSE_SECONDS", 0.0)
    async with stage(certs) as place, place.visitor() as client:
        path = "/?" + "x" * 500
        for _ in range(200):
            await place.fetch(path)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.connect(("127.0.0.1", place.port))
            slow.sendall(place.viewer_head(client))
            await until(lambda: len(place.recorder._listeners) == 1)
            while place.recorder._listeners:
                for record in place.recorder:
                    place.recorder.changed(record)
                await asyncio.sleep(0.01)
        await place.fetch("/fine")


async def test_what_waits_for_a_viewer_is_bounded(certs: Certificates) -> None:
    """However much happens while it is sent something, a viewer owes one note for each request kept."""
    async with stage(certs, recorder=Recorder(max_requests=5)) as place:
        gate = asyncio.Event()
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)
            await gate.wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        viewers = Viewers(place.recorder, place.host)
        serving = asyncio.ensure_future(viewers.serve(receive, send))
        await until(lambda: len(sent) == 1)
        for number in range(50):
            await place.fetch(f"/{number}")
        assert len(sent) == 1
        gate.set()
        await until(lambda: len(sent) >= 2)
        everything = json.loads(sent[1]["body"].partition(b"data: ")[2])
        assert len(everything["requests"]) == 5
        viewers.close()
        await serving
