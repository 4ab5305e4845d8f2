"""Dashboards and alerts: every metric and label that they use is in what real processes answer."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.processes import WAIT_SECONDS, start
from tests.docs.markdown import ROOT
from tests.service.asking import get, raw
from tests.service.conftest import APPS
from tests.support.certificates import Certificates
from verser2_guest_python import VerserError, create_verser_broker
from verser2_guest_python.service.metrics.metric_table import (
    GATEWAY_METRICS,
    GATEWAY_PREFIX,
    HOST_METRICS,
    HOST_PREFIX,
    METRICS,
    PREFIX,
    WORKER_LABEL,
    Kind,
    Metric,
)

DASHBOARDS = sorted((ROOT / "config" / "grafana").glob("*.json"))
ALERTS = ROOT / "config" / "prometheus" / "alerts.yml"
OF_PROMETHEUS = {"job", "instance"}
SAMPLES = {Kind.COUNTER: ("",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
TABLES = {PREFIX: METRICS, HOST_PREFIX: HOST_METRICS, GATEWAY_PREFIX: GATEWAY_METRICS}
USED = re.compile(r"\b((?:verser|process)_\w+)(?:\{([^}]*)\})?")

Scrapes = dict[str, dict[str, Family]]
"""By prefix, the families of one process, by their names."""


@pytest.fixture(scope="module")
def scrapes(certs: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrapes]:
    """What a Host, a Guest and a gateway answer once they have served and failed."""
    place = tmp_path_factory.mktemp("scrapes")
    sockets = {prefix: place / f"{prefix}sock" for prefix in TABLES}
    listen = ("--port", "0", "--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    door = ("--listen", "127.0.0.1:0", "--map", "public.test=shown.test")
    names = ("counting:app", "--app-dir", APPS, "--guest-id", "shown", "--domain", "shown.test")
    env = {"COUNTING_JOURNAL": str(place / "journal")}
    with start("host", *listen, "--health-socket", sockets[HOST_PREFIX]) as host:
        port = json.loads(host.says('"listening"'))["port"]
        url = f"https://localhost:{port}"
        peer = ("--host-url", url, "--tls-ca-file", certs.ca)
        with (
            start(*names, *peer, "--health-socket", sockets[PREFIX], env=env) as guest,
            start("gateway", *door, *peer, "--health-socket", sockets[GATEWAY_PREFIX]) as gateway,
        ):
            guest.says('"registered"')
            gateway.says('"registered"')
            asyncio.run(_ask(url, certs, json.loads(gateway.says('"listening"'))["url"]))
            gateway.says('"request"')
            yield {prefix: _families(path) for prefix, path in sockets.items()}
            for process in (gateway, guest, host):
                assert process.stop() == 0


async def _ask(url: str, certs: Certificates, door: str) -> None:
    async with create_verser_broker(host_url=url, tls_ca_file=certs.ca) as broker:
        await broker.wait_for_route("shown.test")
        await (await broker.get("http://shown.test/?0")).read()
        for failing in ("http://shown.test/?x", "ws://shown.test/"):
            with pytest.raises(VerserError):
                await (broker.get(failing) if failing.startswith("http") else broker.websocket(failing))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.rpartition(":")[2]))
    writer.write(b"GET /?x HTTP/1.1\r\nhost: public.test\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 502 ")
    writer.close()


def _families(path: Path) -> dict[str, Family]:
    code, text = asyncio.run(get(path, "/metrics"))
    assert code == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    strict = list(openmetrics.text_string_to_metric_families(asyncio.run(_openmetrics(path))))
    assert [family.name for family in strict] == list(families), "the strict format says the same"
    return families


async def _openmetrics(path: Path) -> str:
    accept = "accept: application/openmetrics-text; version=1.0.0"
    answer = await raw(path, f"GET /metrics HTTP/1.1\r\nhost: localhost\r\n{accept}\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/openmetrics-text" in head.lower()
    return body.decode()


def table_of(name: str, beside: str) -> tuple[str, Metric] | None:
    """The prefix and the metric of a sample of this name; what all roles have is meant of those `beside`."""
    for prefix, metrics in TABLES.items():
        for metric in metrics.values():
            if metric.is_standard and prefix not in beside:
                continue
            if name in {f"{metric.full_name(prefix)}{suffix}" for suffix in SAMPLES[metric.kind]}:
                return prefix, metric
    return None


def labels_of(prefix: str, metric: Metric) -> set[str]:
    own = {WORKER_LABEL} if prefix == PREFIX else set()
    return {*metric.labels, *own, *OF_PROMETHEUS, *({"le"} if metric.kind is Kind.HISTOGRAM else ())}


def check(expression: str, scrapes: Scrapes, beside: str = "") -> set[str]:
    """Whether all that an expression uses is there; the metrics that it uses, by their names.

    `beside` has the prefix of the role, where the expression itself has not.
    """
    used, labels = set(), set()
    for name, selector in USED.findall(expression):
        found = table_of(name, beside + expression)
        assert found is not None, f"{name}: {expression}"
        prefix, metric = found
        family = metric.full_name(prefix).removesuffix("_total")
        assert family in scrapes[prefix], f"{name} is not scraped"
        known = labels_of(prefix, metric)
        assert {one.strip() for one in re.findall(r"(\w+)\s*[=!]~?[\"`]", selector)} <= known, expression
        used.add(metric.full_name(prefix))
        labels |= known
    assert used, expression
    by = {one.strip() for names in re.findall(r" by \(([^)]*)\)", expression) for one in names.split(",")}
    assert by <= labels, expression
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing), expression
    return used


def test_what_is_scraped_is_as_the_tables_say(scrapes: Scrapes, certs: Certificates) -> None:
    """By the conventions of Prometheus too: a help text for each, base units, `_total` for counters."""
    for prefix, metrics in TABLES.items():
        families = scrapes[prefix]
        assert set(families) == {one.full_name(prefix).removesuffix("_total") for one in metrics.values()}
        for metric in metrics.values():
            family = families[metric.full_name(prefix).removesuffix("_total")]
            assert family.type == metric.kind.value
            assert family.documentation.endswith(".")
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    assert set(sample.labels) <= labels_of(prefix, metric) - OF_PROMETHEUS
                    assert {*metric.labels} <= set(sample.labels)
            if metric.kind is Kind.HISTOGRAM:
                assert metric.name.endswith(("_seconds", "_bytes"))
            assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|kib|mib)(_|$)", metric.name)
            assert metric.name == metric.name.lower()
    host = scrapes[HOST_PREFIX]
    (expiry,) = host[f"{HOST_PREFIX}certificate_expiry_timestamp_seconds"].samples
    assert expiry.labels["file"] == str(certs.host)
    domains = {one.labels["domain"] for one in host[f"{HOST_PREFIX}domain_requests"].samples}
    assert domains == {"shown.test"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_uses_what_there_is(path: Path, scrapes: Scrapes) -> None:
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    expressions += [one["query"]["query"] for one in dashboard["templating"]["list"] if "datasource" in one]
    (prefix,) = {name for name in TABLES if name.removesuffix("_").replace("_", "2-") == path.stem}
    used = set().union(*(check(expression, scrapes, prefix) for expression in expressions))
    assert used == {one.full_name(prefix) for one in TABLES[prefix].values()}, (
        "every metric has its place on it"
    )
    for panel in panels:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            by = re.search(r" by \(([^)]*)\)", target["expr"])
            assert shown <= {one.strip() for one in by[1].split(",")} if by else not shown
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in panels]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(cells) == len(set(cells)), "no panel lies on another"
    assert all(x + w <= 24 for x, _, w, _ in places)


def test_dashboards_have_names_of_their_own() -> None:
    dashboards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len(dashboards) == len(TABLES)
    for key in ("uid", "title"):
        assert len({one[key] for one in dashboards}) == len(dashboards)


def test_an_alert_uses_what_there_is_and_says_what_to_do(scrapes: Scrapes) -> None:
    groups: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        check(rule["expr"], scrapes)
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["annotations"]["description"].endswith(".")
        kept = re.findall(r" by \(([^)]*)\)", rule["expr"])
        for text in rule["annotations"].values():
            for label in re.findall(r"\$labels\.(\w+)", text):
                # What is not summed keeps its labels, those of Prometheus among them
                assert all(label in names for names in kept) if kept else label in OF_PROMETHEUS
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert {group["name"] for group in groups} >= {f"verser2-{role}" for role in ("guest", "host", "gateway")}
    if (tool := shutil.which("promtool")) is not None:
        done = subprocess.run(
            [tool, "check", "rules", str(ALERTS)], capture_output=True, text=True, timeout=WAIT_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
