"""`--otel` of a `broker` command: its requests as part of a trace, sent before it ends.

Apart from the calls because hardly any is traced, and what is not loads nothing of OpenTelemetry. The parent
comes from the environment (`TRACEPARENT`, `TRACESTATE`, `BAGGAGE`), as CI systems and `otel-cli` set it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from verser2_guest_python.errors import VerserError
from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.calls.peer import Peer
from verser2_guest_python.service.output.masking import masked_text
from verser2_guest_python.service.process.exit_codes import exit_code
from verser2_guest_python.service.process.tracing import set_up_tracing

SERVICE_NAME: Final = "verser2-broker"
FLUSH_SECONDS: Final = 2.0
"""For the spans to leave: somebody waits for the command."""
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_DEFAULT_ENDPOINT: Final = "http://localhost:4318"
_OF_SYSTEM: Final = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
_MAX_REASON_CHARS: Final = 200
_PROGRAM: Final = "verser2-guest"
_OTEL: Final = "opentelemetry"


def run_traced(peer: Peer, command: str, notes: Notes, main: Callable[[Peer], int]) -> int:
    """Runs `main` within a span of this `command`, if the peer is to be traced; returns what it returns.

    The last spans get 2 s to leave; a warning tells of those that did not. Raises what `main` raises, and
    `VerserConfigurationError` without the extra `otel`.
    """
    if not peer.otel:
        return main(peer)
    with _told_once(notes):
        end = set_up_tracing(SERVICE_NAME, flush_seconds=FLUSH_SECONDS)
        try:
            return _within_span(peer, command, main)
        finally:
            if not end():
                logging.getLogger(_OTEL).warning("no answer within %g s", FLUSH_SECONDS)


def run_below_parent(peer: Peer, notes: Notes, main: Callable[[Peer], int]) -> int:
    """The same without a span around it: many requests are many traces, unless the environment says which."""
    return run_traced(peer, "", notes, main)


def _within_span(peer: Peer, command: str, main: Callable[[Peer], int]) -> int:
    from opentelemetry import context, propagate, trace

    from verser2_guest_python.integrations.otel.common import kind_of, set_error, tracer_of

    fields = {name: name.upper().replace("-", "_") for name in propagate.get_global_textmap().fields}
    said = {name: os.environ[variable] for name, variable in fields.items() if variable in os.environ}
    token = context.attach(propagate.extract(said))
    try:
        if not command:
            return main(replace(peer, traced=True))
        # By the conventions for programs of a command line
        attributes: dict[str, str | int] = {"process.executable.name": _PROGRAM, "process.pid": os.getpid()}
        with tracer_of(None).start_as_current_span(
            f"{_PROGRAM} broker {command}",
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                code = main(replace(peer, traced=True))
            except Exception as error:
                set_error(span, kind_of(error), error.message if isinstance(error, VerserError) else "")
                if isinstance(error, VerserError):
                    span.set_attribute("process.exit.code", exit_code(error))
                raise
            span.set_attribute("process.exit.code", int(code))
            if code:
                span.set_attribute("error.type", str(int(code)))
                span.set_status(trace.StatusCode.ERROR)
            return code
    finally:
        context.detach(token)


@contextmanager
def _told_once(notes: Notes) -> Iterator[None]:
    """What OpenTelemetry logs about spans that do not leave becomes one warning, behind everything else."""
    logger = logging.getLogger(_OTEL)
    said = _FirstMessage()
    propagates = logger.propagate
    logger.addHandler(said)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(said)
        logger.propagate = propagates
        if said.message:
            where = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), _DEFAULT_ENDPOINT)
            found = _OF_SYSTEM.search(said.message)  # the libraries in between tell half a page
            why = found[1] if found else said.message[:_MAX_REASON_CHARS].rstrip(".")
            notes.warn(f"Spans of this command are lost, {masked_text(where)} did not take them: {why}.")


class _FirstMessage(logging.Handler):
    message = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and not self.message:
            self.message = record.getMessage()
