"""A collector of spans for tests: what OTLP over HTTP is sent to, decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Collected:
    """One span as it arrived; ids in hexadecimal, of no parent empty."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]


class Collector:
    """What has come."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self._news = threading.Condition()

    def add(self, body: bytes) -> None:
        with self._news:
            self.bodies.append(body)
            self._news.notify_all()

    def wait(self, count: int) -> None:
        """Until so many spans have come."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.spans) >= count, WAIT_SECONDS), self.spans

    @property
    def env(self) -> dict[str, str]:
        """For a process that is to send here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url}

    @property
    def spans(self) -> list[Collected]:
        return [span for body in tuple(self.bodies) for span in _spans(body)]


def _spans(body: bytes) -> Iterator[Collected]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = {one.key: one.value.string_value for one in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Collected(
                    service=named["service.name"],
                    name=span.name,
                    kind=span.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[span.kind].name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes={one.key: one.value.string_value for one in span.attributes},
                )


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector at a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                found.add(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
