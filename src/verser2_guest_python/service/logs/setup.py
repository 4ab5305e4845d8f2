"""Logging of a process: structlog for events, the app's own `logging` beside it, all to stderr.

Apart because only a process may decide this: the library logs nothing by itself. On a terminal a
line is made for eyes, anywhere else for programs; all carry UTC with milliseconds. Lines are written by
a thread: a reader that stands still costs lines, which are counted, and never requests.
"""

from __future__ import annotations

import atexit
import io
import logging
import sys
import traceback
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO, cast

import structlog

from verser2_guest_python.service.logs.access import AccessLog, AccessRules
from verser2_guest_python.service.logs.config import (
    ACCESS_LOGGER,
    EVENT_LOGGER,
    as_extra,
    configure_logging,
    record_fields,
)
from verser2_guest_python.service.logs.line import (
    Clock,
    Form,
    Paint,
    console_block,
    json_line,
    logfmt_line,
    logfmt_value,
    wants_colour,
)
from verser2_guest_python.service.logs.sink import LAST_WORDS_SECONDS, LineSink, QueuedSink
from verser2_guest_python.service.logs.trace import CurrentIds, current_ids, event_processor, follow, no_ids
from verser2_guest_python.service.output.masking import masked_field, masked_text
from verser2_guest_python.service.output.text import safe
from verser2_guest_python.service.settings.model import LogSettings

# At debug level the first write every header field, cookies and credentials included; the last tells of
# every file that changes, which matters or not
_QUIET_LOGGERS: Final = ("h2", "hpack", "hyperframe", "httpcore", "watchfiles")
_OWN_NAMES: Final = frozenset({"time", "level", "event", "exception"})
MAX_TRACE_CHARS: Final = 32_768


@dataclass(frozen=True, slots=True)
class Logs:
    """What a process logs with."""

    events: structlog.typing.FilteringBoundLogger
    sink: LineSink
    clock: Clock
    paint: Paint
    form: Form
    settings: LogSettings
    worker: str = ""
    trace_ids: CurrentIds = no_ids

    @property
    def is_json(self) -> bool:
        """Whether the lines are for programs: JSON or logfmt."""
        return self.form != "console"

    def access(self, guest_id: str, *, query: bool = False) -> AccessLog:
        """The access log of one Guest; `query` holds where nobody has said whether queries are kept."""
        return AccessLog(
            self.sink,
            self.clock,
            self.paint,
            form=self.form,
            guest_id=guest_id,
            rules=self.access_rules(query=query),
            who=self.worker,
            logger=self.access_logger,
        )

    def access_rules(self, *, query: bool = False) -> AccessRules:
        """Which requests get a line; `query` as in `access`."""
        settings = self.settings
        if "access_log_query" in settings.model_fields_set:
            query = settings.access_log_query
        return AccessRules(query=query, share=settings.access_log_sample)

    @property
    def access_logger(self) -> logging.Logger | None:
        """Where requests go as records, with a logging of the user's own; None without one."""
        return logging.getLogger(ACCESS_LOGGER) if self.settings.config else None

    def flush(self) -> None:
        """Waits until what was logged is written, a second at most."""
        self.sink.flush()

    def last_words(self) -> None:
        """The same for a process that ends at once: a quarter of a second at most; signal handlers may."""
        self.sink.flush(LAST_WORDS_SECONDS)


def set_up_logs(
    settings: LogSettings, *, stream: TextIO | None = None, worker: str = "", traced: bool = False
) -> Logs:
    """Sends events, the app's `logging` and warnings to `stream` (stderr), as `settings` ask for.

    `worker` is the id of one Guest of several that write to the same place: every line carries it. In a
    process that is `traced` lines say which span they were written in. With `settings.config` all of it goes
    where that file says. Call it once a process. Raises `VerserConfigurationError` for such a file that
    cannot be used.
    """
    clock = Clock()
    is_terminal = LineSink(stream).is_terminal
    form: Form = "console" if is_terminal else "json"
    if settings.format != "auto":
        form = settings.format
    paint = Paint(colour=form == "console" and wants_colour(is_terminal=is_terminal))
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    renderer = _Renderer(clock, paint, form=form, worker=worker)
    sink = _sink(stream, lambda count: renderer.line("warning", "log lines dropped", {"lines": count}, ""))
    renderer.sink = sink

    ids = current_ids(traced=traced)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *([event_processor(ids)] if traced else ()),
            _to_logger if settings.config else renderer.event,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.config:
        configure_logging(settings.config)
    else:
        root = logging.getLogger()
        root.handlers[:] = [_Handler(renderer)]
        root.setLevel(level)
    follow(ids)
    events = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger().bind())
    return Logs(events, sink, clock, paint, form, settings, worker, ids)


