"""A Guest at a scripted Host, and the Host's end of its leases.

async with guest_at_scripted_host(certs, app) as (host, guest):
    call = await host_call(host, path="/items?q=1")
    reply = await call.reply()
    assert (reply.status, reply.body) == (200, b"hello")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.certificates import Certificates
from tests.support.scripted_host import ScriptedHost, answer, read_all, scripted_host
from verser2_guest_python import VerserGuest, create_verser_guest
from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send
from verser2_guest_python.guest import GuestEvent
from verser2_guest_python.http2 import ErrorCode, Http2Error, SessionOptions, Stream
from verser2_guest_python.wire.envelopes import (
    EnvelopeParser,
    ErrorHead,
    RequestHead,
    ResponseHead,
    encode_request,
)

DOMAIN = "a.local.test"
GUEST_ID = "guest-a"
LEASE_PATH = "/verser/guest/lease"
REVOKE_PATH = "/verser/guest/revoke"
WAIT_SECONDS = 30.0

Headers = Mapping[str, str]
OnStream = Callable[[Stream], None]


# --- Apps -----------------------------------------------------------------------------------------


async def no_lifespan(scope: Scope) -> None:
    """What an app of a few lines does first."""
    if scope["type"] != "http":
        raise NotImplementedError(f"no {scope['type']} here")


async def respond(
    send: Send, data: bytes = b"", status: int = 200, headers: Headers | None = None, *, more: bool = False
) -> None:
    """A start and a first body."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def hello(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers everything with its path."""
    await no_lifespan(scope)
    await respond(send, scope["path"].encode())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the whole request body."""
    await no_lifespan(scope)
    data = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        data += message["body"]
        more = message["more_body"]
    await respond(send, bytes(data))


class Gate:
    """An app whose calls wait until a test lets them go on, and then answer with their path."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.running = 0
        self.most = 0
        self.answered = 0
        self._open = asyncio.Event()
        self._news = asyncio.Event()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        self.paths.append(scope["path"])
        self.running += 1
        self.most = max(self.most, self.running)
        self._news.set()
        try:
            await self._open.wait()
            await respond(send, scope["path"].encode())
            self.answered += 1
        finally:
            self.running -= 1
            self._news.set()

    def open(self) -> None:
        """Let all calls go on, those to come too."""
        self._open.set()

    async def until(self, running: int) -> None:
        """Until so many calls run."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.running != running:
                self._news.clear()
                await self._news.wait()


class Witness:
    """An app that waits for the client to leave, and remembers what it received."""

    def __init__(self, *, start: bool = False) -> None:
        self.messages: list[Message] = []
        self.send_error: BaseException | None = None
        self.begun = asyncio.Event()
        self.done = asyncio.Event()
        self._start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await no_lifespan(scope)
        try:
            if self._start:
                await respond(send, b"begun", more=True)
            self.begun.set()
            while not self.messages or self.messages[-1]["type"] != "http.disconnect":
                self.messages.append(await receive())
            try:
                if not self._start:
                    await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"too late"})
            except OSError as error:
                self.send_error = error
        finally:
            self.done.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def complete(self) -> bool:
        """Whether the app was told that the request body is complete."""
        return any(message.get("more_body") is False for message in self.messages)

    async def saw_disconnect(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.done.wait()
        assert self.messages[-1] == {"type": "http.disconnect"}


# --- The Host's end of a lease --------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What came on a lease: a response or an error, and whether it ended as it should."""

    head: ResponseHead | ErrorHead
    body: bytes

    @property
    def status(self) -> int:
        assert isinstance(self.head, ResponseHead), self.head
        return self.head.status_code

    @property
    def headers(self) -> dict[str, Any]:
        assert isinstance(self.head, ResponseHead), self.head
        return self.head.headers

    @property
    def error(self) -> ErrorHead:
        assert isinstance(self.head, ErrorHead), self.head
        return self.head


class Call:
    """One request that the Host puts on a lease."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = EnvelopeParser()
        self._rest = b""

    def send_head(self, head: RequestHead, body: bytes = b"", *, end: bool = False) -> None:
        """The envelope, and a first piece of body, in one frame."""
        data = encode_request(head)
        assert self.stream.write_now(data + body, end=end, head=len(data))

    async def head(self) -> ResponseHead | ErrorHead:
        """The head of the answer, which must come in one piece."""
        async with asyncio.timeout(WAIT_SECONDS):
            data = await self.stream.read()
        head = self._parser.feed(data)
        assert isinstance(head, ResponseHead | ErrorHead), f"the head was split, or there is none: {data!r}"
        self._rest = self._parser.rest
        return head

    async def read(self) -> bytes:
        """The next piece of the answer's body; empty at its end."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.stream.read()

    async def reply(self) -> Reply:
        """The whole answer; raises StreamReset when it was cut off."""
        head = await self.head()
        body = bytearray()
        while piece := await self.read():
            body += piece
        return Reply(head, bytes(body))

    async def failed(self) -> int:
        """The code with which the Guest reset the lease."""
        async with asyncio.timeout(WAIT_SECONDS):
            error = await self.stream.wait_error()
        assert error is not None, "the lease ended as if the answer were whole"
        code: int = error.code  # type: ignore[union-attr]
        return code

    def cancel(self) -> None:
        """The Broker has cancelled (protocol.md §5.5)."""
        self.stream.reset(ErrorCode.CANCEL)

    def end_and_cancel(self) -> None:
        """Deployed Hosts: an empty DATA with END_STREAM and the reset, in one packet."""
        self.stream.write_now(b"", end=True)
        self.stream.reset(ErrorCode.CANCEL)


