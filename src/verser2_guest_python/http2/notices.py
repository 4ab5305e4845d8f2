"""What a read has brought, told to those it concerns once all of it was understood (protocol.md §5).

Apart from the session because listeners are anybody's code: one that fails is its own stream's trouble.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import ErrorCode
from .stream import Stream

if TYPE_CHECKING:
    from .session import Session


class Notices:
    """Those of one session.

    Attributes:
        opened: Streams that the peer has opened and nobody knows of yet.
        touched: Streams that something befell.
    """

    __slots__ = ("_session", "opened", "touched")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.opened: list[Stream] = []
        self.touched: list[Stream] = []

    def tell_all(self) -> None:
        """Tells of what this read brought."""
        session = self._session
        if self.opened:
            opened, self.opened = self.opened, []
            for stream in opened:
                if session.on_stream is None:
                    stream.reset(ErrorCode.REFUSED_STREAM)
                else:
                    self._call(session.on_stream, stream)
        touched, self.touched = self.touched, []
        for stream in touched:
            self._call(Stream.notify, stream)
        lingering = session.engine.lingering
        if lingering:
            for stream_id in [
                key for key, one in lingering.items() if isinstance(one, Stream) and not one.unread
            ]:
                del lingering[stream_id]

    def tell(self, stream: Stream) -> None:
        """Something befell a stream outside of a read."""
        self._call(Stream.notify, stream)

    def _call(self, function: Callable[[Stream], None], stream: Stream) -> None:
        """A listener's fault is its stream's, not the session's; the loop's handler reports it."""
        try:
            function(stream)
        except Exception as error:  # noqa: BLE001 - a listener of anybody's, reported right here
            self._session.loop.call_exception_handler(
                {"message": f"a listener of {stream!r} failed", "exception": error, "stream": stream}
            )
            stream.reset(ErrorCode.INTERNAL_ERROR)
