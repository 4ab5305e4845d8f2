"""One request under way: its stream, its upload, and its place in every count, given back once.

It is awaited, and a close of the Broker waits for it, until its head is there; and again while its body is
read. In between nobody may ever come back for it. An upload is awaited by itself (see `Upload`).

Apart from the response because it begins earlier (an answer may never come) and because every way
out (the whole answer, an error, a cancelled task, a response that nobody keeps) ends here.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from verser2_guest_python.http2 import ErrorCode, Http2Error, Stream

if TYPE_CHECKING:
    from verser2_guest_python.broker.link import Link
    from verser2_guest_python.broker.routes import Guest, RouteEntry
    from verser2_guest_python.broker.target import Target
    from verser2_guest_python.broker.upload import Upload


class Exchange:
    """What one request holds. `over` once it has been given back."""

    __slots__ = (
        "awaited",
        "domain",
        "guest",
        "link",
        "method",
        "over",
        "request_id",
        "stream",
        "target",
        "upload",
    )

    def __init__(
        self, link: Link, stream: Stream, entry: RouteEntry, method: str, target: Target, request_id: str
    ) -> None:
        guest = entry.guest
        self.link = link
        self.stream = stream
        stream.keeps_unread = True  # it may be a whole body: `response` counts
        self.guest = guest
        self.domain = entry.domain
        self.method = method
        self.target = target
        self.request_id = request_id
        self.upload: Upload | None = None
        self.over = False
        self.awaited = True
        guest.in_flight += 1
        link.room.take()
        link.room.hold()

    @property
    def context(self) -> dict[str, str | int | float | bool]:
        """Facts for an error about this request."""
        return {"requestId": self.request_id, "targetId": self.guest.target_id, "domain": self.domain}

    def error(self, error: Http2Error) -> BaseException:
        """What the caller is told when the stream failed: what their own body raised comes first."""
        if self.upload is not None and (failure := self.upload.failure) is not None:
            return failure
        return self.link.error(error, self.context)

    def rest(self) -> None:
        """The head is there: until somebody reads the body, this holds up no close."""
        if self.awaited and not self.over:
            self.awaited = False
            room = self.link.room
            room.answered_at = self.stream.session.loop.time()
            room.let_go()

    def resume(self) -> None:
        """Somebody reads the body, from now to its end."""
        if not self.awaited and not self.over:
            self.awaited = True
            self.link.room.hold()

    def end(self, code: int = ErrorCode.CANCEL) -> None:
        """Gives everything back. A stream that is not closed on both sides is reset with `code`.

        After a whole answer that concerns what is left of the upload, of use to nobody; before it,
        the request is given up.
        """
        if not self.over:
            self.over = True
            _release(self.link, self.stream, self.guest, self.upload, code, awaited=self.awaited)

    async def settle(self) -> None:
        """Until the upload's task is over, after `end`."""
        if self.upload is not None:
            await self.upload.wait()

    def __del__(self) -> None:
        """A response that nobody kept must not hold its stream open, or its window full.

        This may run in any thread and in the middle of anything, so the loop does it later.
        """
        if self.over:
            return
        with suppress(RuntimeError):  # the loop is closed, and the session with it
            release = partial(
                _release,
                self.link,
                self.stream,
                self.guest,
                self.upload,
                ErrorCode.CANCEL,
                awaited=self.awaited,
            )
            self.stream.session.loop.call_soon_threadsafe(release)


def _release(
    link: Link, stream: Stream, guest: Guest, upload: Upload | None, code: int, *, awaited: bool
) -> None:
    if upload is not None:
        upload.cancel()
    if stream.unread:
        stream.discard()
    stream.reset(code)  # does nothing to a stream that is closed
    guest.in_flight -= 1
    link.room.give_back()
    if awaited:
        link.room.let_go()