_numbers = iter(range(1, 1_000_000_000))


def request_head(
    path: str = "/", method: str = "GET", headers: Headers | None = None, **more: Any
) -> RequestHead:
    """A request's metadata, with the host header that a Host adds."""
    said = {"host": DOMAIN, **(headers or {})}
    more.setdefault("request_id", f"broker-a-{next(_numbers)}")
    return RequestHead(
        source_id="broker-a", target_id=GUEST_ID, method=method, path=path, headers=said, **more
    )


async def next_lease(host: ScriptedHost) -> Stream:
    """The next lease that its Guest has not given up, of a session that is still there."""
    while True:
        stream = await host.accept(LEASE_PATH)
        if stream.error is None and not stream.ended:
            return stream


async def host_call(
    host: ScriptedHost,
    path: str = "/",
    method: str = "GET",
    headers: Headers | None = None,
    body: bytes = b"",
    *,
    end: bool = True,
    **more: Any,
) -> Call:
    """Puts a request on the next lease."""
    call = Call(await next_lease(host))
    data = encode_request(request_head(path, method, headers, **more))
    await call.stream.write(data + body, end=end, head=len(data))
    return call


async def ask(host: ScriptedHost, path: str = "/", **request: Any) -> Reply:
    """A request on the next lease, and the whole answer."""
    return await (await host_call(host, path, **request)).reply()


# --- The Guest and its Host -----------------------------------------------------------------------


class Events:
    """The lifecycle events of a Guest, past and to come."""

    def __init__(self, guest: VerserGuest) -> None:
        self.all: list[GuestEvent] = []
        self._news = asyncio.Event()
        guest.on_lifecycle(self._on_event)

    def _on_event(self, event: GuestEvent) -> None:
        self.all.append(event)
        self._news.set()

    def find(self, kind: str, **fields: Any) -> list[GuestEvent]:
        return [
            event
            for event in self.all
            if event.type == kind and all(event.fields.get(key) == value for key, value in fields.items())
        ]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.all]

    async def wait(self, kind: str, count: int = 1, **fields: Any) -> GuestEvent:
        """The event that makes it so many of this kind."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(found := self.find(kind, **fields)) < count:
                self._news.clear()
                await self._news.wait()
        return found[count - 1]


def make_guest(host: Any, certs: Certificates, app: ASGIApp | None, **options: Any) -> VerserGuest:
    """A Guest for any Host with a `url`; without WebSocket leases unless they are asked for."""
    options.setdefault("guest_id", GUEST_ID)
    options.setdefault("routed_domains", [DOMAIN])
    options.setdefault("min_waiting_websocket_streams", 0)
    return create_verser_guest(host_url=host.url, tls_ca_file=certs.ca, app=app, **options)


@asynccontextmanager
async def lease_host(
    certs: Certificates,
    *,
    on_lease: OnStream | None = None,
    on_revoke: Callable[[Stream, bytes], Awaitable[None]] | None = None,
    options: SessionOptions | None = None,
    **more: Any,
) -> AsyncIterator[ScriptedHost]:
    """A scripted Host that acknowledges revocations; `on_lease` gets every lease, not answered yet."""
    tasks: set[asyncio.Task[None]] = set()
    async with scripted_host(certs, options=options, **more) as host:
        plain: OnStream = host._on_stream

        def on_stream(stream: Stream) -> None:
            path = dict(stream.fields or ())[b":path"].decode()
            if path == REVOKE_PATH:
                task = asyncio.create_task(_revoke(stream, on_revoke), name="scripted host: revocation")
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            elif path == LEASE_PATH and on_lease is not None:
                on_lease(stream)
            else:
                plain(stream)

        host._on_stream = on_stream  # type: ignore[method-assign]
        try:
            yield host
        finally:
            for task in list(tasks):
                task.cancel()


async def _revoke(stream: Stream, on_revoke: Callable[[Stream, bytes], Awaitable[None]] | None) -> None:
    try:
        asked = await read_all(stream)
    except Http2Error:
        return  # the Guest was told to hurry, or kept it for a GOAWAY that never came
    if on_revoke is not None:
        await on_revoke(stream, asked)
    else:
        assert json.loads(asked)["domains"]
        await answer(stream, 200, {"content-type": "application/json"}, b'{"status":"ack"}')


@asynccontextmanager
async def guest_at_scripted_host(
    certs: Certificates, app: ASGIApp | None = hello, *, host: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[ScriptedHost, VerserGuest]]:
    """A scripted Host and a Guest that is registered there; closed at the end, soon."""
    async with lease_host(certs, **(host or {})) as scripted:
        guest = make_guest(scripted, certs, app, **options)
        try:
            await guest.connect()
            yield scripted, guest
        finally:
            await guest.close(timeout=0.2)


def other_streams(guest: VerserGuest) -> int:
    """Streams that a Guest without requests has open beside its leases: control, and one to revoke on."""
    (current,) = guest._keepers.sessions
    return 1 + (getattr(current, "_revocation", None) is not None)


def session_of(guest: VerserGuest) -> Any:
    """The HTTP/2 session that a Guest has now."""
    (current,) = guest._keepers.sessions
    return current.session
