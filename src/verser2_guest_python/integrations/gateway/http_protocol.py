"""uvicorn's HTTP/1.1 protocol, as strict and as patient as a server that faces the internet has to be.

Apart from `checks.py`, which every ASGI server gets, because this cannot be seen in ASGI: the request line,
bytes that are no request, heads that never end, clients that neither read nor leave.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .connection import PoliteTransport, ReadingClient
from .limits import GatewayLimits
from .pages import answer
from .record import GatewayRecord
from .refusal import Refusal, head_slow, head_too_large, malformed

_FIELD_BYTES: Final = 4  # `: ` and the line's end
_VERSIONS: Final = ("1.0", "1.1")
_BODY: Final = (b"content-length", b"transfer-encoding")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class _UntilClose(int):
    """The length of a body that ends with the connection: whatever was sent is right."""

    def __lt__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    def __sub__(self, other: int) -> _UntilClose:
        return self

    __hash__ = int.__hash__


class GatewayHttpProtocol(HttpToolsProtocol):
    """One connection with a client."""

    limits: ClassVar[GatewayLimits] = GatewayLimits()
    on_refused: ClassVar[Callable[[GatewayRecord], None] | None] = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._refusal: Refusal | None = None  # why the parser was stopped
        self._deaf = False  # nothing that comes is looked at any more
        self._in_body = False
        self._head_bytes = 0
        self._unparsed_bytes = 0  # that have come since the parser last told of anything
        self._head_timer: asyncio.TimerHandle | None = None
        self._current: Any = None  # the cycle that is being answered
        self._reading: ReadingClient | None = None

    # --- The connection -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._reading = ReadingClient(transport, self.loop, self.limits.write_timeout)
        polite = PoliteTransport(transport, self.loop, self._reading, lambda: self._in_body)
        super().connection_made(cast("asyncio.Transport", polite))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        if self._reading is not None:
            self._reading.end()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """A client that has closed its side has left; it is not asked again whether it reads."""
        self._give_up_current()
        if self._reading is not None:
            self._reading.watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is not None:
            self._reading.watch()

    def resume_writing(self) -> None:
        if self._reading is not None:
            self._reading.stop()
        super().resume_writing()

    def handle_websocket_upgrade(self) -> None:
        self._head_came()
        polite = cast("PoliteTransport", self.transport)
        polite.flush()
        self.transport = polite.real
        super().handle_websocket_upgrade()

    # --- Bytes ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        transport = cast("PoliteTransport", self.transport)
        if transport.lingering:
            transport.drop(data)
            return
        if self._deaf:
            return
        self._unparsed_bytes += len(data)
        if not self._in_body:
            self._expect_head()
        super().data_received(data)
        if self._unparsed_bytes > self.limits.max_header_bytes and not self._deaf:
            self._refusal = head_too_large("a line of it has no end")
            self.send_400_response("")

    def _unsupported_upgrade_warning(self) -> None:
        """A protocol that is not spoken here: the request is answered, and what follows it is not read."""
        self._deaf = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    # --- The parser's events --------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._progress()
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _FIELD_BYTES)
        if not self._in_body:  # trailers end here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_came()
        if self.parser.get_http_version() not in _VERSIONS:
            self._stop(malformed("it is neither HTTP/1.1 nor HTTP/1.0"))
        self._check_target()
        if self.parser.should_upgrade() and any(name in _BODY for name, _ in self.headers):
            self._stop(malformed("an upgrade is asked for with a body"))
        self._in_body = True
        super().on_headers_complete()
        if self.parser.get_http_version() == "1.0" and not self.parser.should_upgrade():
            self.cycle.chunked_encoding = False  # RFC 9112 §6.1: such a client knows no chunks
            self.cycle.expected_content_length = _UntilClose()

    def on_body(self, body: bytes) -> None:
        self._progress()
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._progress()
        self._head_bytes = 0  # what is counted from here are trailers

    def on_message_complete(self) -> None:
        self._in_body = False
        self._progress()
        super().on_message_complete()

    def _progress(self) -> None:
        self._unparsed_bytes = 0

    def _count(self, size: int) -> None:
        self._progress()
        self._head_bytes += size
        if self._head_bytes > self.limits.max_header_bytes:
            self._stop(head_too_large(f"it takes more than {self.limits.max_header_bytes:,} bytes"))

    def _check_target(self) -> None:
        """An absolute target must name the host that the header names (RFC 9112 §3.2.2)."""
        url = self.url
        if b"#" in url:
            self._stop(malformed("its target has a fragment"))
        if url.startswith(b"/"):
            return
        absolute = _ABSOLUTE.match(url)
        if absolute is None:
            self._stop(malformed("its target is neither a path nor a URL"))
        hosts = [value for name, value in self.headers if name == b"host"]
        if absolute is not None and [absolute[1].lower()] != [host.strip().lower() for host in hosts]:
            self._stop(malformed("its target and its host header name different hosts"))

    def _stop(self, refusal: Refusal) -> None:
        """Ends parsing: the parser hands on what a callback raises."""
        self._refusal = refusal
        raise ValueError(refusal.sentence)

    # --- Time -----------------------------------------------------------------------------

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_timeout, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._unparsed_bytes or self._head_bytes:
            self._refusal = head_slow(self.limits.head_timeout)
            self.send_400_response("")
        else:
            self.transport.close()  # it never asked for anything

    # --- Refusing -------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request, but never in the place of an answer that somebody else waits for."""
        refusal = self._refusal or malformed("it breaks the rules of HTTP")
        self._deaf = True
        self._head_came()
        current = self._current
        answering = current is not None and not current.response_complete
        if answering and not (self._in_body and current is self.cycle):
            current.keep_alive = False  # an earlier request is answered, then this connection ends
            self.pipeline.clear()
            return
        self._record(refusal)
        if answering and current.response_started:
            self._give_up_current()
            self.transport.abort()
            return
        self._give_up_current()
        self._in_body = True  # whatever it was to be: more of it may be on its way
        self.transport.write(answer(refusal))
        self.transport.close()

    def _give_up_current(self) -> None:
        """Whoever answers learns that nobody is there any more."""
        current = self._current
        if current is not None and not current.response_complete:
            current.disconnected = True
            current.message_event.set()
            self.flow.resume_writing()

    def _record(self, refusal: Refusal) -> None:
        tell = type(self).on_refused
        if tell is None:
            return
        host = next((value for name, value in self.headers or () if name == b"host"), b"")
        record = GatewayRecord(
            client=self.client[0] if self.client else "",
            method="",
            name=host.decode("latin-1"),
            path="",
            request_id=refusal.request_id,
            reason=refusal.detail or refusal.sentence,
            code=refusal.code,
        )
        record.answered(refusal.status)
        record.end()
        tell(record)


def http_protocol(
    limits: GatewayLimits, on_refused: Callable[[GatewayRecord], None] | None
) -> type[GatewayHttpProtocol]:
    """The protocol with these limits; uvicorn makes one of it for each connection."""
    told = None if on_refused is None else staticmethod(on_refused)
    return type("GatewayHttpProtocol", (GatewayHttpProtocol,), {"limits": limits, "on_refused": told})