class Formatter(logging.Formatter):
    """Makes records look like the other lines, in a file of `--log-config`.

    For example::

        {"formatters": {"ours": {"()": "verser2_guest_python.service.logs.Formatter", "form": "json"}}, …}
    """

    def __init__(self, form: Literal["console", "json", "logfmt"] = "json") -> None:
        super().__init__()
        self._renderer = _Renderer(Clock(), Paint(colour=False), form=form, worker="")

    def format(self, record: logging.LogRecord) -> str:
        return self._renderer.record_line(record)


class _Renderer:
    """Turns an event or a log record into a line, and writes it. `sink` is set before the first one."""

    sink: LineSink

    def __init__(self, clock: Clock, paint: Paint, *, form: Form, worker: str) -> None:
        self._clock = clock
        self._paint = paint
        self._form = form
        self._worker = worker

    def event(self, _logger: object, method: str, fields: MutableMapping[str, Any]) -> str:
        """The last processor of structlog's chain."""
        event = str(fields.pop("event", ""))
        level = "error" if method == "exception" else method
        error = fields.pop("exc_info", None)
        self.sink.write(self.line(level, event, dict(fields), _traceback(error) if error else ""))
        return ""

    def record(self, record: logging.LogRecord) -> None:
        """A record of the app's `logging`."""
        self.sink.write(self.record_line(record))

    def record_line(self, record: logging.LogRecord) -> str:
        trace = _traceback(record.exc_info) if record.exc_info else ""
        event = record.getMessage().rstrip()  # warnings end with a line break
        if self._form == "console":
            # Apps log texts of several lines: all but the first go below, as a traceback does
            event, _, more = event.partition("\n")
            trace = "\n".join(filter(None, (more, trace)))
        fields = {"logger": record.name, **record_fields(record)}
        return self.line(record.levelname.lower(), event, fields, trace)

    def line(self, level: str, event: str, fields: dict[str, Any], trace: str) -> str:
        fields = {
            f"{name}_" if name in _OWN_NAMES else name: masked_field(name, value)
            for name, value in fields.items()
        }
        event = masked_text(event)
        if len(trace) > MAX_TRACE_CHARS:
            trace = f"…\n{trace[-MAX_TRACE_CHARS:]}"
        trace = masked_text(trace)
        stamp = self._clock.stamp()
        if self._form == "console":
            return console_block(self._paint, stamp, level, event, fields, trace, who=self._worker)
        if self._worker:
            fields.setdefault("guest_id", self._worker)
        return (json_line if self._form == "json" else logfmt_line)(stamp, level, event, fields, trace)


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


def _to_logger(_logger: object, method: str, fields: MutableMapping[str, Any]) -> str:
    """The last processor where a file of the user's decides what becomes of events."""
    event = masked_text(str(fields.pop("event", "")))
    error = fields.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    masked = {name: masked_field(name, value) for name, value in fields.items()}
    tail = "".join(f" {name}={logfmt_value(value)}" for name, value in masked.items())
    level = logging.getLevelNamesMapping()["ERROR" if method == "exception" else method.upper()]
    logging.getLogger(EVENT_LOGGER).log(
        level, "%s", safe(event) + tail, exc_info=error or None, extra=as_extra(masked)
    )
    return ""


def _sink(stream: TextIO | None, describe: Any) -> LineSink:
    """By a thread where there is a descriptor to write to; a stream that was given is written to at once."""
    if stream is not None:
        return LineSink(stream)
    try:
        sink = QueuedSink(sys.stderr, sys.stderr.fileno(), describe)
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):  # `2>&-`, a stream of a test
        return LineSink()
    atexit.register(sink.close)
    return sink


def _traceback(error: object) -> str:
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    return "".join(traceback.format_exception(error)).rstrip() if isinstance(error, BaseException) else ""
