"""Raw peers for tests of the Host: they say exactly what a test wants, right or wrong.

async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
    lease = await guest.lease()
    stream = broker.request("GET", "/")
    head = await lease.request()
    lease.answer(head, 200, {"content-type": "text/plain"}, b"hello")
    assert (await broker.answer(stream)).body == b"hello"
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.certificates import Certificates
from verser2_guest_python.host import HostEvent, VerserHost, create_verser_host
from verser2_guest_python.http2 import (
    FieldBlock,
    Session,
    SessionOptions,
    Stream,
    client_context,
    connect,
)
from verser2_guest_python.wire.broker_request import BrokerRequest, encode_broker_request
from verser2_guest_python.wire.envelopes import (
    EnvelopeParser,
    RequestHead,
    encode_error,
    encode_response,
)
from verser2_guest_python.wire.lines import LineParser
from verser2_guest_python.wire.registration import Registration, encode_registration

WAIT_SECONDS = 30.0
DOMAIN = "a.local.test"


class Watcher:
    """Waits for lifecycle events of a Host."""

    def __init__(self, host: VerserHost) -> None:
        self.events: list[HostEvent] = []
        self._news = asyncio.Event()
        host.on_lifecycle(self._on_event)

    def _on_event(self, event: HostEvent) -> None:
        self.events.append(event)
        self._news.set()

    def find(self, name: str, **fields: Any) -> HostEvent | None:
        for event in self.events:
            if event.name == name and all(event.fields.get(key) == value for key, value in fields.items()):
                return event
        return None

    async def wait(self, name: str, **fields: Any) -> HostEvent:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                event = self.find(name, **fields)
                if event is not None:
                    return event
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running_host(certs: Certificates, **options: Any) -> AsyncIterator[VerserHost]:
    """A Host on a free port; at the end it is closed at once."""
    host = create_verser_host(tls_cert_file=certs.host, tls_key_file=certs.host_key, **options)
    await host.start()
    try:
        yield host
    finally:
        await host.close(timeout=0)


@dataclass(frozen=True)
class Answer:
    """An answer with its whole body."""

    status: int
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.fields if key == name.encode()]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; an answer with one is marked with its code (protocol.md §14)."""
        error: dict[str, Any] = self.json["error"]
        assert self.get("x-verser-error") == error["code"]
        assert self.get("content-type") == "application/json"
        return error


class Peer:
    """A session with a Host, on which nobody has registered yet."""

    def __init__(
        self,
        host: VerserHost,
        certs: Certificates,
        *,
        cert: Path | None = None,
        key: Path | None = None,
        token: str | None = None,
        options: SessionOptions | None = None,
    ) -> None:
        self._host = host
        self.token = token
        self._tls = client_context(ca_file=certs.ca, cert_file=cert, key_file=key)
        self._options = options if options is not None else SessionOptions()
        self.session: Session

    async def __aenter__(self) -> Self:
        self.session = await connect(
            "127.0.0.1", self._host.port, tls=self._tls, server_hostname="localhost", options=self._options
        )
        await self.introduce()
        return self

    async def introduce(self) -> None:
        """Registers, where a subclass does."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    def open(
        self, path: str, extra: Mapping[str, str] | None = None, *, method: str = "POST", end: bool = False
    ) -> Stream:
        block = FieldBlock(
            [
                (b":method", method.encode()),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", path.encode()),
            ]
        )
        return self.session.open(
            block, [(name.encode(), value.encode()) for name, value in (extra or {}).items()], end=end
        )

    async def answer(self, stream: Stream) -> Answer:
        """The whole answer to what was sent."""
        async with asyncio.timeout(WAIT_SECONDS):
            fields = await stream.wait_fields()
            body = b""
            while chunk := await stream.read():
                body += chunk
        return Answer(int(dict(fields)[b":status"]), fields, body)

    async def exchange(self, path: str, body: bytes, extra: Mapping[str, str] | None = None) -> Answer:
        """One JSON exchange."""
        stream = self.open(path, {"content-type": "application/json", **(extra or {})})
        await stream.write(body, end=True)
        return await self.answer(stream)


async def failed(stream: Stream) -> int:
    """The code with which the Host reset a stream."""
    async with asyncio.timeout(WAIT_SECONDS):
        error = await stream.wait_error()
    assert error is not None, "the stream ended normally"
    code: int = error.code  # type: ignore[union-attr]
    return code


class Lease:
    """An open lease, as its Guest sees it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = EnvelopeParser()
        self._rest = b""

    async def request(self) -> RequestHead:
        """The request that the Host writes; it must come in one piece."""
        async with asyncio.timeout(WAIT_SECONDS):
            data = await self.stream.read()
        return self.parse(data)

    def parse(self, data: bytes) -> RequestHead:
        """The request head in what the Host wrote first."""
        head = self._parser.feed(data)
        assert isinstance(head, RequestHead), "the request head was split"
        self._rest = self._parser.rest
        return head

    async def body(self) -> bytes:
        """The whole request body."""
        async with asyncio.timeout(WAIT_SECONDS):
            data, self._rest = self._rest, b""
            while chunk := await self.stream.read():
                data += chunk
        return data

    async def answer(
        self,
        head: RequestHead,
        status: int = 200,
        headers: Mapping[str, Any] | None = None,
        body: bytes = b"",
        *,
        end: bool = True,
    ) -> None:
        """Writes a response envelope and a body."""
        text = encode_response(head.request_id, status, dict(headers or {}))
        await self.stream.write(text + body, end=end, head=len(text))

    async def fail(self, head: RequestHead, code: str, message: str, context: dict[str, Any]) -> None:
        """Writes an error envelope."""
        await self.stream.write(encode_error(head.request_id, code, message, context), end=True)


