"""Transports for httpx2, and for httpx: the client that people know, before apps behind Guests.

Apart from the Broker because they translate and decide nothing: cookies, redirects, authentication and
decoding are the client's; routes, Guests and sessions are the Broker's.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.errors import VerserError, VerserUsageError

from .caller_body import CallerBody
from .client_body import async_body, sync_body
from .client_call import Call
from .client_errors import client_error
from .sync import SyncVerserBroker

__all__ = ["SyncVerserTransport", "VerserTransport"]

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _AsyncBase(httpx2.AsyncBaseTransport, httpx.AsyncBaseTransport):  # what either client takes
        async def __aenter__(self) -> Self: ...
        async def handle_async_request(self, request: Any) -> Any: ...

    class _SyncBase(httpx2.BaseTransport, httpx.BaseTransport):
        def __enter__(self) -> Self: ...
        def handle_request(self, request: Any) -> Any: ...

else:
    # Clients call a transport and do not ask what it is: so neither library is needed for the other.
    _AsyncBase = _SyncBase = object


class VerserTransport(_AsyncBase):
    """Sends the requests of an `httpx2.AsyncClient`, or of an `httpx.AsyncClient`, through a Broker.

    The Broker stays its owner's: connect it before, close it after; any number of clients may share it.
    Bodies stream both ways. Closing a response early, and cancelling a task, cancels the request.

    The client's timeouts hold: `connect` while the Broker has no session, `pool` for a free Guest (the
    Host's lease timeout), `write` for a piece of the body to leave, `read` for the head and for each
    piece of the answer.

    Failures are the client's exceptions, with the `VerserError` as `__cause__`: `ConnectError` when
    nobody serves the domain or there is no session (no app has seen the request), `PoolTimeout` when all
    Guests stayed busy, `ReadError` when a session was lost on the way, `RemoteProtocolError` when an
    answer was cut off or the app failed before it answered, `ProxyError` when the Host refused.

    Example::

        async with (
            create_verser_broker(host_url="https://localhost:8443") as broker,
            httpx2.AsyncClient(transport=VerserTransport(broker)) as client,
        ):
            response = await client.get("http://a.local.test/items", params={"q": "1"})
    """

    def __init__(self, broker: VerserBroker) -> None:
        if not isinstance(broker, VerserBroker):
            raise VerserUsageError(
                "VerserTransport takes a VerserBroker, for an AsyncClient. For a Client: SyncVerserTransport."
            )
        self._broker = broker

    def __repr__(self) -> str:
        return f"<VerserTransport through {self._broker!r}>"

    async def handle_async_request(self, request: Any) -> Any:
        """Sends one request; called by the client."""
        call = Call(self._broker, request)
        await call.send(request.stream if call.streams else None)
        return call.make_response(async_body(call))

    async def aclose(self) -> None:
        """Does nothing: the Broker is closed by whoever connected it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class SyncVerserTransport(_SyncBase):
    """`VerserTransport` for an `httpx2.Client`, or an `httpx.Client`, on a `SyncVerserBroker`.

    It may be used by any number of threads at a time. Bodies that are iterators are read in the thread
    that sends the request. Example::

        with SyncVerserBroker(create_verser_broker(host_url="https://localhost:8443")) as broker:
            with httpx2.Client(transport=SyncVerserTransport(broker)) as client:
                print(client.get("http://a.local.test/items").json())
    """

    def __init__(self, broker: SyncVerserBroker) -> None:
        if not isinstance(broker, SyncVerserBroker):
            raise VerserUsageError(
                "SyncVerserTransport takes a SyncVerserBroker, for a Client. For an AsyncClient: "
                "VerserTransport."
            )
        self._broker = broker

    def __repr__(self) -> str:
        return f"<SyncVerserTransport through {self._broker!r}>"

    def handle_request(self, request: Any) -> Any:
        """Sends one request; called by the client."""
        call = Call(self._broker.inner, request)
        body = CallerBody(request.stream) if call.streams else None
        try:
            self._broker._run_coroutine(call.send(body), body)
        except VerserError as error:
            raise client_error(call.library, error, connected=self._broker.connected) from error
        finally:
            if body is not None and call.over:
                body.close()
        return call.make_response(sync_body(call, self._broker, body))

    def close(self) -> None:
        """Does nothing: the Broker is closed by whoever connected it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()
