"""What a viewer is sent while it looks: server-sent events, as many as it takes and no more.

Apart because a viewer may be slow, or gone. Nothing is queued for it: what has changed is noted by
number, at most one note for each request that is kept, and is read when the viewer can take it. One
that takes nothing for a while is let go; a browser comes back by itself and begins anew.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

from verser2_guest_python.asgi.types import Receive, Send
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.inspector.answers import start
from verser2_guest_python.service.inspector.record import Record
from verser2_guest_python.service.inspector.recorder import Recorder
from verser2_guest_python.service.inspector.view import host_view, summary

PAUSE_SECONDS: Final = 0.1  # between two looks at what has changed
BUSY_PAUSE_SECONDS: Final = 0.9  # as much longer, where that is much
BUSY_CHANGES: Final = 200
SAMPLE_SECONDS: Final = 1.0  # between two points of the charts
MAX_WRITE_SECONDS: Final = 10.0  # what a viewer may take for one event
LEAVE_SECONDS: Final = 1.0  # … and for the end of them
MAX_VIEWERS: Final = 16


class Viewers:
    """All who look just now."""

    def __init__(self, recorder: Recorder, host: VerserHost) -> None:
        self._recorder = recorder
        self._host = host
        self._closed = asyncio.Event()
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether no further one is let in."""
        return self._count >= MAX_VIEWERS

    def close(self) -> None:
        """Ends all of them: a server that stops would wait for them."""
        self._closed.set()

    async def serve(self, receive: Receive, send: Send) -> None:
        """Sends events until the viewer is gone, or too slow, or the inspector closes."""
        viewer = _Viewer(self._recorder, self._host, send)
        self._count += 1
        gone = asyncio.ensure_future(_gone(receive))
        closed = asyncio.ensure_future(self._closed.wait())
        sending = asyncio.ensure_future(viewer.run())
        tasks = (gone, closed, sending)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._count -= 1
            viewer.stop()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, (TimeoutError, OSError)):
                raise result
        if not gone.done() or gone.cancelled():
            with suppress(TimeoutError):  # of one that takes nothing there is no leave to take
                async with asyncio.timeout(LEAVE_SECONDS):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Viewer:
    """One of them."""

    def __init__(self, recorder: Recorder, host: VerserHost, send: Send) -> None:
        self._recorder = recorder
        self._host = host
        self._send = send
        self._changed: dict[int, None] = {}
        self._cleared = False
        self._news = asyncio.Event()
        self._stop = recorder.listen(self._on_change, self._on_clear)

    def stop(self) -> None:
        self._stop()

    def _on_change(self, record: Record) -> None:
        self._changed[record.number] = None
        if len(self._changed) > self._recorder.max_requests:
            self._changed.pop(next(iter(self._changed)))
        self._news.set()

    def _on_clear(self) -> None:
        self._cleared = True
        self._news.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await start(self._send, 200, "text/event-stream", (b"x-accel-buffering", b"no"))
        await self._snapshot()
        sample_at = loop.time()
        while True:
            if loop.time() >= sample_at:
                await self._event("host", host_view(self._host, self._recorder))
                sample_at = loop.time() + SAMPLE_SECONDS
            try:
                async with asyncio.timeout_at(sample_at):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()
            if self._cleared:
                await self._snapshot()
                continue
            changed, self._changed = self._changed, {}
            records = [
                record for number in sorted(changed) if (record := self._recorder.get(number)) is not None
            ]
            if records:
                await self._event(
                    "requests",
                    {"oldest": self._recorder.oldest, "requests": [summary(record) for record in records]},
                )
            await asyncio.sleep(PAUSE_SECONDS + BUSY_PAUSE_SECONDS * min(1.0, len(records) / BUSY_CHANGES))

    async def _snapshot(self) -> None:
        """All there is, instead of all that was sent before."""
        self._changed = {}
        self._cleared = False
        recorder = self._recorder
        await self._event(
            "all",
            {
                "requests": [summary(record) for record in recorder],
                "oldest": recorder.oldest,
                "limit": recorder.max_requests,
                "hostUrl": self._host.url,
            },
        )

    async def _event(self, name: str, value: Any) -> None:
        data = json.dumps(value, separators=(",", ":"))
        async with asyncio.timeout(MAX_WRITE_SECONDS):
            await self._send(
                {
                    "type": "http.response.body",
                    "body": f"event: {name}\ndata: {data}\n\n".encode("ascii"),
                    "more_body": True,
                }
            )
