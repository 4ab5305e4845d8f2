"""`trace_id` and `span_id` in the lines of each role: those of the spans that a collector gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Running, host_process, run, start
from tests.service.conftest import APPS
from tests.support.certificates import Certificates
from tests.support.collector import collector

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@contextmanager
def fleet(certs: Certificates, *more: str | Path, env: dict[str, str]) -> Iterator[tuple[Running, ...]]:
    """Host, Guest and gateway, and where the gateway is."""
    pair = ("--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    with start("host", "--port", "0", *pair, *more, env=env) as host:
        port = json.loads(host.says('"listening"'))["port"]
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        names = ("--guest-id", "a", "--domain", "a.test", "--lifespan", "off")
        with (
            start("saying:app", "--app-dir", APPS, *names, *peer, *more, env=env) as guest,
            start(
                "gateway", "--listen", "127.0.0.1:0", "--route-wait", "30", *peer, *more, env=env
            ) as gateway,
        ):
            guest.says('"registered"')
            gateway.says('"registered"')
            yield host, guest, gateway


def ask(gateway: Running, path: str, headers: dict[str, str]) -> int:
    url = json.loads(gateway.says('"listening"'))["url"]
    connection = HTTPConnection(url.partition("//")[2], timeout=60)
    try:
        connection.request("GET", path, headers={"host": "a.test", **headers})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def lines(process: Running, *words: str) -> list[dict[str, Any]]:
    """The lines on stderr that have these words."""
    process.says(*words)
    return [json.loads(line) for line in process.stderr if all(word in line for word in words)]


def test_lines_of_each_role_name_their_span(certs: Certificates) -> None:
    with collector() as found:
        with fleet(certs, "--otel", env=found.env) as (host, guest, gateway):
            assert ask(gateway, "/fine", PARENT) == 200
            said = {
                name: lines(process, '"request"', '"/fine"')[0]
                for name, process in (("host", host), ("guest", guest), ("gateway", gateway))
            }
            assert {line["trace_id"] for line in said.values()} == {TRACE}
            for text in ("here", "in a thread"):
                (line,) = lines(guest, f'"event":"{text}"')
                assert (line["trace_id"], line["span_id"]) == (TRACE, said["guest"]["span_id"])
            (own,) = lines(guest, '"an id of its own"')
            assert own["trace_id"] == "mine"
            assert "span_id" not in own
            # What is said of no request is in no trace
            for process, event in (
                (guest, "imported"),
                (guest, "registered"),
                (host, "registered"),
                (gateway, "listening"),
            ):
                assert not any("trace_id" in line for line in lines(process, f'"event":"{event}"'))
            # The traceback of an app that failed is found by the trace as well
            assert ask(gateway, "/fails", PARENT) == 502
            (failed,) = lines(guest, "The app failed on GET /fails")
            assert failed["trace_id"] == TRACE
            assert failed["span_id"] == lines(guest, '"request"', '"/fails"')[0]["span_id"]
            # A name that nobody serves: refused in the gateway, with a span all the same
            assert ask(gateway, "/nobody", {**PARENT, "host": "nobody.test"}) in (404, 503)
            assert lines(gateway, '"request"', '"/nobody"')[0]["trace_id"] == TRACE
            for process in (gateway, guest, host):
                assert process.stop() == 0, process.transcript()  # with that its last spans leave
        spans = {span.span_id: span for span in found.spans}
        kinds = {"host": "SPAN_KIND_INTERNAL", "guest": "SPAN_KIND_SERVER", "gateway": "SPAN_KIND_SERVER"}
        assert {name: spans[line["span_id"]].kind for name, line in said.items()} == kinds
        assert len({line["span_id"] for line in said.values()}) == 3


def test_nothing_is_said_of_traces_without_the_option(certs: Certificates) -> None:
    with fleet(certs, env={}) as processes:
        assert ask(processes[2], "/fine", PARENT) == 200
        for process in processes:
            assert '"span_id"' not in "".join(process.stderr)
            assert "trace_id" not in lines(process, '"request"')[0]


@pytest.mark.parametrize("form", ["logfmt", "console", "config"])
def test_other_forms_have_them_too(certs: Certificates, tmp_path: Path, form: str) -> None:
    chosen: tuple[str | Path, ...] = ("--log-format", form)
    if form == "config":  # a logging of one's own: they are attributes of its records
        chosen = ("--log-config", tmp_path / "log.json")
        ours = {"()": "verser2_guest_python.service.logs.Formatter", "form": "json"}
        handler = {"class": "logging.StreamHandler", "formatter": "ours"}
        root = {"level": "INFO", "handlers": ["h"]}
        config = {"version": 1, "formatters": {"ours": ours}, "handlers": {"h": handler}, "root": root}
        chosen[1].write_text(json.dumps(config))
    names = ("--guest-id", "b", "--domain", "b.test", "--lifespan", "off", "--otel", *chosen)
    with host_process(certs.host, certs.host_key) as port, collector() as found:
        peer = ("--host-url", f"https://localhost:{port}", "--tls-ca-file", certs.ca)
        with start("saying:app", "--app-dir", APPS, *names, *peer, env=found.env) as guest:
            assert TRACE not in guest.says("registered")
            header = f"traceparent: {PARENT['traceparent']}"
            got = run("broker", "get", "http://b.test/x", "-H", header, "--wait", "30", *peer)
            assert got.returncode == 0, got.stderr
            for word in ("here", "in a thread", "/x"):
                assert TRACE in guest.says(word, "trace_id")
