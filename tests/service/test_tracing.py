"""`--otel` of a real process: its spans arrive at a collector, and it ends although that is away."""

from __future__ import annotations

import signal
from importlib.util import find_spec

import pytest

from tests.service.conftest import Place, registered
from tests.service.test_serving_options import closed_port
from tests.service.test_workers import workers
from tests.support.collector import collector
from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.service.dev.tracing import DevTracing
from verser2_guest_python.service.process import tracing


@pytest.mark.parametrize(
    ("variables", "name"),
    [({}, "traced"), ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop"}, "shop")],
)
async def test_spans_of_a_guest_arrive_and_its_name_is_theirs(
    place: Place, variables: dict[str, str], name: str
) -> None:
    with (
        collector() as found,
        place.guest("traced", "--otel", **found.env, **variables) as process,
    ):
        await registered(process, "traced")
        async with place.broker() as broker:
            await broker.wait_for_route("traced.test")
            await (await broker.get("http://traced.test/?0")).read()
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.transcript()
        (span,) = found.spans
        assert (span.service, span.name, span.kind) == (name, "GET", "SPAN_KIND_SERVER")
        assert span.attributes["server.address"] == "traced.test"
        assert span.attributes["verser.request_id"]


async def test_the_last_spans_of_workers_arrive_when_they_end(place: Place) -> None:
    with collector() as found:
        async with workers(place, "--otel", **found.env) as (process, broker):
            answers = [await broker.get("http://team.test/?0") for _ in range(6)]
            served = [answer.target_id for answer in answers]
            for answer in answers:
                await answer.read()
            process.send(signal.SIGTERM)  # long before they would have been sent
            assert process.wait() == 0, process.transcript()
        assert set(served) == {"team-1", "team-2"}
        assert sorted(span.attributes["verser.guest_id"] for span in found.spans) == sorted(served)
        assert {span.service for span in found.spans} == {"team"}


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
    with pytest.raises(VerserConfigurationError, match=r"pip install 'verser2-guest-python\[otel\]'"):
        DevTracing(wanted=True)
    DevTracing(wanted=False)
