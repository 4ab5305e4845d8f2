"""With `--otel`: which trace a line belongs to, as `trace_id` and `span_id` (W3C Trace Context, in hex).

Apart from `setup.py` because only a process that takes part in traces loads any of it: without `--otel`
nothing is asked at any line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final, TypeAlias

TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
CurrentIds: TypeAlias = Callable[[], Mapping[str, str]]

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def no_ids() -> Mapping[str, str]:
    """What is known of traces without `--otel`."""
    return _NOTHING


def current_ids(*, traced: bool) -> CurrentIds:
    """What tells the ids of the span that some code runs in: `no_ids` unless the process is `traced`."""
    if not traced or find_spec("opentelemetry") is None:  # which the start itself tells better
        return no_ids
    from verser2_guest_python.integrations.otel.common import current_ids

    return current_ids


class TraceFilter(logging.Filter):
    """Gives records the ids, in the thread and task that logs, but for those that have ids of their own."""

    def __init__(self, ids: CurrentIds) -> None:
        super().__init__()
        self._ids = ids

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through."""
        if TRACE_ID not in record.__dict__:
            record.__dict__.update(self._ids())
        return True


def follow(ids: CurrentIds) -> None:
    """Has all handlers that there are give records the ids; nothing where `ids` is `no_ids`."""
    if ids is not no_ids:
        one = TraceFilter(ids)
        for handler in _handlers():
            handler.addFilter(one)


def event_processor(ids: CurrentIds) -> Callable[[object, str, MutableMapping[str, Any]], Any]:
    """The same for structlog's chain."""

    def add(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if TRACE_ID not in fields:
            fields.update(ids())
        return fields

    return add


def _handlers() -> Iterator[logging.Handler]:
    loggers = [logging.root, *(known for known in logging.root.manager.loggerDict.values())]
    seen: set[logging.Handler] = set()
    for logger in loggers:
        for handler in logger.handlers if isinstance(logger, logging.Logger) else ():
            if handler not in seen:
                seen.add(handler)
                yield handler
