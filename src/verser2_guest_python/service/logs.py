"""Logging of a process: structlog for events, the app's own `logging` beside it, all to stderr.

Apart because only a process may decide this: the library logs nothing by itself. On a terminal a
line is made for eyes, anywhere else it is one JSON object; both carry UTC with milliseconds.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TextIO, cast

import structlog

from verser2_guest_python.service.access_log import AccessLog
from verser2_guest_python.service.log_line import Clock, LineSink, Paint, console_line, wants_colour
from verser2_guest_python.service.settings import LogSettings
from verser2_guest_python.service.text import indented

# Fields that hold secrets, whoever logs them: an app's `extra=`, a careless call
_SECRET_FIELDS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "key_password",
        "password",
        "pfx_password",
        "proxy-authorization",
        "set-cookie",
        "token",
    }
)
_MASK: Final = "***"
# At debug level the first write every header field, cookies and credentials included; the last tells of
# every file that changes, which matters or not
_QUIET_LOGGERS: Final = ("h2", "hpack", "hyperframe", "watchfiles")


@dataclass(frozen=True, slots=True)
class Logs:
    """What a process logs with."""

    events: structlog.typing.FilteringBoundLogger
    sink: LineSink
    clock: Clock
    paint: Paint
    is_json: bool
    worker: str = ""

    def access(self, guest_id: str, *, query: bool = False) -> AccessLog:
        """The access log of one Guest."""
        return AccessLog(
            self.sink,
            self.clock,
            self.paint,
            json=self.is_json,
            guest_id=guest_id,
            query=query,
            who=self.worker,
        )


def set_up_logs(settings: LogSettings, *, stream: TextIO | None = None, worker: str = "") -> Logs:
    """Sends events, the app's `logging` and warnings to `stream` (stderr), as `settings` ask for.

    `worker` is the id of one Guest of several that write to the same place: every line carries it.
    Call it once a process.
    """
    sink, clock = LineSink(stream), Clock()
    is_json = settings.format == "json" or (settings.format == "auto" and not sink.is_terminal)
    paint = Paint(colour=not is_json and wants_colour(is_terminal=sink.is_terminal))
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    renderer = _Renderer(sink, clock, paint, is_json=is_json, worker=worker)

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, renderer.event],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Handler(renderer)]
    root.setLevel(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    events = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger().bind())
    return Logs(events, sink, clock, paint, is_json, worker)


class _Renderer:
    """Turns an event or a log record into a line, and writes it."""

    def __init__(self, sink: LineSink, clock: Clock, paint: Paint, *, is_json: bool, worker: str) -> None:
        self._sink = sink
        self._clock = clock
        self._paint = paint
        self._is_json = is_json
        self._worker = worker

    def event(self, _logger: object, method: str, fields: MutableMapping[str, Any]) -> str:
        """The last processor of structlog's chain."""
        event = str(fields.pop("event", ""))
        level = "error" if method == "exception" else method
        error = fields.pop("exc_info", None)
        self.write(level, event, dict(fields), _traceback(error) if error else "")
        return ""

    def record(self, record: logging.LogRecord) -> None:
        """A record of the app's `logging`."""
        trace = _traceback(record.exc_info) if record.exc_info else ""
        event = record.getMessage()
        if (
            not self._is_json
        ):  # apps log texts of several lines: all but the first go below, as a traceback does
            event, _, more = event.rstrip().partition("\n")
            trace = "\n".join(filter(None, (more, trace)))
        self.write(record.levelname.lower(), event, {"logger": record.name}, trace)

    def write(self, level: str, event: str, fields: dict[str, Any], trace: str) -> None:
        for name in fields:
            if name.lower() in _SECRET_FIELDS:
                fields[name] = _MASK
        stamp = self._clock.stamp()
        if self._is_json:
            line: dict[str, Any] = {"time": stamp, "level": level, "event": event, **fields}
            if self._worker:
                line.setdefault("guest_id", self._worker)
            if trace:
                line["exception"] = trace
            self._sink.write(json.dumps(line, default=str, separators=(",", ":")))
            return
        text = console_line(self._paint, stamp, level, event, fields, who=self._worker)
        self._sink.write(f"{text}\n{indented(trace)}" if trace else text)


class _Handler(logging.Handler):
    """Joins the standard library's logging to ours."""

    def __init__(self, renderer: _Renderer) -> None:
        super().__init__()
        self._renderer = renderer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._renderer.record(record)
        except Exception:  # noqa: BLE001 - a record whose arguments do not fit must not end who logged it
            self.handleError(record)


def _traceback(error: object) -> str:
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    return "".join(traceback.format_exception(error)).rstrip() if isinstance(error, BaseException) else ""
