"""The table of log fields names what the program logs, no more and no less."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator

from tests.docs.markdown import ROOT
from tests.support.logging_state import logging_as_before
from verser2_guest_python.host.events import RequestRecord
from verser2_guest_python.integrations.gateway import GatewayRecord
from verser2_guest_python.service.logs.gateway import GatewayAccessLog
from verser2_guest_python.service.logs.host_access import HostAccessLog
from verser2_guest_python.service.logs.setup import set_up_logs
from verser2_guest_python.service.metrics.totals import totals_fields
from verser2_guest_python.service.settings.model import LogSettings

PAGE = ROOT / "docs" / "reference" / "log-fields.md"
SOURCE = ROOT / "src" / "verser2_guest_python"
SAYING = {"debug", "info", "warning", "error", "exception", "tell"}
NO_FIELDS = {"exc_info", "extra"}
MADE_ELSEWHERE = {
    *("time", "level", "event", "logger", "exception", "left_out", "lines"),
    *totals_fields(0, 0),
}


def said() -> Iterator[str]:
    """The names of the fields of all events, as the source has them."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=name), args=[_, *_]) if name in SAYING:
                    yield from (word.arg for word in node.keywords if word.arg and word.arg not in NO_FIELDS)
                case ast.Call(func=ast.Name(id="say")):
                    yield from (word.arg for word in node.keywords if word.arg)


def of_requests() -> set[str]:
    stream = io.StringIO()
    with logging_as_before():
        logs = set_up_logs(LogSettings(format="json"), stream=stream)
        logs.access("g").write(
            request_id="1",
            source_id="b",
            method="GET",
            path="/",
            status=200,
            duration_ms=1.0,
            bytes_in=0,
            bytes_out=0,
            reason="r",
            session_id="s",
            trace_id="t",
            span_id="s",
        )
        for websocket in (False, True):
            GatewayAccessLog(logs)(
                GatewayRecord("c", "GET", "a", "/", websocket, close_code=1000, reason="r", lease_wait_ms=1.0)
            )
        HostAccessLog(logs)(RequestRecord("1", "b", "g", "a.test", "GET", "/", 200, "e", 0, 0, 0.0, 0.0))
    return {name for line in stream.getvalue().splitlines() for name in json.loads(line)}


def test_the_table_has_every_field() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE.read_text(), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(listed) == len(set(listed))
    logged = set(said()) | of_requests() | MADE_ELSEWHERE
    assert not logged - set(listed), "name these in docs/reference/log-fields.md"
    assert not set(listed) - logged, "nothing logs these any more"
