"""What of a request through the gateway becomes a line, with its wait for a lease where that is known."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.logging_state import logging_as_before
from verser2_guest_python.integrations.gateway import GatewayRecord
from verser2_guest_python.service.logs.gateway import GatewayAccessLog
from verser2_guest_python.service.logs.setup import set_up_logs
from verser2_guest_python.service.settings.model import LogSettings

RECORD = GatewayRecord(
    client="192.0.2.7",
    method="GET",
    name="shop.example",
    path="/items?token=hush",
    domain="a.test",
    target_id="guest-a",
    request_id="broker-a-1",
    status=200,
    first_byte_ms=12.5,
    duration_ms=500.0,
    bytes_out=2048,
)
WAITED = replace(RECORD, lease_wait_ms=7.25)

Lines = Callable[..., list[str]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines of records, in one of the formats."""

    def write(look: Any, *records: GatewayRecord) -> list[str]:
        stream = io.StringIO()
        log = GatewayAccessLog(set_up_logs(LogSettings(format=look), stream=stream))
        for record in records:
            log(record)
        return stream.getvalue().splitlines()

    with logging_as_before():
        yield write


def test_a_request_is_one_line_of_json(lines: Lines) -> None:
    plain, waited = (json.loads(line) for line in lines("json", RECORD, WAITED))
    for line in (plain, waited):
        del line["time"]
    assert plain == {
        "level": "info",
        "event": "request",
        "client": "192.0.2.7",
        "method": "GET",
        "host": "shop.example",
        "path": "/items",
        "status": 200,
        "duration_ms": 500.0,
        "first_byte_ms": 12.5,
        "bytes_in": 0,
        "bytes_out": 2048,
        "domain": "a.test",
        "target_id": "guest-a",
        "request_id": "broker-a-1",
    }
    assert waited == {**plain, "lease_wait_ms": 7.25}


def test_a_request_in_logfmt(lines: Lines) -> None:
    plain, waited = lines("logfmt", RECORD, WAITED)
    assert "lease_wait_ms" not in plain
    assert " lease_wait_ms=7.25" in waited


def test_a_request_on_a_terminal(lines: Lines) -> None:
    plain, at_once, waited = lines("console", RECORD, replace(RECORD, lease_wait_ms=0.01), WAITED)
    assert plain.endswith("500 ms   2.0 KiB  192.0.2.7 broker-a-1")
    assert at_once.endswith("broker-a-1"), "what is not worth a word is left out"
    assert waited.endswith("broker-a-1 waited 7.2 ms")
