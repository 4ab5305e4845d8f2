"""Dialling a Host: one session, and what may go wrong on the way told in sentences.

Apart because a Guest and a Broker dial alike, and because this is the one place where errors of
the HTTP/2 floor become `VerserError`s.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from verser2_guest_python.errors import (
    ConnectFailure,
    DisconnectedTargetError,
    RequestTimeoutError,
    StreamFailureError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserError,
    VerserProtocolError,
)
from verser2_guest_python.http2 import (
    AlpnError,
    CertificateRefused,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    CredentialsError,
    ErrorCode,
    FieldBlock,
    Fields,
    HeadTooLarge,
    HostUnreachable,
    Http2Error,
    Session,
    SessionClosing,
    SessionOptions,
    Stream,
    StreamReset,
    TlsTrustError,
    TooManyStreams,
)
from verser2_guest_python.http2 import connect as _connect
from verser2_guest_python.http2.deadline import within
from verser2_guest_python.http2.dialing import open_tcp
from verser2_guest_python.peer.address import HostAddress
from verser2_guest_python.peer.proxy import Proxy, ProxyFailed
from verser2_guest_python.peer.tls import TlsFiles

DEFAULT_CONNECT_TIMEOUT_SECONDS = 10.0
MAX_EXCHANGE_BYTES = 1024 * 1024

_DEFAULT_OPTIONS = SessionOptions()
_TRUST_HINTS: Final = MappingProxyType(
    {
        "issuer": " Name the CA that signed its certificate (tls_ca_file).",
        "name": " Call the Host by a name that is in its certificate, or have this one put there.",
        "time": " Renew the Host's certificate, or set the clock of this machine.",
        "other": " Check the name in the Host's URL and the CA file (tls_ca_file).",
    }
)
# By the alert, as OpenSSL calls it
_REFUSED_HINTS: Final = MappingProxyType(
    {
        "certificate required": "Give one",
        "it wants a client certificate": "Give one",
        "certificate expired": "Renew it",
        "unknown ca": "Give one of the CA that the Host trusts",
    }
)


async def dial(
    address: HostAddress,
    tls: TlsFiles,
    *,
    timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS,
    options: SessionOptions = _DEFAULT_OPTIONS,
    proxy: Proxy | None = None,
) -> Session:
    """A session with the Host at `address`, within `timeout` seconds; the TLS files are read anew.

    `proxy` is what `find_proxy` found, None dials directly. Raises `VerserConfigurationError` for
    TLS files that cannot be used and `VerserConnectionError`, whose `reason` says why, when there never
    was a session.
    """
    context = tls.context()
    try:
        return await _connect(
            address.host,
            address.port,
            tls=context,
            options=options,
            timeout=timeout,
            open_socket=open_tcp if proxy is None else proxy.open_socket,
        )
    except Http2Error as error:
        through: dict[str, str] = {} if proxy is None else {"proxy": str(proxy)}
        raise verser_error(error, host=address.url, **through) from error


def verser_error(error: Http2Error, **context: str | int | float | bool) -> VerserError:
    """The `VerserError` that stands for an error of the HTTP/2 floor; chain it with `from error`."""
    if isinstance(error, ConnectError):
        return _connection_error(error, context)
    if isinstance(error, CredentialsError):
        return VerserConfigurationError(str(error), context=context)
    if isinstance(error, ConnectionLost):
        return DisconnectedTargetError(f"The session with the Host was lost: {error.reason}", context=context)
    if isinstance(error, SessionClosing):
        return DisconnectedTargetError(
            f"The session with the Host is closing: {error.reason}", context=context
        )
    if isinstance(error, StreamReset):
        return StreamFailureError(_reset_sentence(error), context={**context, "http2Code": error.code})
    if isinstance(error, HeadTooLarge):
        return VerserProtocolError(f"The head of a message is too large to send: {error}", context=context)
    if isinstance(error, TooManyStreams):
        return StreamFailureError(
            "The Host allows no more streams at once: try again later.", context=context
        )
    return StreamFailureError(str(error), context=context)


def _connection_error(
    error: ConnectError, context: dict[str, str | int | float | bool]
) -> VerserConnectionError:
    reason, hint = ConnectFailure.UNREACHABLE, ""
    if isinstance(error, TlsTrustError):
        reason = ConnectFailure.TRUST
        hint = _TRUST_HINTS[error.problem]
    elif isinstance(error, CertificateRefused):
        reason = ConnectFailure.CERTIFICATE_REFUSED
        advice = _REFUSED_HINTS.get(error.reason, "Check it")
        hint = f" {advice} (tls_cert_file and tls_key_file, or tls_pfx_file)."
    elif isinstance(error, AlpnError):
        reason = ConnectFailure.ALPN
        hint = " A Host must select h2: is there a Host at this port?"
    elif isinstance(error, ConnectTimeout):
        reason = ConnectFailure.TIMEOUT
        proxy = context.get("proxy")
        way = "may this machine reach it" if proxy is None else f"does the proxy {proxy} lead to it"
        hint = f" Is the Host running, and {way}?"
    elif isinstance(error, ProxyFailed):
        hint = f" {error.hint}"
    elif isinstance(error, HostUnreachable):
        hint = " Is the Host running, and is its URL right?"
    sentence = str(error)
    full_stop = "" if sentence.endswith((".", "!", "?")) else "."
    return VerserConnectionError(f"{sentence}{full_stop}{hint}", reason=reason, context=context)


def _reset_sentence(error: StreamReset) -> str:
    if error.farewell:
        return f"The Host ended the session before it took the stream: GOAWAY ({error.farewell})."
    who = "The Host reset the stream" if error.remote else "The stream was reset on this side"
    return f"{who} ({ErrorCode.name_of(error.code)}) before the exchange was complete."


def peer_block(address: HostAddress, path: bytes) -> FieldBlock:
    """The constant fields of every stream to `path` (protocol.md §1); the others go beside it."""
    return FieldBlock(
        (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", address.authority),
            (b":path", path),
        )
    )


def status_of(fields: Fields) -> int:
    """The status in response fields; `VerserProtocolError` when there is none or it is not a number."""
    for name, value in fields:
        if name == b":status":
            if len(value) == 3 and value.isdigit():
                return int(value)
            break
    raise VerserProtocolError("The Host answered without a usable status.")


async def exchange(
    session: Session,
    block: FieldBlock,
    extra: Fields,
    body: bytes,
    *,
    timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS,
) -> tuple[int, bytes]:
    """One JSON exchange: sends `body` with END_STREAM; returns status and the whole answer.

    Raises `RequestTimeoutError` after `timeout` seconds, `StreamFailureError` when the stream is
    cut off, `DisconnectedTargetError` when the session is lost and `VerserProtocolError` for an
    answer of more than 1 MiB. A call that fails or is cancelled leaves no stream behind.
    """
    try:
        stream = session.open(block, extra, end=not body)
    except Http2Error as error:
        raise verser_error(error) from error
    return await converse(stream, body, timeout=timeout)


async def converse(
    stream: Stream, body: bytes, *, timeout: float = DEFAULT_CONNECT_TIMEOUT_SECONDS
) -> tuple[int, bytes]:
    """An `exchange` on a stream that is open already, and on which nothing was sent."""
    try:
        async with within(timeout):
            return await _converse(stream, body)
    except TimeoutError:
        raise RequestTimeoutError(f"The Host did not answer within {timeout:g} s.") from None
    except Http2Error as error:
        raise verser_error(error) from error
    finally:
        if not (stream.ended and stream.write_ended):
            stream.reset(ErrorCode.CANCEL)


async def _converse(stream: Stream, body: bytes) -> tuple[int, bytes]:
    if body:
        try:
            await stream.write(body, end=True)
        except StreamReset:
            # An early answer may stop the sending by a reset (protocol.md §7): the answer counts.
            if stream.fields is None:
                raise
    status = status_of(await stream.wait_fields())
    answer = bytearray()
    while chunk := await stream.read():
        answer += chunk
        if len(answer) > MAX_EXCHANGE_BYTES:
            raise VerserProtocolError(f"The Host's answer is larger than {MAX_EXCHANGE_BYTES} bytes.")
    return status, bytes(answer)
