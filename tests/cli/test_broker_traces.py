"""`broker … --otel`: its spans at a collector, below what the environment says, and the end without one."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Stage
from tests.cli.processes import fails, run
from tests.service.test_serving_options import closed_port
from tests.support.collector import Collected, collector

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"TRACEPARENT": f"00-{TRACE}-{SPAN}-01"}


def named(spans: list[Collected]) -> dict[str, list[Collected]]:
    """Spans by their names."""
    return {name: [span for span in spans if span.name == name] for name in {span.name for span in spans}}


def test_a_call_is_part_of_the_trace_of_the_environment(kit: Stage) -> None:
    with collector() as found:
        env = {**PARENT, "TRACESTATE": "ci=1", "BAGGAGE": "build=17", **found.env}
        result = run("broker", "get", "a.test/headers", "--otel", *kit.peer, env=env)
        assert (result.returncode, result.stderr) == (0, b"")
        (command,) = (spans := named(found.spans))["verser2-guest broker request"]
        assert (command.trace_id, command.parent_id) == (TRACE, SPAN)
        assert (command.kind, command.service) == ("SPAN_KIND_INTERNAL", "verser2-broker")
        (client,) = spans["GET"]
        assert (client.trace_id, client.parent_id, client.kind) == (
            TRACE,
            command.span_id,
            "SPAN_KIND_CLIENT",
        )
        # The app is told
        for text in (f"00-{TRACE}-{client.span_id}-01", "ci=1", "build=17"):
            assert text in result.stdout.decode()


def test_without_a_parent_tries_and_redirects_are_one_trace(kit: Stage) -> None:
    with collector() as found:
        flaky = ("broker", "get", "kit.test/flaky?traced:1:503", "--retry", "1", *kit.peer)
        assert run(*flaky, env={"VERSER_OTEL": "yes", **found.env}).returncode == 0
        spans = named(found.spans)
        assert len({span.trace_id for span in found.spans}) == 1
        assert len(spans["GET"]) == 2
        assert spans["verser2-guest broker request"][0].parent_id == ""


def test_what_fails_is_told_in_the_trace_too(kit: Stage) -> None:
    with collector() as found:
        env = {**PARENT, "OTEL_SERVICE_NAME": "nightly", **found.env}
        fails(
            6, "nobody.test", arguments=("broker", "get", "nobody.test/?secret", "--otel", *kit.peer), env=env
        )
        fails(
            22, "404", arguments=("broker", "get", "kit.test/status?404", "-f", "--otel", *kit.peer), env=env
        )
        commands = named(found.spans)["verser2-guest broker request"]
        assert [span.attributes["error.type"] for span in commands] == ["missing-guest", "22"]
        assert {span.service for span in found.spans} == {"nightly"}
        assert all(b"secret" not in body for body in found.bodies)


def test_a_websocket_and_a_load_run_are_traced(kit: Stage) -> None:
    with collector() as found:
        env = {**PARENT, **found.env}
        said = run("broker", "ws", "kit.test/echo", "--otel", *kit.peer, data=b"x\n", env=env)
        assert said.returncode == 0, said.stderr
        spans = named(found.spans)
        assert spans["WEBSOCKET"][0].parent_id == spans["verser2-guest broker ws"][0].span_id
    with collector() as found:
        load = ("broker", "get", "kit.test/text", "--repeat", "3", "--otel", *kit.peer)
        assert run(*load, env=found.env).returncode == 0
        assert len({span.trace_id for span in found.spans}) == 3  # many requests are many traces …
        assert run(*load, env={**PARENT, **found.env}).returncode == 0
        assert [span.parent_id for span in found.spans[3:]] == [SPAN] * 3  # … unless somebody says which


@pytest.mark.parametrize("silent", [False, True])
def test_a_collector_that_is_away_costs_a_warning_and_no_answer(kit: Stage, silent: bool) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
    result = run("broker", "get", "kit.test/text", "--otel", *kit.peer, *(("-s",) if silent else ()), env=env)
    assert result.returncode == 0
    assert result.stdout
    lines = result.stderr.decode().splitlines()
    assert len(lines) == (0 if silent else 1)
    for line in lines:
        assert line.endswith(f"Spans of this command are lost, {url} did not take them: Connection refused.")


def test_a_switch_that_is_none_is_told(kit: Stage) -> None:
    fails(
        2,
        "VERSER_OTEL",
        "true or false",
        arguments=("broker", "get", "a.test/", *kit.peer),
        env={"VERSER_OTEL": "maybe"},
    )
