"""Access lines: one line for each request, made without a chain of processors.

Apart from `setup.py` because it runs once a request: the rest of the log may take its time.
The query is left out unless asked for: people put credentials there (protocol.md §11 tells them to), and
what looks like one is masked even then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as _quoted
from random import random
from typing import Any, Final

from verser2_guest_python.service.logs.line import (
    BLUE,
    BOLD,
    CYAN,
    DIM,
    GREEN,
    LEVEL_WIDTH,
    RED,
    YELLOW,
    Clock,
    Form,
    Paint,
    column,
    line_start,
    logfmt_value,
)
from verser2_guest_python.service.logs.sink import LineSink
from verser2_guest_python.service.output.masking import masked_url
from verser2_guest_python.service.output.text import duration, safe, size

_METHOD_WIDTH: Final = 7
_PATH_WIDTH: Final = 30
_OTHERS_WIDTH: Final = 36  # of the time, `request`, status and method, with the blanks between them
_SERVER_ERROR: Final = 500


class AccessRules:
    """Which requests get a line, and how much of their path is in it.

    `query` keeps the part behind `?`; `share` is how many of the requests that went well get a line, from
    0 to 1.
    """

    __slots__ = ("_chance", "_query", "_share")

    def __init__(
        self, *, query: bool = False, share: float = 1.0, chance: Callable[[], float] = random
    ) -> None:
        self._query = query
        self._share = share
        self._chance = chance

    def path_of(self, path: str, status: int | None, reason: str | None) -> str | None:
        """The path as the line shows it; None for a request that gets no line."""
        share = self._share
        if share < 1 and status and status < _SERVER_ERROR and not reason and self._chance() >= share:
            return None
        if "?" in path:
            return masked_url(path) if self._query else path.partition("?")[0]
        return path


class AccessLog:
    """Writes one line for each finished request that `rules` let through.

    `form` chooses how it looks; `who` begins each line on a terminal that several processes share. `logger`
    gets the lines as records instead, for a logging of the user's own.
    """

    def __init__(
        self,
        sink: LineSink,
        clock: Clock,
        paint: Paint,
        *,
        form: Form,
        guest_id: str,
        rules: AccessRules,
        who: str = "",
        logger: logging.Logger | None = None,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._paint = paint
        self._rules = rules
        self._who = who
        self._logger = logger
        self._guest_id = guest_id
        self._json = f'"level":"info","event":"request","guest_id":{_quoted(guest_id)}'
        self._logfmt = f"level=info event=request guest_id={logfmt_value(guest_id)}"
        self._emit = {"json": self._write_json, "logfmt": self._write_logfmt, "console": self._write_console}[
            form
        ]
        if logger is not None:
            self._emit = self._write_record

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
        session_id: str = "",
        trace_id: str = "",
        span_id: str = "",
    ) -> None:
        """`status` is None when no answer went out; `reason` says why a request did not end well.

        Of session and trace nothing is written where there is none.
        """
        shown = self._rules.path_of(path, status, reason)
        if shown is not None:
            self._emit(
                session_id,
                request_id,
                source_id,
                method,
                shown,
                status,
                duration_ms,
                bytes_in,
                bytes_out,
                reason,
                trace_id,
                span_id,
            )

    def _write_json(
        self,
        session_id: str,
        request_id: str,
        source_id: str,
        method: str,
        path: str,
        status: int | None,
        duration_ms: float,
        bytes_in: int,
        bytes_out: int,
        reason: str,
        trace_id: str,
        span_id: str,
    ) -> None:
        self._sink.write(
            f'{{"time":"{self._clock.stamp()}",{self._json}'
            f"{f',{_SESSION}{_quoted(session_id)}' if session_id else ''},"
            f'"request_id":{_quoted(request_id)},"source_id":{_quoted(source_id)},'
            f'"method":{_quoted(method)},"path":{_quoted(path)},'
            f'"status":{"null" if status is None else status},"duration_ms":{duration_ms:.3f},'
            f'"bytes_in":{bytes_in},"bytes_out":{bytes_out}'
            f"{f',{_REASON}{_quoted(reason)}' if reason else ''}"
            f"{_TRACE_JSON % (trace_id, span_id) if trace_id else ''}}}"
        )

    def _write_logfmt(
        self,
        session_id: str,
        request_id: str,
        source_id: str,
        method: str,
        path: str,
        status: int | None,
        duration_ms: float,
        bytes_in: int,
        bytes_out: int,
        reason: str,
        trace_id: str,
        span_id: str,
    ) -> None:
        self._sink.write(
            f"time={self._clock.stamp()} {self._logfmt}"
            f"{f' session_id={logfmt_value(session_id)}' if session_id else ''} "
            f"request_id={logfmt_value(request_id)} source_id={logfmt_value(source_id)} "
            f"method={logfmt_value(method)} path={logfmt_value(path)} "
            f"status={'null' if status is None else status} duration_ms={duration_ms:.3f} "
            f"bytes_in={bytes_in} bytes_out={bytes_out}"
            f"{f' reason={logfmt_value(reason)}' if reason else ''}"
            f"{f' trace_id={trace_id} span_id={span_id}' if trace_id else ''}"
        )

    def _write_console(
        self,
        _session_id: str,
        request_id: str,
        source_id: str,
        method: str,
        path: str,
        status: int | None,
        duration_ms: float,
        _bytes_in: int,
        bytes_out: int,
        reason: str,
        trace_id: str,
        _span_id: str,
    ) -> None:
        paint = self._paint
        code = "---" if status is None else str(status)
        # Brokers name their requests after themselves: their name twice would only be noise
        sender = request_id if request_id.startswith(source_id) else f"{source_id} {request_id}"
        tail = f"{duration(duration_ms):>8} {size(bytes_out):>9}  {safe(sender)}"
        head = (
            f"{line_start(paint, self._clock.stamp(), self._who)} {paint('request'.ljust(LEVEL_WIDTH), BLUE)}"
        )
        what = (
            f"{paint(code, *status_colours(status))} {paint(f'{safe(method)} '.ljust(_METHOD_WIDTH), BOLD)}"
        )
        why = f"  {paint(safe(reason), RED)}" if reason else ""
        trace = shown_trace(paint, trace_id)
        others = _OTHERS_WIDTH + len(self._who) + len(tail)
        shown = column(safe(path), _PATH_WIDTH, others)
        self._sink.write(f"{head} {what}{shown} {paint(tail, DIM)}{why}{trace}")

    def _write_record(
        self,
        session_id: str,
        request_id: str,
        source_id: str,
        method: str,
        path: str,
        status: int | None,
        duration_ms: float,
        bytes_in: int,
        bytes_out: int,
        reason: str,
        trace_id: str,
        span_id: str,
    ) -> None:
        assert self._logger is not None  # noqa: S101 - the constructor chose this one for it
        if not self._logger.isEnabledFor(logging.INFO):
            return
        fields: dict[str, Any] = {
            "guest_id": self._guest_id,
            "request_id": request_id,
            "source_id": source_id,
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round(duration_ms, 3),
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
        }
        if session_id:
            fields["session_id"] = session_id
        if reason:
            fields["reason"] = reason
        if trace_id:
            fields |= {"trace_id": trace_id, "span_id": span_id}
        log_request(self._logger, fields)


def log_request(logger: logging.Logger, fields: dict[str, Any]) -> None:
    """A request as a record, for a logging of the user's own; its fields are attributes of the record."""
    status, reason = fields["status"], fields.get("reason")
    code = "---" if status is None else str(status)
    message = f"{safe(fields['method'])} {safe(fields['path'])} {code} {duration(fields['duration_ms'])}"
    logger.info("%s", f"{message} {safe(reason)}" if reason else message, extra=fields)


def shown_trace(paint: Paint, trace_id: str) -> str:
    """A trace at the end of a line for eyes; nothing where there is none."""
    return f"  {paint(f'trace_id={trace_id}', DIM)}" if trace_id else ""


_REASON: Final = '"reason":'
_SESSION: Final = '"session_id":'
_TRACE_JSON: Final = ',"trace_id":"%s","span_id":"%s"'


def status_colours(status: int | None) -> tuple[str, ...]:
    """How a status looks on a terminal; None is a request that got no answer."""
    if status is None or status >= 500:
        return (BOLD, RED)
    if status >= 400:
        return (YELLOW,)
    return (CYAN,) if status >= 300 else (GREEN,)
