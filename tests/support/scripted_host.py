"""A Host that does exactly what a test tells it to, also what no Host should do.

It speaks HTTP/2 like a Host, registers whoever asks, and hands every other stream to the test, which
answers it byte by byte. Nothing happens behind a test's back: no route is checked, nothing is forwarded.

    async with scripted_host(certs, routes=[("guest-a", "a.local.test")]) as host:
        async with broker_at(host) as broker:
            call = asyncio.create_task(broker.get("http://a.local.test/"))
            stream = await host.accept("/verser/request")
            await answer(stream, 200, {"content-length": "5"}, b"abc")

For a Guest: `host.accept("/verser/guest/lease")` gives the leases one by one, each answered with 200
already; `/verser/guest/control` likewise. `refuse_registration` makes the Host say no.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.support.certificates import Certificates
from verser2_guest_python.http2 import (
    FieldBlock,
    Http2Error,
    Listener,
    Session,
    SessionOptions,
    Stream,
    listen,
    server_context,
)
from verser2_guest_python.wire.broker_request import BrokerRequest, parse_broker_request
from verser2_guest_python.wire.registration import Registration, encode_registered, parse_registration
from verser2_guest_python.wire.routes import Route

ACCEPT_SECONDS = 10.0
_RST_STREAM = 3
_SETTINGS = 4
_MAX_CONCURRENT_STREAMS = 3
_OPENED_WITH_200 = {
    "/verser/guest/control": "application/x-ndjson",
    "/verser/guest/lease": "application/octet-stream",
    "/verser/guest/websocket-lease": None,
}

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class ScriptedHost:
    """A listening Host; see the module."""

    def __init__(self, routes: Iterable[tuple[str, str]], extensions: Iterable[str]) -> None:
        self.routes = [Route(target_id, domain) for target_id, domain in routes]
        self.extensions = list(extensions)
        self.refusal: tuple[int, bytes] | None = None
        self.silent = False
        self.sessions: list[Session] = []
        self.registrations: list[Registration] = []
        self.controls: list[Stream] = []
        self.handshake_errors: list[Exception] = []
        self._streams: dict[str, asyncio.Queue[Stream]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.listener: Listener | None = None

    @property
    def port(self) -> int:
        assert self.listener is not None
        return self.listener.port

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def session(self) -> Session:
        """The session that came last."""
        return self.sessions[-1]

    @property
    def control(self) -> Stream:
        """The control stream of the Broker that registered last."""
        return self.controls[-1]

    def refuse_registration(self, status: int, body: bytes | Mapping[str, Any]) -> None:
        """From now on registrations are answered with this."""
        self.refusal = (status, body if isinstance(body, bytes) else json.dumps(body).encode())

    async def accept(self, path: str, timeout: float = ACCEPT_SECONDS) -> Stream:
        """The next stream that a peer opened for `path`, past or to come."""
        async with asyncio.timeout(timeout):
            return await self._queue(path).get()

    async def accept_request(self, timeout: float = ACCEPT_SECONDS) -> tuple[Stream, BrokerRequest]:
        """The next `/verser/request`, with what its fields say."""
        stream = await self.accept("/verser/request", timeout)
        return stream, parse_broker_request(stream.fields or ())

    async def say(self, *lines: bytes | Mapping[str, Any]) -> None:
        """Writes control lines to the Broker: objects as JSON lines, bytes as they are."""
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            await self.control.write(data)

    async def say_routes(self, *routes: tuple[str, str]) -> None:
        """A full route table."""
        await self.say({"type": "routes", "routes": [{"targetId": t, "domain": d} for t, d in routes]})

    async def say_lifecycle(self, *events: tuple[str, str, str, str | None]) -> None:
        """Lifecycle events: type, target id, domain, reason."""
        said = [
            {"type": kind, "targetId": target, "domain": domain, **({"reason": reason} if reason else {})}
            for kind, target, domain, reason in events
        ]
        await self.say({"type": "route-lifecycle", "events": said})

    def on_session(self, session: Session) -> None:
        self.sessions.append(session)
        session.on_stream = self._on_stream

    def _queue(self, path: str) -> asyncio.Queue[Stream]:
        return self._streams.setdefault(path, asyncio.Queue())

    def _on_stream(self, stream: Stream) -> None:
        path = dict(stream.fields or ())[b":path"].decode()
        if path == "/verser/register" and not self.silent:
            task = asyncio.create_task(self._register(stream), name="scripted host: registration")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if path in _OPENED_WITH_200:
            content_type = _OPENED_WITH_200[path]
            send_head(stream, 200, {"content-type": content_type} if content_type else {})
        self._queue(path).put_nowait(stream)

    async def _register(self, stream: Stream) -> None:
        try:
            registration = parse_registration(await read_all(stream))
            self.registrations.append(registration)
            if self.refusal is not None:
                await answer(stream, self.refusal[0], {"content-type": "application/json"}, self.refusal[1])
                return
            body = encode_registered(self.routes, self.extensions)
            if registration.role == "guest":
                own = [Route(registration.peer_id, domain) for domain in registration.routed_domains]
                body = encode_registered([*self.routes, *own], self.extensions)
                await answer(stream, 200, {"content-type": "application/json"}, body)
            else:
                send_head(stream, 200, {"content-type": "application/x-ndjson"})
                await stream.write(body + b"\n")
                self.controls.append(stream)
                self._queue("/verser/register").put_nowait(stream)
        except Http2Error:
            pass  # the peer has gone: its own business

    async def close(self) -> None:
        assert self.listener is not None
        self.listener.close()
        for session in self.sessions:
            await session.close(reason="the scripted Host closes")
        for task in list(self._tasks):
            await task
        await self.listener.wait_closed()


@asynccontextmanager
async def scripted_host(
    certs: Certificates,
    *,
    routes: Iterable[tuple[str, str]] = (),
    extensions: Iterable[str] = (),
    options: SessionOptions | None = None,
    client_ca: object = None,
    identity: str = "host",
) -> AsyncIterator[ScriptedHost]:
    """A Host on a free port of localhost, shown as `identity`; `routes` are pairs of target id and domain."""
    host = ScriptedHost(routes, extensions)
    tls = server_context(
        getattr(certs, identity),
        getattr(certs, f"{identity}_key"),
        client_ca_file=client_ca,
        require_client_certificate=client_ca is not None,
    )
    host.listener = await listen(
        "127.0.0.1",
        0,
        tls=tls,
        on_session=host.on_session,
        options=options or SessionOptions(),
        on_error=host.handshake_errors.append,
    )
    try:
        yield host
    finally:
        await host.close()


def send_head(stream: Stream, status: int, headers: Headers = (), *, end: bool = False) -> None:
    """Response fields; names and values as they are."""
    items = headers.items() if isinstance(headers, Mapping) else headers
    extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in items]
    stream.send_fields(FieldBlock(((b":status", str(status).encode()),)), extra, end=end)


async def answer(stream: Stream, status: int, headers: Headers = (), body: bytes = b"") -> None:
    """A whole answer: fields, body, END_STREAM."""
    send_head(stream, status, headers, end=not body)
    if body:
        await stream.write(body, end=True)


async def answer_error(
    stream: Stream, code: str, message: str = "no", *, status: int = 502, mark: bool = False, **context: Any
) -> None:
    """An error object (protocol.md §8); with `mark` the field of the error-header extension."""
    body = json.dumps({"error": {"code": code, "message": message, "context": context}}).encode()
    headers = {"content-type": "application/json"}
    if mark:
        headers["x-verser-error"] = code
    await answer(stream, status, headers, body)


async def read_all(stream: Stream) -> bytes:
    """The peer's bytes until it ends its side."""
    parts = []
    while chunk := await stream.read():
        parts.append(chunk)
    return b"".join(parts)


def allow_streams(session: Session, count: int) -> None:
    """SETTINGS that let the peer open so many streams at a time from now on."""
    settings = struct.pack(">HL", _MAX_CONCURRENT_STREAMS, count)
    session.engine.put(struct.pack(">LBL", len(settings) << 8 | _SETTINGS, 0, 0) + settings)
    session.wrote()


def raw_reset(stream: Stream, code: int) -> None:
    """A RST_STREAM frame, also where both sides have ended and the library would send none."""
    stream.session.engine.put(struct.pack(">LBLL", 4 << 8 | _RST_STREAM, 0, stream.id, code))
    stream.session.wrote()
