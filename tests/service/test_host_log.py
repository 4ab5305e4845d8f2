"""What of a Host's life becomes a line, and how little strangers can make it say."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.logging_state import logging_as_before
from verser2_guest_python.host import HostEvent, RequestRecord
from verser2_guest_python.service.logs.host import LINES_A_MINUTE, HostLog
from verser2_guest_python.service.logs.host_access import HostAccessLog
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.settings.model import LogSettings

RECORD = RequestRecord(
    request_id="broker-a-1",
    source_id="broker-a",
    target_id="guest-a",
    domain="a.test",
    method="GET",
    path="/items?token=hush",
    status=200,
    error=None,
    bytes_in=0,
    bytes_out=2048,
    queued_seconds=0.25,
    seconds=0.5,
)


class Writing:
    """A log that is written to memory, and a clock that can be put forward."""

    def __init__(self, look: Any) -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        self.logs: Logs = set_up_logs(LogSettings(format=look), stream=self.stream)
        self.log = HostLog(self.logs, now=lambda: self.now)

    def tell(self, name: str, **fields: Any) -> None:
        self.log(HostEvent(name, fields))

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(params=["json"])
def written(request: pytest.FixtureRequest) -> Iterator[Writing]:
    with logging_as_before():
        yield Writing(request.param)


def test_who_comes_and_who_goes(written: Writing) -> None:
    written.tell("registered", peer="guest-a", role="guest", domains=["a.test", "b.test"], identity="CN=a")
    written.tell("route", change="added", peer="guest-a", domain="a.test", reason="registered")
    written.tell("registered", peer="broker-a", role="broker", domains=[])
    written.tell("disconnected", peer="guest-a", role="guest", reason="gone")
    written.tell("disconnected", peer=None, role=None, reason="it was closed")
    written.tell("disconnected", peer=None, role=None, reason="it did not register", limit="registration")
    first, second, third, fourth = written.entries
    assert (first["event"], first["domains"], first["identity"]) == ("registered", "a.test, b.test", "CN=a")
    assert "domains" not in second
    assert (third["event"], third["level"]) == ("disconnected", "info")
    assert (fourth["event"], fourth["level"], fourth["limit"]) == ("disconnected", "warning", "registration")


def test_what_strangers_cause_is_told_so_often_a_minute(written: Writing) -> None:
    for number in range(LINES_A_MINUTE + 500):
        written.tell("denied", peer="broker-a", reason=f"number {number}")
    assert len(written.entries) == LINES_A_MINUTE
    written.tell("registered", peer="guest-a")
    written.tell("refused", peer="x", reason="another kind")
    assert [entry["event"] for entry in written.entries[-2:]] == ["registered", "refused"]
    written.now = 60.0
    written.tell("denied", peer="broker-a", reason="later")
    written.tell("denied", peer="broker-a", reason="and later")
    later, and_later = written.entries[-2:]
    assert (later["reason"], later["left_out"]) == ("later", 500)
    assert "left_out" not in and_later


def test_an_event_of_a_later_version_is_told_all_the_same(written: Writing) -> None:
    written.tell("something-new", value=1)
    assert [(one["event"], one["level"]) for one in written.entries] == [("something new", "info")]


def test_a_request_is_one_line_of_json(written: Writing) -> None:
    HostAccessLog(written.logs)(RECORD)
    (line,) = written.entries
    del line["time"]
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "broker-a-1",
        "source_id": "broker-a",
        "target_id": "guest-a",
        "domain": "a.test",
        "method": "GET",
        "path": "/items",
        "status": 200,
        "duration_ms": 500.0,
        "lease_wait_ms": 250.0,
        "bytes_in": 0,
        "bytes_out": 2048,
    }


@pytest.mark.parametrize("written", ["console"], indirect=True)
def test_a_request_on_a_terminal(written: Writing) -> None:
    from dataclasses import replace

    write = HostAccessLog(written.logs)
    write(RECORD)
    write(
        replace(RECORD, status=None, error="cancelled", domain=None, path="/\x1b[31m\n", queued_seconds=0.0)
    )
    first, second = written.text.splitlines()
    assert "200 GET       a.test/items" in first
    assert first.endswith("500 ms   2.0 KiB  broker-a-1 -> guest-a waited 250 ms")
    assert "--- GET       /\\x1b[31m\\x0a" in second
    assert second.endswith("broker-a-1 -> guest-a  cancelled")


def test_hostile_names_stay_on_their_line(written: Writing) -> None:
    from dataclasses import replace

    HostAccessLog(written.logs)(replace(RECORD, request_id='"\n{', source_id="\u2028", error='"'))
    (line,) = written.entries
    assert (line["request_id"], line["source_id"], line["reason"]) == ('"\n{', "\u2028", '"')
