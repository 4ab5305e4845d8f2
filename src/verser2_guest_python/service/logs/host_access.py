"""Access lines of a Host: one for each request that it carried or refused.

Apart from the Guest's, because a Host knows other things of a request: both ends of it, and how long it
waited for a lease. Made without a chain of processors, since it runs once a request.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as _quoted
from typing import Final

from verser2_guest_python.host.events import RequestRecord
from verser2_guest_python.service.logs.access import log_request, shown_trace, status_colours
from verser2_guest_python.service.logs.line import (
    BLUE,
    BOLD,
    DIM,
    LEVEL_WIDTH,
    RED,
    column,
    line_start,
    logfmt_line,
)
from verser2_guest_python.service.logs.setup import Logs
from verser2_guest_python.service.logs.trace import TRACE_ID
from verser2_guest_python.service.output.text import duration, safe, size

_METHOD_WIDTH: Final = 10  # WEBSOCKET, and a blank
_TARGET_WIDTH: Final = 36
_OTHERS_WIDTH: Final = 38  # of the time, `request`, status and method, with the blanks between them
_SHOWN_WAIT_MS: Final = 1.0


class HostAccessLog:
    """A listener for `VerserHost.on_request`."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._rules = logs.access_rules()
        self._logger = logs.access_logger

    def __call__(self, record: RequestRecord) -> None:
        path = self._rules.path_of(record.path, record.status, record.error)
        if path is None:
            return
        stamp = self._logs.clock.stamp()
        wait_ms = record.queued_seconds * 1000
        duration_ms = record.seconds * 1000
        if self._logger is not None or self._logs.form == "logfmt":
            fields = {
                "request_id": record.request_id,
                "source_id": record.source_id,
                "target_id": record.target_id,
                "domain": record.domain,
                "method": record.method,
                "path": path,
                "status": record.status,
                "duration_ms": round(duration_ms, 3),
                "lease_wait_ms": round(wait_ms, 3),
                "bytes_in": record.bytes_in,
                "bytes_out": record.bytes_out,
            }
            if record.error:
                fields["reason"] = record.error
            fields |= record.noted
            if self._logger is not None:
                log_request(self._logger, fields)
            else:
                self._logs.sink.write(logfmt_line(stamp, "info", "request", fields, ""))
            return
        if self._logs.is_json:
            noted = "".join(f",{_quoted(name)}:{_quoted(value)}" for name, value in record.noted.items())
            domain = "null" if record.domain is None else _quoted(record.domain)
            error = f',"reason":{_quoted(record.error)}' if record.error else ""
            self._logs.sink.write(
                f'{{"time":"{stamp}","level":"info","event":"request","request_id":{_quoted(record.request_id)},'
                f'"source_id":{_quoted(record.source_id)},"target_id":{_quoted(record.target_id)},'
                f'"domain":{domain},"method":{_quoted(record.method)},"path":{_quoted(path)},'
                f'"status":{"null" if record.status is None else record.status},'
                f'"duration_ms":{duration_ms:.3f},"lease_wait_ms":{wait_ms:.3f},'
                f'"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out}{error}{noted}}}'
            )
            return
        paint = self._logs.paint
        code = "---" if record.status is None else str(record.status)
        waited = f" waited {duration(wait_ms)}" if wait_ms >= _SHOWN_WAIT_MS else ""
        tail = (
            f"{duration(duration_ms):>8} {size(record.bytes_out):>9}  "
            f"{safe(record.request_id)} -> {safe(record.target_id)}{waited}"
        )
        head = f"{line_start(paint, stamp, '')} {paint('request'.ljust(LEVEL_WIDTH), BLUE)}"
        method = paint(safe(record.method).ljust(_METHOD_WIDTH), BOLD)
        what = f"{paint(code, *status_colours(record.status))} {method}"
        where = column(safe(f"{record.domain or ''}{path}"), _TARGET_WIDTH, _OTHERS_WIDTH + len(tail))
        trace = shown_trace(paint, record.noted.get(TRACE_ID, ""))
        why = f"  {paint(safe(record.error), RED)}" if record.error else ""
        self._logs.sink.write(f"{head} {what}{where} {paint(tail, DIM)}{why}{trace}")
