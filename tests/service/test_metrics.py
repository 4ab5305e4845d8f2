"""Metrics from what a Guest tells to what Prometheus reads."""

from __future__ import annotations

import json
import os
import sys
import time
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.service.asking import samples
from tests.support.certificates import Certificates
from verser2_guest_python.guest.facts import GuestFacts
from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.peer.facts import SessionFacts
from verser2_guest_python.service.certificates.expiry import CertificateExpiry
from verser2_guest_python.service.health.checks import answer
from verser2_guest_python.service.metrics.measures import GuestMeasures, Report, added, lasting
from verser2_guest_python.service.metrics.metric_table import METRICS, PREFIX, Kind
from verser2_guest_python.service.metrics.process_facts import process_report
from verser2_guest_python.service.metrics.prometheus import render
from verser2_guest_python.service.settings.model import TlsSettings

FACTS = GuestFacts(
    sessions=(SessionFacts("https://host", "a", 5.0, 0.25), SessionFacts("https://host", "a~2", 1.0, None)),
    requests_running=2,
    leases_idle=8,
    websockets_open=1,
    websocket_messages_received=3,
    websocket_messages_sent=4,
)


def completed(method: str, status: int, seconds: float = 0.02, reason: str | None = None) -> GuestEvent:
    fields = {"method": method, "status": status, "duration_ms": seconds * 1000, "reason": reason}
    return GuestEvent("request-completed", {**fields, "bytes_in": 10, "bytes_out": 20})


def measured() -> GuestMeasures:
    """One of everything."""
    measures = GuestMeasures()
    for event in (
        completed("GET", 200),
        completed("GET", 204, 120.0),
        completed("BREW", 418),
        completed("POST", 0, reason="app failed: ValueError"),
        completed("WEBSOCKET", 101),
        GuestEvent("reconnecting", {"cause": "goaway"}),
        GuestEvent("registered", {}),
    ):
        measures(event)
    measures.first_byte("GET", 0.01)
    measures.first_byte("BREW", 0.01)
    measures.lag.add(0.001)
    return measures


def report() -> Report:
    expiries = CertificateExpiry(TlsSettings())
    return measured().report(
        FACTS, guest_id="a", version="1", draining=False, lines_dropped=7, expiries=expiries()
    )


def text_of(reports: dict[str, Report]) -> str:
    return render(reports, "")[1].decode()


def test_what_is_counted_is_what_is_read() -> None:
    found = samples(text_of({"1": report()}))
    assert found["requests_total", "GET", "2xx", "1"] == 2
    assert found["requests_total", "other", "4xx", "1"] == 1
    assert found["requests_total", "POST", "none", "1"] == 1
    assert found["request_duration_seconds_sum", "GET", "1"] == pytest.approx(120.02)
    assert found["request_duration_seconds_bucket", "GET", "1"] == 2
    assert found["time_to_first_byte_seconds_count", "other", "1"] == 1
    assert found["app_errors_total", "1"] == 1
    assert found["websockets_total", "1xx", "1"] == 1
    assert found["websocket_bytes_total", "sent", "1"] == 20
    assert (found["request_bytes_total", "1"], found["response_bytes_total", "1"]) == (40, 80)
    assert found["reconnects_total", "goaway", "1"] == 1
    assert found["sessions", "https://host", "1"] == 2
    assert found["registered", "1"] == 1
    assert found["session_age_seconds", "https://host", "1"] == 5
    assert found["ping_round_trip_seconds", "https://host", "1"] == 0.25
    assert found["log_lines_dropped_total", "1"] == 7


def test_a_bucket_holds_what_is_at_most_its_bound() -> None:
    families = {family.name: family for family in text_string_to_metric_families(text_of({"1": report()}))}
    lag = families[PREFIX + "event_loop_lag_seconds"]
    buckets = {one.labels["le"]: one.value for one in lag.samples if one.name.endswith("_bucket")}
    assert buckets["0.001"] == buckets["+Inf"] == 1


