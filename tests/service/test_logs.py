"""Logs as a user sees them: one line an event, no forged lines, no secrets, UTC with milliseconds."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest

from verser2_guest_python.service.access_log import AccessLog
from verser2_guest_python.service.log_line import Clock, LineSink, Paint
from verser2_guest_python.service.logs import Logs, set_up_logs
from verser2_guest_python.service.settings import LogSettings

STAMP = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def logs(form: str, level: str = "info") -> tuple[Logs, io.StringIO]:
    stream = io.StringIO()
    settings = LogSettings.model_validate({"format": form, "level": level})
    return set_up_logs(settings, stream=stream), stream


def test_json_is_one_object_a_line() -> None:
    log, stream = logs("json")
    log.events.info("registered", guest_id="guest-a", domains=["a.test"])
    entry = json.loads(stream.getvalue())
    assert STAMP.match(entry.pop("time"))
    assert entry == {"level": "info", "event": "registered", "guest_id": "guest-a", "domains": ["a.test"]}


def test_what_is_not_a_terminal_gets_json() -> None:
    log, stream = logs("auto")
    log.events.warning("disconnected")
    assert json.loads(stream.getvalue())["level"] == "warning"


def test_a_console_line_has_columns_and_no_colour_without_a_terminal() -> None:
    log, stream = logs("console")
    log.events.info("registered", guest_id="guest-a", reason="two words", delay_seconds=0.5)
    stamp, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert rest == 'info    registered     guest_id=guest-a reason="two words" delay_seconds=0.5\n'


@pytest.mark.parametrize("form", ["console", "json"])
def test_line_breaks_and_escapes_forge_nothing(form: str) -> None:
    log, stream = logs(form)
    log.events.info("lost\nforged", reason="a\r\n12:00:00.000Z error   forged\x1b[2J\x85\u2028\u202e")
    logging.getLogger("app").warning("said %s", "x\nforged")
    *lines, end = stream.getvalue().split("\n")
    assert end == ""
    if form == "console":
        assert lines.pop() == "    forged"  # an app may log several lines; the others are set off
    assert len(lines) == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", stream.getvalue())


def test_the_apps_own_logging_and_warnings_join() -> None:
    _, stream = logs("json")
    logging.getLogger("shop").info("sold %d", 3)
    logging.getLogger("shop").debug("not shown")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old api", DeprecationWarning, stacklevel=1)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["logger"], first["level"]) == ("sold 3", "shop", "info")
    assert "old api" in second["event"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_is_readable_and_cannot_be_taken_for_lines(form: str) -> None:
    log, stream = logs(form)
    try:
        raise ValueError("first\n12:00:00.000Z info    forged")
    except ValueError:
        log.events.exception("app failed", path="/x")
    text = stream.getvalue()
    if form == "json":
        entry = json.loads(text)
        assert entry["level"] == "error"
        assert "Traceback" in entry["exception"]
    else:
        first, *rest = text.splitlines()
        assert "error" in first
        assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("form", ["console", "json"])
def test_fields_that_are_secrets_are_masked(form: str) -> None:
    log, stream = logs(form)
    log.events.info("request", authorization="Bearer hunter2", Cookie="session=hunter2", password="hunter2")
    assert "hunter2" not in stream.getvalue()


def test_the_wire_libraries_stay_silent_at_debug() -> None:
    _, stream = logs("json", "debug")
    logging.getLogger("hpack.hpack").debug("Encoding cookie: hunter2")
    assert stream.getvalue() == ""


def test_a_stream_that_is_gone_costs_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    stream.close()
    sink = LineSink(stream)
    sink.write("lost")
    assert sink.dropped == 1


def test_a_record_whose_arguments_do_not_fit_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs("json")
    logging.getLogger("app").error("%d", "no number")
    assert "Logging error" in capsys.readouterr().err


# --- Access lines -----------------------------------------------------------------------------


def access(*, as_json: bool, query: bool = False) -> tuple[AccessLog, io.StringIO]:
    stream = io.StringIO()
    clock = Clock(lambda: 1_700_000_000.25)
    log = AccessLog(
        LineSink(stream), clock, Paint(colour=False), json=as_json, guest_id='guest"a', query=query
    )
    return log, stream


def write(
    log: AccessLog,
    path: str = "/items?token=hunter2",
    status: int | None = 200,
    reason: str = "",
    method: str = "GET",
) -> None:
    log.write(
        request_id="broker-a-1",
        source_id="broker-a",
        method=method,
        path=path,
        status=status,
        duration_ms=1.25,
        bytes_in=0,
        bytes_out=13,
        reason=reason,
    )


def test_an_access_line_in_json() -> None:
    log, stream = access(as_json=True)
    write(log)
    assert json.loads(stream.getvalue()) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "event": "request",
        "guest_id": 'guest"a',
        "request_id": "broker-a-1",
        "source_id": "broker-a",
        "method": "GET",
        "path": "/items",
        "status": 200,
        "duration_ms": 1.25,
        "bytes_in": 0,
        "bytes_out": 13,
    }


def test_an_access_line_on_a_terminal() -> None:
    log, stream = access(as_json=False)
    write(log)
    assert stream.getvalue() == (
        "22:13:20.250Z request 200 GET    /items                           1.2 ms      13 B  broker-a-1\n"
    )


def test_a_long_method_keeps_its_distance_from_the_path() -> None:
    log, stream = access(as_json=False)
    write(log, "/chat", 101, method="WEBSOCKET")
    assert "request 101 WEBSOCKET /chat " in stream.getvalue()


def test_a_request_without_an_answer_says_why() -> None:
    log, stream = access(as_json=True)
    write(log, status=None, reason="cancelled")
    entry = json.loads(stream.getvalue())
    assert (entry["status"], entry["reason"]) == (None, "cancelled")
    log, stream = access(as_json=False)
    write(log, status=None, reason="cancelled")
    assert "--- GET" in stream.getvalue()
    assert stream.getvalue().endswith("cancelled\n")


def test_the_query_is_kept_only_when_asked_for() -> None:
    log, stream = access(as_json=False, query=True)
    write(log)
    assert "/items?token=hunter2" in stream.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_path_cannot_forge_an_access_line(*, as_json: bool) -> None:
    log, stream = access(as_json=as_json)
    write(log, path='/\n22:13:20.250Z request 200 GET /forged\x1b[2J"')
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
