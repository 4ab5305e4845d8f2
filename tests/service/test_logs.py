"""Logs as a user sees them: one line an event, no forged lines, no secrets, UTC with milliseconds."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.logging_state import logging_as_before
from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.logs.access import AccessLog, AccessRules
from verser2_guest_python.service.logs.config import ACCESS_LOGGER, EVENT_LOGGER
from verser2_guest_python.service.logs.line import Clock, Form, Paint
from verser2_guest_python.service.logs.setup import Logs, set_up_logs
from verser2_guest_python.service.logs.sink import LineSink
from verser2_guest_python.service.settings.model import LogSettings

FORMS = ("console", "json", "logfmt")
STAMP = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")


@pytest.fixture(autouse=True)
def harmless() -> Iterator[None]:
    with logging_as_before():
        yield


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


@pytest.mark.parametrize("form", FORMS)
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
    assert not second["event"].endswith("\n")


@pytest.mark.parametrize("form", FORMS)
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


@pytest.mark.parametrize("form", FORMS)
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


def access(form: Form, **rules: Any) -> tuple[AccessLog, io.StringIO]:
    stream = io.StringIO()
    clock = Clock(lambda: 1_700_000_000.25)
    paint, kept = Paint(colour=False), AccessRules(**rules)
    return AccessLog(LineSink(stream), clock, paint, form=form, guest_id='guest"a', rules=kept), stream


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
        session_id="5e55",
    )


def test_an_access_line_in_json() -> None:
    log, stream = access("json")
    write(log)
    assert json.loads(stream.getvalue()) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "event": "request",
        "guest_id": 'guest"a',
        "session_id": "5e55",
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
    log, stream = access("console")
    write(log)
    assert stream.getvalue() == (
        "22:13:20.250Z request 200 GET    /items                           1.2 ms      13 B  broker-a-1\n"
    )


def test_a_long_method_keeps_its_distance_from_the_path() -> None:
    log, stream = access("console")
    write(log, "/chat", 101, method="WEBSOCKET")
    assert "request 101 WEBSOCKET /chat " in stream.getvalue()


def test_a_request_without_an_answer_says_why() -> None:
    log, stream = access("json")
    write(log, status=None, reason="cancelled")
    entry = json.loads(stream.getvalue())
    assert (entry["status"], entry["reason"]) == (None, "cancelled")
    log, stream = access("console")
    write(log, status=None, reason="cancelled")
    assert "--- GET" in stream.getvalue()
    assert stream.getvalue().endswith("cancelled\n")


def test_the_query_is_kept_only_when_asked_for() -> None:
    log, stream = access("console", query=True)
    write(log, "/items?page=2&token=hunter2")
    assert "/items?page=2&token=*** " in stream.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_a_path_cannot_forge_an_access_line(form: Form) -> None:
    log, stream = access(form)
    write(log, path='/\n22:13:20.250Z request 200 GET /forged\x1b[2J"')
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.99])
def test_a_share_of_the_requests_gets_a_line_and_all_that_failed(chance: float) -> None:
    log, stream = access("json", share=0.5, chance=lambda: chance)
    for status, reason in (
        (200, ""),
        (404, ""),
        (500, ""),
        (None, "cancelled"),
        (200, "app failed: OSError"),
    ):
        write(log, status=status, reason=reason)
    assert stream.getvalue().count("\n") == (5 if chance < 0.5 else 3)


def test_an_access_line_in_logfmt() -> None:
    log, stream = access("logfmt")
    write(log, "/a b?x", None, 'no "answer"')
    assert stream.getvalue() == (
        'time=2023-11-14T22:13:20.250Z level=info event=request guest_id="guest\\"a" session_id=5e55 '
        'request_id=broker-a-1 source_id=broker-a method=GET path="/a b" status=null duration_ms=1.250 '
        'bytes_in=0 bytes_out=13 reason="no \\"answer\\""\n'
    )


# --- logfmt, fields of the app ------------------------------------------------------------------


def test_logfmt_is_one_line_of_names_and_values() -> None:
    log, stream = logs("logfmt")
    log.events.info("registered", domains=["a.test", "b.test"], n=1, on=True, none=None, share=0.5, empty="")
    stamp, _, rest = stream.getvalue().partition(" ")
    assert STAMP.match(stamp.removeprefix("time="))
    assert (
        rest == 'level=info event=registered domains=a.test,b.test n=1 on=true none=null share=0.5 empty=""\n'
    )


def test_the_extra_of_the_app_is_in_its_line_and_takes_no_name_of_ours() -> None:
    _, stream = logs("json")
    logging.getLogger("shop").info("sold", extra={"order": 5, "level": "forged", "password": "hunter2"})
    entry = json.loads(stream.getvalue())
    assert (entry["order"], entry["level"], entry["level_"], entry["password"]) == (
        5,
        "info",
        "forged",
        "***",
    )


def test_what_json_cannot_say_is_a_text() -> None:
    log, stream = logs("json")
    log.events.info("odd", number=float("nan"), thing=object, where={"a": 1})
    entry = json.loads(stream.getvalue())
    assert entry["number"] == "nan"
    assert "object" in entry["thing"]


# --- Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "text",
    [
        "Cookie: session=hunter2; theme=dark",
        "headers=[(b'set-cookie', b'sid=hunter2; Path=/')]",
        "{'authorization': 'Basic hunter2'}",
        "got Authorization=Bearer hunter2",
        "with bearer hunter2.hunter2",
        "GET https://me:hunter2@host.test/ failed",
        "GET /items?access_token=hunter2&page=2",
    ],
)
def test_texts_of_anybody_show_no_credentials(form: str, text: str) -> None:
    log, stream = logs(form, "debug")
    logging.getLogger("client").debug(text)
    log.events.warning("lost", reason=text, headers={"x": text})
    try:
        raise ValueError(text)
    except ValueError:
        log.events.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 4


def test_headers_in_fields_are_masked_however_they_are_held() -> None:
    log, stream = logs("json")
    log.events.info(
        "request",
        headers=[(b"Cookie", b"hunter2"), (b"accept", b"*/*")],
        scope={"headers": [["authorization", "hunter2"]], "api_key": "hunter2", "session_id": "5e55"},
    )
    assert "hunter2" not in stream.getvalue()
    assert "*/*" in stream.getvalue()
    assert "5e55" in stream.getvalue()


# --- A logging of the user's own ------------------------------------------------------------------


def test_a_file_of_the_users_own_gets_events_and_requests(tmp_path: Path) -> None:
    target = tmp_path / "all.log"
    handlers = {"file": {"class": "logging.FileHandler", "filename": str(target), "formatter": "ours"}}
    config = {
        "version": 1,
        "formatters": {"ours": {"()": "verser2_guest_python.service.logs.Formatter", "form": "json"}},
        "handlers": handlers,
        "root": {"level": "INFO", "handlers": ["file"]},
    }
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(config))
    log = set_up_logs(LogSettings(config=path), stream=io.StringIO())
    log.events.info("registered\nforged", guest_id="guest-a", name="x", authorization="hunter2")
    write(log.access("guest-a"))
    text = target.read_text()
    logging.getLogger().handlers[0].close()
    first, second = map(json.loads, text.splitlines())
    assert first["event"].startswith("registered\\x0aforged guest_id=guest-a name=x")
    assert (first["logger"], first["guest_id"], first["name_"]) == (EVENT_LOGGER, "guest-a", "x")
    assert (second["logger"], second["status"], second["path"]) == (ACCESS_LOGGER, 200, "/items")
    assert "hunter2" not in text


INI = """
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=file
[handler_file]
class=FileHandler
args=({target!r},)
formatter=plain
[formatter_plain]
format=%(levelname)s %(message)s
"""
YAML = """
version: 1
formatters: {{plain: {{format: "%(levelname)s %(message)s"}}}}
handlers: {{file: {{class: logging.FileHandler, filename: {target!r}, formatter: plain}}}}
root: {{level: INFO, handlers: [file]}}
"""


@pytest.mark.parametrize(("name", "text"), [("log.ini", INI), ("log.yaml", YAML)])
def test_the_other_kinds_of_file(tmp_path: Path, name: str, text: str) -> None:
    if name == "log.yaml":
        pytest.importorskip("yaml")
    target = tmp_path / "all.log"
    (tmp_path / name).write_text(text.format(target=str(target)))
    log = set_up_logs(LogSettings(config=tmp_path / name), stream=io.StringIO())
    log.events.warning("disconnected", reason="gone")
    logging.getLogger().handlers[0].close()
    assert target.read_text() == "WARNING disconnected reason=gone\n"


def test_yaml_without_its_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "log.yaml").write_text("version: 1")
    with pytest.raises(VerserConfigurationError, match="needs PyYAML: pip install pyyaml"):
        set_up_logs(LogSettings(config=tmp_path / "log.yaml"), stream=io.StringIO())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("missing.json", None, "No such file"),
        ("missing.ini", None, "No such file"),
        ("broken.json", "{", "cannot be used as logging configuration: Expecting"),
        ("list.json", "[]", "holds no table"),
        ("handler.json", '{"version": 1, "handlers": {"x": {"class": "no.Such"}}}', "'x'.*no"),
        ("broken.ini", "nothing", "cannot be used as logging configuration"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(VerserConfigurationError, match=rf"{name}.*{words}"):
        set_up_logs(LogSettings(config=tmp_path / name), stream=io.StringIO())
