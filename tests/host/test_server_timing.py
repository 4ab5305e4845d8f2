"""A Host that says in each answer how long its request waited for a lease; by default it says nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.host.peers import Answer, Broker, Guest, running_host
from tests.host.test_streaming import active
from tests.support.certificates import Certificates
from verser2_guest_python.host import RequestRecord

HEADERS = {"date": "long ago", "server-timing": ["db;dur=53", "verser-lease;dur=99999"], "x-last": "1"}
FIELDS = [
    (b":status", b"200"),
    (b"date", b"long ago"),
    (b"server-timing", b"db;dur=53"),
    (b"server-timing", b"verser-lease;dur=99999"),
    (b"x-last", b"1"),
]


async def answered(certs: Certificates, **options: Any) -> tuple[Answer, RequestRecord]:
    """The answer to a request that had to wait, and the Host's record of it."""
    records: list[RequestRecord] = []
    async with (
        running_host(certs, **options) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        host.on_request(records.append)
        stream = broker.request()
        await active(host, 1)
        lease = await guest.lease()
        await lease.answer(await lease.request(), 200, HEADERS, b"hello")
        answer = await broker.answer(stream)
    (record,) = records
    assert (answer.status, answer.body) == (200, b"hello")
    assert record.queued_seconds > 0
    return answer, record


@pytest.mark.parametrize("options", [{}, {"server_timing": False}])
async def test_without_it_nothing_is_added(certs: Certificates, options: dict[str, Any]) -> None:
    answer, _ = await answered(certs, **options)
    assert list(answer.fields) == FIELDS


@pytest.mark.both_loops  # the clock of uvloop's loop knows milliseconds only
async def test_the_wait_is_said_behind_what_the_app_says(certs: Certificates) -> None:
    answer, record = await answered(certs, server_timing=True)
    *fields, (name, value) = answer.fields
    assert fields == FIELDS
    assert name == b"server-timing"
    said = re.fullmatch(rb"verser-lease;dur=([0-9]+\.[0-9]{3})", value)
    assert said is not None
    assert float(said[1]) > 0
    assert float(said[1]) == pytest.approx(record.queued_seconds * 1_000, abs=0.001)


async def test_each_kind_of_answer_says_it(certs: Certificates) -> None:
    async with (
        running_host(certs, server_timing=True) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        for method, status, body in (
            ("GET", 200, b"x"),
            ("HEAD", 200, b""),
            ("POST", 204, b""),
            ("GET", 502, b""),
        ):
            lease = await guest.lease()
            stream = broker.request(method)
            await lease.answer(await lease.request(), status, {}, body)
            answer = await broker.answer(stream)
            assert (answer.get("server-timing") or "").startswith("verser-lease;dur=")


async def test_errors_of_the_host_do_not_say_it(certs: Certificates) -> None:
    async with (
        running_host(certs, server_timing=True) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        answers = [await broker.fetch(lease_timeout_ms=1), await broker.fetch(domain="nobody.test")]
        lease = await guest.lease()
        stream = broker.request()
        await lease.fail(await lease.request(), "local-handler-failure", "boom", {})
        answers.append(await broker.answer(stream))
        assert [answer.error["code"] for answer in answers] == [
            "timeout",
            "missing-guest",
            "local-handler-failure",
        ]
        assert [answer.get("server-timing") for answer in answers] == [None, None, None]


async def test_a_head_that_just_fits_leaves_room_for_it(certs: Certificates) -> None:
    """The Host's own fields come on top of 64 KiB, of which a kilobyte is kept for them."""
    async with (
        running_host(certs, server_timing=True) as host,
        Guest(host, certs) as guest,
        Broker(host, certs) as broker,
    ):
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), 200, {"x-large": "x" * 16_200})
        answer = await broker.answer(stream)
        assert len(answer.get("x-large") or "") == 16_200
        assert answer.get("server-timing") is not None