class Guest(Peer):
    """A registered Guest."""

    def __init__(
        self, host: VerserHost, certs: Certificates, guest_id: str = "guest-a", *domains: str, **options: Any
    ) -> None:
        super().__init__(host, certs, **options)
        self.id = guest_id
        self.domains = domains or (DOMAIN,)
        self.lease_count = 0
        self.registered: Any = None

    async def introduce(self) -> None:
        registration = encode_registration(Registration(self.id, "guest", self.domains, self.token))
        answer = await self.exchange("/verser/register", registration)
        assert answer.status == 200, answer
        self.registered = answer.json

    def open_lease(self, **extra: str) -> Stream:
        self.lease_count += 1
        fields = {"x-verser-peer-id": self.id, "x-verser-lease-id": str(self.lease_count)}
        return self.open("/verser/guest/lease", fields | {k.replace("_", "-"): v for k, v in extra.items()})

    async def lease(self) -> Lease:
        """A lease that the Host has accepted."""
        stream = self.open_lease()
        async with asyncio.timeout(WAIT_SECONDS):
            fields = dict(await stream.wait_fields())
        assert fields[b":status"] == b"200"
        assert fields[b"content-type"] == b"application/octet-stream"
        return Lease(stream)

    async def revoke(self, body: bytes | Sequence[str], peer_id: str | None = None) -> Answer:
        if not isinstance(body, bytes):
            body = json.dumps({"domains": list(body)}).encode()
        return await self.exchange("/verser/guest/revoke", body, {"x-verser-peer-id": peer_id or self.id})


class Broker(Peer):
    """A registered Broker."""

    def __init__(
        self, host: VerserHost, certs: Certificates, broker_id: str = "broker-a", **options: Any
    ) -> None:
        super().__init__(host, certs, **options)
        self.id = broker_id
        self.control: Stream
        self.registered: Any = None
        self._lines = LineParser(1 << 22)
        self._waiting: list[Any] = []
        self._requests = 0

    async def introduce(self) -> None:
        self.control = self.open("/verser/register", {"content-type": "application/json"})
        await self.control.write(
            encode_registration(Registration(self.id, "broker", (), self.token)), end=True
        )
        async with asyncio.timeout(WAIT_SECONDS):
            fields = dict(await self.control.wait_fields())
        assert fields[b":status"] == b"200"
        assert fields[b"content-type"] == b"application/x-ndjson"
        self.registered = await self.line()

    async def line(self) -> Any:
        """The next control line."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not self._waiting:
                data = await self.control.read()
                assert data, "the control stream ended"
                self._waiting = [json.loads(line) for line in self._lines.feed(data)]
        return self._waiting.pop(0)

    async def change(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
        """The next change: its events as (type, domain, reason), and the table that follows."""
        lifecycle = await self.line()
        assert lifecycle["type"] == "route-lifecycle"
        table = await self.line()
        assert table["type"] == "routes"
        events = [(event["type"], event["domain"], event["reason"]) for event in lifecycle["events"]]
        return events, [(route["targetId"], route["domain"]) for route in table["routes"]]

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        *,
        target: str = "guest-a",
        domain: str | None = DOMAIN,
        lease_timeout_ms: int | None = None,
        end: bool = True,
        fields: Mapping[str, str] | None = None,
    ) -> Stream:
        """Sends a request's fields; `fields` replace `x-verser-*` ones, and an empty one is left out."""
        self._requests += 1
        request = BrokerRequest(
            f"{self.id}-{self._requests}",
            self.id,
            target,
            domain,
            method,
            path,
            dict(headers or {}),
            lease_timeout_ms,
        )
        said = {name.decode(): value.decode() for name, value in encode_broker_request(request)}
        said |= {f"x-verser-{name}": value for name, value in (fields or {}).items()}
        return self.open("/verser/request", {name: value for name, value in said.items() if value}, end=end)

    async def fetch(self, *args: Any, body: bytes | None = None, **kwargs: Any) -> Answer:
        """A request and its whole answer."""
        stream = self.request(*args, end=body is None, **kwargs)
        if body is not None:
            await stream.write(body, end=True)
        return await self.answer(stream)
