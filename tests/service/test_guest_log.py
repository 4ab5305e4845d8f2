"""What of a Guest's life becomes a line: an outage once and then once a minute, a request always."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.logging_state import logging_as_before
from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.logs.guest import GuestLog
from verser2_guest_python.service.logs.setup import set_up_logs
from verser2_guest_python.service.settings.model import LogSettings


class Night:
    """A Guest's log, and a clock that can be put forward."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        logs = set_up_logs(LogSettings(format="json"), stream=self.stream)
        self.log = GuestLog(logs, logs.access("guest-a"), now=lambda: self.now)

    def tell(self, kind: Any, **fields: Any) -> None:
        self.log(GuestEvent(kind, fields))

    @property
    def lines(self) -> list[tuple[str, str]]:
        entries = map(json.loads, self.stream.getvalue().splitlines())
        return [(entry["event"], entry.get("reason", "")) for entry in entries]


@pytest.fixture
def night() -> Iterator[Night]:
    with logging_as_before():
        yield Night()


def test_an_outage_is_told_once_and_then_once_a_minute(night: Night) -> None:
    night.tell("registered", guest_id="guest-a")
    night.tell("disconnected", reason="gone")
    for second in range(130):
        night.now = float(second)
        reason = "gone" if second == 0 else "connection refused"
        night.tell("reconnecting", reason=reason, attempt=second, delay_seconds=1.0)
    night.tell("registered", guest_id="guest-a")
    refused = ("reconnecting", "connection refused")
    assert night.lines == [
        ("registered", ""),
        ("disconnected", "gone"),
        refused,
        refused,
        refused,
        ("registered", ""),
    ]


def test_the_next_outage_is_told_anew(night: Night) -> None:
    for _ in range(2):
        night.tell("disconnected", reason="gone")
        night.tell("reconnecting", reason="connection refused", attempt=1, delay_seconds=0.0)
        night.tell("registered", guest_id="guest-a")
    assert night.lines.count(("reconnecting", "connection refused")) == 2


def test_reasons_that_take_turns_are_told_once_each(night: Night) -> None:
    for attempt, reason in enumerate(["GOAWAY", "connection refused", "GOAWAY", "connection refused"]):
        night.tell("reconnecting", reason=reason, attempt=attempt, delay_seconds=0.5)
    assert night.lines == [("reconnecting", "GOAWAY"), ("reconnecting", "connection refused")]


def test_a_drain_without_registration_is_no_news(night: Night) -> None:
    night.tell("draining", reason="SIGTERM received")
    night.tell("closed", reason="SIGTERM received")
    assert night.lines == []


def test_a_request_is_one_line(night: Night) -> None:
    night.tell("request-started", request_id="broker-a-1")
    night.tell(
        "request-completed",
        request_id="broker-a-1",
        source_id="broker-a",
        method="GET",
        path="/",
        status=0,
        duration_ms=2.5,
        bytes_in=0,
        bytes_out=0,
        reason="cancelled",
    )
    (entry,) = map(json.loads, night.stream.getvalue().splitlines())
    assert (entry["status"], entry["reason"], entry["duration_ms"]) == (None, "cancelled", 2.5)