def test_every_metric_is_reported_and_has_the_labels_of_the_table() -> None:
    reported = report() | process_report() | {"worker_starts_total": [([], 1)]}
    assert set(reported) == set(METRICS)
    for name, series in reported.items():
        for labels, value in series:
            assert len(labels) == len(METRICS[name].labels)
            assert isinstance(value, list) == (METRICS[name].kind is Kind.HISTOGRAM)
    for metric in METRICS.values():
        assert metric.sentence.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)


def test_processes_are_added_up_also_after_a_journey_as_json() -> None:
    one = json.loads(json.dumps(report()))
    both = added(one, report())
    found = samples(text_of({"1": both}))
    assert found["requests_total", "GET", "2xx", "1"] == 4
    assert found["request_duration_seconds_count", "GET", "1"] == 4
    assert found["requests_in_flight", "1"] == 4
    assert found["session_age_seconds", "https://host", "1"] == 5
    assert found["info", "a", "1", "1"] == 1
    kept = lasting(both)
    assert "requests_in_flight" not in kept
    assert samples(text_of({"1": kept}))["requests_total", "GET", "2xx", "1"] == 4


def test_how_long_certificates_hold_is_read_anew_when_they_change(
    certs: Certificates, tmp_path: Path
) -> None:
    cert, missing = tmp_path / "guest.pem", tmp_path / "missing.pem"
    cert.write_bytes(certs.guest.read_bytes())
    password = SecretStr(certs.password)
    tls = TlsSettings(cert_file=cert, pfx_file=certs.guest_pfx, pfx_password=password)
    expiry = CertificateExpiry(tls, missing)
    found = {labels[0]: value for labels, value in expiry()}
    assert set(found) == {str(cert), str(certs.guest_pfx)}
    assert found[str(cert)] == found[str(certs.guest_pfx)]
    assert isinstance(found[str(cert)], float)
    replacement = tmp_path / "new.pem"
    replacement.write_bytes(certs.expired.read_bytes())
    replacement.replace(cert)
    again = {labels[0]: value for labels, value in expiry()}
    assert again[str(cert)] < time.time() < found[str(cert)]  # type: ignore[operator]
    cert.write_text("no certificate")
    assert [labels for labels, _ in expiry()] == [[str(certs.guest_pfx)]]


def test_openmetrics_for_those_who_ask_for_it() -> None:
    content_type, body = render({"1": report()}, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone:
        metrics = METRICS

        async def reports(self) -> dict[str, Report]:
            return {"1": report()}

    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    found = await answer(Alone(), "/metrics", {})  # type: ignore[arg-type]
    assert found.status is HTTPStatus.NOT_IMPLEMENTED
    assert b"pip install 'verser2-guest-python[metrics]'" in found.body


def test_what_a_process_takes_is_what_the_kernel_says(tmp_path: Path) -> None:
    before = {name: series[0][1] for name, series in process_report().items()}
    files = [(tmp_path / "file").open("w") for _ in range(3)]
    ballast = b"x" * 64_000_000
    sum(number * number for number in range(300_000))
    after = {name: series[0][1] for name, series in process_report().items()}
    for file in files:
        file.close()
    assert len(ballast) == 64_000_000
    assert set(before) <= {metric.name for metric in METRICS.values() if metric.is_standard}
    assert after["process_cpu_seconds_total"] > before["process_cpu_seconds_total"]
    if sys.platform != "linux":
        return
    assert after["process_open_fds"] == before["process_open_fds"] + 3
    assert after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"] > 50_000_000
    assert after["process_max_fds"] >= after["process_open_fds"]
    assert 0 <= time.time() - after["process_start_time_seconds"] < 86_400
    assert abs(before["process_start_time_seconds"] - after["process_start_time_seconds"]) <= 1


def test_a_name_with_brackets_and_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    assert next(iter(process_report(tmp_path))) == "process_cpu_seconds_total"
    assert "process_resident_memory_bytes" not in process_report(tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").write_text(f"1 (a) b) c) S {' '.join(map(str, range(4, 53)))}\n")
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1000\n")
    report = process_report(tmp_path)
    assert report["process_resident_memory_bytes"] == [([], 24 * os.sysconf("SC_PAGE_SIZE"))]
    assert report["process_start_time_seconds"] == [([], 1000 + 22 / os.sysconf("SC_CLK_TCK"))]
