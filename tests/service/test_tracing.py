"""`--otel` of a real process: its spans arrive at a collector, and it ends although that is away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec

import pytest

from tests.service.conftest import Place, registered
from tests.service.test_serving_options import closed_port
from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service import tracing


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """What OTLP is sent to: its URL, and path and body of what has come."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


async def test_spans_of_a_guest_arrive_and_its_name_is_theirs(place: Place) -> None:
    with (
        collector() as (url, got),
        place.guest("traced", "--otel", OTEL_EXPORTER_OTLP_ENDPOINT=url) as process,
    ):
        await registered(process, "traced")
        async with place.broker() as broker:
            await broker.wait_for_route("traced.test")
            await (await broker.get("http://traced.test/?0")).read()
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.transcript()
        sent = b"".join(body for path, body in got if path == "/v1/traces")
        assert b"traced.test" in sent
        assert b"service.name" in sent
        assert b"verser.request_id" in sent


async def test_a_collector_that_is_away_does_not_hold_up_the_end(place: Place) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    with place.guest("alone", "--otel", OTEL_EXPORTER_OTLP_ENDPOINT=url) as process:
        await registered(process, "alone")
        async with place.broker() as broker:
            await broker.wait_for_route("alone.test")
            await (await broker.get("http://alone.test/?0")).read()
        process.send(signal.SIGTERM)
        assert process.wait() == 0


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> object:
        return None if name.startswith("opentelemetry") else find_spec(name)

    monkeypatch.setattr(tracing, "find_spec", found)
    with pytest.raises(VerserConfigurationError, match=r"pip install 'verser2-guest-python\[otel\]'"):
        tracing.set_up_tracing("a")
