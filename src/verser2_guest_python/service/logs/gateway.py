"""Access lines of the gateway: one for each request and WebSocket, seen from outside.

Apart from `access.py`, which tells what a Guest saw: here there are clients and names, and requests that
never came to an app.
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Final

from verser2_guest_python.integrations.gateway import GatewayRecord
from verser2_guest_python.service.logs.access import log_request, shown_trace, status_colours
from verser2_guest_python.service.logs.line import BLUE, BOLD, DIM, LEVEL_WIDTH, RED, line_start, logfmt_line
from verser2_guest_python.service.logs.setup import Logs
from verser2_guest_python.service.logs.trace import TRACE_ID
from verser2_guest_python.service.output.text import duration, safe, size

_METHOD_WIDTH: Final = 7
_TARGET_WIDTH: Final = 40
_MAX_PATH_CHARS: Final = 2_000
_SHOWN_WAIT_MS: Final = 1.0


class GatewayAccessLog:
    """Writes a line for each record that it is called with."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._rules = logs.access_rules()
        self._logger = logs.access_logger

    def __call__(self, record: GatewayRecord) -> None:
        path = self._rules.path_of(record.path, record.status, record.reason)
        if path is None:
            return
        path = path[:_MAX_PATH_CHARS]
        trace = self._logs.trace_ids()  # the gateway's span is open: what is told here belongs to it
        if self._logger is not None:
            log_request(self._logger, _fields(record, path, trace))
            return
        stamp = self._logs.clock.stamp()
        if self._logs.form == "logfmt":
            self._logs.sink.write(
                logfmt_line(stamp, "info", _event(record), _fields(record, path, trace), "")
            )
            return
        self._logs.sink.write(
            _json(record, path, stamp, trace)
            if self._logs.is_json
            else self._console(record, path, stamp, trace)
        )

    def _console(self, record: GatewayRecord, path: str, stamp: str, trace: Mapping[str, str]) -> str:
        paint = self._logs.paint
        method = "WS" if record.websocket else record.method
        head = f"{line_start(paint, stamp, '')} {paint('request'.ljust(LEVEL_WIDTH), BLUE)}"
        code = paint(str(record.status), *status_colours(record.status))
        what = f"{code} {paint(safe(method).ljust(_METHOD_WIDTH), BOLD)}"
        target = safe(record.name + path).ljust(_TARGET_WIDTH)
        closed = f" closed {record.close_code}" if record.close_code is not None else ""
        wait_ms = record.lease_wait_ms or 0.0
        waited = f" waited {duration(wait_ms)}" if wait_ms >= _SHOWN_WAIT_MS else ""
        tail = (
            f"{duration(record.duration_ms):>8} {size(record.bytes_out):>9}  "
            f"{safe(record.client)} {safe(record.request_id or record.target_id)}{closed}{waited}"
        )
        traced = shown_trace(paint, trace.get(TRACE_ID, ""))
        why = f"  {paint(safe(record.reason), RED)}" if record.reason else ""
        return f"{head} {what}{target} {paint(tail, DIM)}{why}{traced}"


def _json(record: GatewayRecord, path: str, stamp: str, trace: Mapping[str, str]) -> str:
    first = "null" if record.first_byte_ms is None else f"{record.first_byte_ms:.3f}"
    waited = "" if record.lease_wait_ms is None else f'"lease_wait_ms":{record.lease_wait_ms:.3f},'
    closed = "" if record.close_code is None else f',"close_code":{record.close_code}'
    reason = f',"reason":{_quoted(record.reason)}' if record.reason else ""
    traced = "".join(f",{_quoted(name)}:{_quoted(value)}" for name, value in trace.items())
    return (
        f'{{"time":"{stamp}","level":"info","event":"{_event(record)}",'
        f'"client":{_quoted(record.client)},"method":{_quoted(record.method)},'
        f'"host":{_quoted(record.name)},"path":{_quoted(path)},"status":{record.status},'
        f'"duration_ms":{record.duration_ms:.3f},"first_byte_ms":{first},'
        f'{waited}"bytes_in":{record.bytes_in},"bytes_out":{record.bytes_out},'
        f'"domain":{_quoted(record.domain)},"target_id":{_quoted(record.target_id)},'
        f'"request_id":{_quoted(record.request_id)}{closed}{reason}{traced}}}'
    )


def _event(record: GatewayRecord) -> str:
    return "websocket" if record.websocket else "request"


def _fields(record: GatewayRecord, path: str, trace: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "client": record.client,
        "method": record.method,
        "host": record.name,
        "path": path,
        "status": record.status,
        "duration_ms": round(record.duration_ms, 3),
        "first_byte_ms": record.first_byte_ms,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "domain": record.domain,
        "target_id": record.target_id,
        "request_id": record.request_id,
    }
    if record.lease_wait_ms is not None:
        fields["lease_wait_ms"] = round(record.lease_wait_ms, 3)
    if record.close_code is not None:
        fields["close_code"] = record.close_code
    if record.reason:
        fields["reason"] = record.reason
    return fields | dict(trace)
