"""Access lines: one line for each request, made without a chain of processors.

Apart from `logs.py` because it runs once a request: the rest of the log may take its time.
The query is left out unless asked for: people put credentials there (protocol.md §11 tells them to).
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as _quoted
from typing import Final

from verser2_guest_python.service.log_line import (
    BLUE,
    BOLD,
    CYAN,
    DIM,
    GREEN,
    LEVEL_WIDTH,
    RED,
    YELLOW,
    Clock,
    LineSink,
    Paint,
    line_start,
)
from verser2_guest_python.service.text import duration, safe, size

_METHOD_WIDTH: Final = 7
_PATH_WIDTH: Final = 30


class AccessLog:
    """Writes one line for each finished request.

    `json` chooses the form; `query` keeps the part of the path behind `?`; `who` begins each line on a
    terminal that several processes share.
    """

    def __init__(
        self,
        sink: LineSink,
        clock: Clock,
        paint: Paint,
        *,
        json: bool,
        guest_id: str,
        query: bool = False,
        who: str = "",
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._paint = paint
        self._json = json
        self._query = query
        self._who = who
        self._constant = f'"level":"info","event":"request","guest_id":{_quoted(guest_id)},'

    def write(
        self,
        *,
        request_id: str,
        source_id: str,
        method: str,
        path: str,
        status: int | None,
        duration_ms: float,
        bytes_in: int,
        bytes_out: int,
        reason: str = "",
    ) -> None:
        """`status` is None when no answer went out; `reason` says why a request did not end well."""
        if not self._query:
            path = path.partition("?")[0]
        stamp = self._clock.stamp()
        if self._json:
            self._sink.write(
                f'{{"time":"{stamp}",{self._constant}"request_id":{_quoted(request_id)},'
                f'"source_id":{_quoted(source_id)},"method":{_quoted(method)},"path":{_quoted(path)},'
                f'"status":{"null" if status is None else status},"duration_ms":{duration_ms:.3f},'
                f'"bytes_in":{bytes_in},"bytes_out":{bytes_out}'
                f"{f',{_REASON}{_quoted(reason)}' if reason else ''}}}"
            )
            return
        paint = self._paint
        code = "---" if status is None else str(status)
        # Brokers name their requests after themselves: their name twice would only be noise
        sender = request_id if request_id.startswith(source_id) else f"{source_id} {request_id}"
        tail = f"{duration(duration_ms):>8} {size(bytes_out):>9}  {safe(sender)}"
        head = f"{line_start(paint, stamp, self._who)} {paint('request'.ljust(LEVEL_WIDTH), BLUE)}"
        what = (
            f"{paint(code, *status_colours(status))} {paint(f'{safe(method)} '.ljust(_METHOD_WIDTH), BOLD)}"
        )
        why = f"  {paint(safe(reason), RED)}" if reason else ""
        self._sink.write(f"{head} {what}{safe(path).ljust(_PATH_WIDTH)} {paint(tail, DIM)}{why}")


_REASON: Final = '"reason":'


def status_colours(status: int | None) -> tuple[str, ...]:
    """How a status looks on a terminal; None is a request that got no answer."""
    if status is None or status >= 500:
        return (BOLD, RED)
    if status >= 400:
        return (YELLOW,)
    return (CYAN,) if status >= 300 else (GREEN,)
