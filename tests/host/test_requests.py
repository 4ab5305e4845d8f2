"""Requests and answers as they pass a Host: what stays, changes, is refused (protocol.md §5 to §8)."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tests.host.peers import DOMAIN, Broker, Guest, failed, running_host
from tests.support.certificates import Certificates
from verser2_guest_python.host import RequestRecord
from verser2_guest_python.host.exchange import Exchange
from verser2_guest_python.wire.envelopes import encode_response


@pytest.mark.both_loops
async def test_a_request_and_its_answer(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request("POST", "/items?q=1", {"content-type": "text/plain", "x-a": "é"}, end=False)
        await stream.write(b"request body", end=True)
        head = await lease.request()
        assert (head.request_id, head.source_id, head.target_id) == ("broker-a-1", "broker-a", "guest-a")
        assert (head.method, head.path) == ("POST", "/items?q=1")
        assert head.headers == {"content-type": "text/plain", "x-a": "é", "host": DOMAIN}
        assert await lease.body() == b"request body"
        await lease.answer(head, 201, {"content-type": "text/html", "x-b": "ü"}, b"answer body")
        answer = await broker.answer(stream)
        assert (answer.status, answer.body) == (201, b"answer body")
        assert (answer.get("content-type"), answer.get("x-b")) == ("text/html", "ü")
        assert answer.get("date") is not None
        assert lease.stream.closed
        assert stream.closed
        assert host.get_stats().active_requests == 0


async def test_a_request_that_is_over_leaves_nothing_for_the_garbage_collector(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        gc.collect()
        gc.disable()
        try:
            for number in range(5):
                lease = await guest.lease()
                stream = broker.request("POST", "/", end=False)
                if number % 2:
                    await stream.write(b"request body")
                    head = await lease.request()
                    await lease.answer(head, 200, {}, b"before all of the request has come")
                    await stream.write(b"", end=True)
                else:
                    await stream.write(b"", end=True)
                    await lease.answer(await lease.request(), 200, {}, b"answer")
                assert (await broker.answer(stream)).status == 200
            while host.get_stats().active_requests:
                await broker.session.ping()
            assert [one for one in gc.get_objects() if isinstance(one, Exchange)] == []
        finally:
            gc.enable()


async def test_leases_are_taken_first_in_first_out(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        leases = [await guest.lease() for _ in range(3)]
        for number, lease in enumerate(leases):
            stream = broker.request(path=f"/{number}")
            head = await lease.request()
            assert head.path == f"/{number}"
            await lease.answer(head, 200, {}, b"%d" % number)
            assert (await broker.answer(stream)).body == b"%d" % number


async def test_repeated_headers_stay_apart(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request(), 200, {"set-cookie": ["a=1", "b=2"], "date": "long ago"})
        answer = await broker.answer(stream)
        assert answer.all("set-cookie") == ["a=1", "b=2"]
        assert answer.get("date") == "long ago"


async def test_hop_by_hop_headers_and_names_of_the_host_do_not_pass(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request(headers={"te": "trailers", "transfer-encoding": "chunked", "x-kept": "1"})
        head = await lease.request()
        assert head.headers == {"x-kept": "1", "host": DOMAIN}
        await lease.answer(
            head,
            200,
            {
                "connection": "close, x-listed",
                "x-listed": "1",
                "transfer-encoding": "chunked",
                "keep-alive": "1",
                "X-Verser-Error": "timeout",
                "x-kept": "1",
            },
        )
        answer = await broker.answer(stream)
        assert {name for name, _ in answer.fields} == {b":status", b"x-kept", b"date"}


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 204), ("GET", 304), ("POST", 304)]
)
@pytest.mark.parametrize("body", [b"", b"a body that may not be"])
async def test_answers_without_body_lose_their_content_length(
    certs: Certificates, method: str, status: int, body: bytes
) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request(method)
        head = await lease.request()
        await lease.answer(head, status, {"content-length": "1234", "etag": "x"}, body, end=False)
        await lease.stream.write(body, end=True)
        answer = await broker.answer(stream)
        assert (answer.status, answer.body, answer.get("content-length")) == (status, b"", None)
        assert answer.get("etag") == "x"


@pytest.mark.parametrize(
    ("given", "host_header", "forwarded"),
    [
        (None, DOMAIN, None),
        (DOMAIN, DOMAIN, None),
        ("A.Local.Test", DOMAIN, None),
        (f"{DOMAIN}:8443", DOMAIN, f"{DOMAIN}:8443"),
        ("public.example.com", DOMAIN, "public.example.com"),
    ],
)
async def test_the_guest_sees_its_own_domain_as_host(
    certs: Certificates, given: str | None, host_header: str, forwarded: str | None
) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        broker.request(headers={"host": given} if given else {})
        head = await lease.request()
        assert head.headers["host"] == host_header
        assert head.headers.get("x-forwarded-host") == forwarded


@pytest.mark.parametrize(
    "given",
    [
        {"domain": "A.LOCAL.test.:99"},
        {"domain": None, "headers": {"host": f"{DOMAIN}:8443"}},
        {"domain": None},
    ],
)
async def test_how_a_route_is_found(certs: Certificates, given: dict[str, Any]) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        broker.request(**given)
        assert (await lease.request()).headers["host"] == DOMAIN


@pytest.mark.parametrize(
    "given",
    [
        {"target": "guest-b"},
        {"domain": "b.local.test"},
        {"domain": None, "headers": {"host": "b.local.test"}},
        {"target": "two-domains", "domain": None},
        {"target": "broker-a"},
    ],
)
async def test_no_route_is_a_missing_guest(certs: Certificates, given: dict[str, Any]) -> None:
    async with (
        running_host(certs) as host,
        Guest(host, certs),
        Guest(host, certs, "two-domains", "c.test", "d.test"),
        Broker(host, certs) as broker,
    ):
        answer = await broker.fetch(**given)
        assert answer.status == 502
        assert answer.error["code"] == "missing-guest"
        assert answer.error["context"]["targetId"] == given.get("target", "guest-a")
        assert answer.error["context"]["stage"] == "queued"
        assert answer.error["context"]["requestId"] == "broker-a-1"


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "G ET"},
        {"method": ""},
        {"path": "no-slash"},
        {"path": "/with space"},
        {"path": ""},
        {"target-id": ""},
        {"headers": "[]"},
        {"headers": '{"a":1}'},
        {"headers": '{"a b":"1"}'},
        {"headers": '{"a":"1\\n2"}'},
        {"headers": '{"Connection":"close"}'},
        {"headers": '{"upgrade":"h2c"}'},
        {"headers": '{"keep-alive":"1"}'},
        {"lease-acquire-timeout-ms": "soon"},
    ],
)
async def test_a_malformed_request_reaches_nobody(certs: Certificates, fields: dict[str, str]) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        await guest.lease()
        answer = await broker.fetch(fields=fields)
        assert answer.status == 502
        assert answer.error["code"] == "protocol-error"
        assert answer.error["context"]["stage"] == "queued"
        assert host.get_stats().idle_leases == 1


async def test_a_broker_speaks_for_itself_only(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        await guest.lease()
        for source in ("broker-b", ""):
            answer = await broker.fetch(fields={"source-id": source})
            assert answer.error["code"] == "authorization-denied"


async def test_a_missing_request_id_is_made_up(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        ids = set()
        for _ in range(2):
            lease = await guest.lease()
            stream = broker.request(fields={"request-id": ""})
            head = await lease.request()
            ids.add(head.request_id)
            await lease.answer(head)
            assert (await broker.answer(stream)).status == 200
        assert len(ids) == 2
        assert "" not in ids


async def test_a_head_that_no_frame_carries_is_answered_431(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        answer = await broker.fetch(headers={"x-large": "x" * 16_300})
        assert answer.status == 431
        assert answer.error["code"] == "protocol-error"
        stream = broker.request(headers={"x-large": "x" * 16_100})
        head = await lease.request()
        assert len(head.headers["x-large"]) == 16_100
        await lease.answer(head)
        assert (await broker.answer(stream)).status == 200


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("local-handler-failure", "local-handler-failure"),
        ("timeout", "protocol-error"),
        ("??", "protocol-error"),
    ],
)
async def test_an_error_of_the_guest(certs: Certificates, code: str, told: str) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request(path="/boom")
        await lease.fail(await lease.request(), code, "boom", {"guestId": "guest-a", "path": "/boom", "n": 1})
        answer = await broker.answer(stream)
        assert answer.status == 502
        assert answer.error["code"] == told
        assert answer.error["message"] == "boom"
        assert answer.error["context"]["path"] == "/boom"
        assert answer.error["context"]["stage"] == "sent"


def response(metadata: bytes, kind: int = 2) -> bytes:
    return bytes((1, kind)) + len(metadata).to_bytes(4, "big") + metadata


@pytest.mark.parametrize(
    "said",
    [
        response(b'{"requestId":"other","statusCode":200,"headers":{}}'),
        response(b'{"requestId":"broker-a-1","statusCode":101,"headers":{}}'),
        response(b'{"requestId":"broker-a-1","statusCode":"200","headers":{}}'),
        response(b'{"requestId":"broker-a-1","headers":{}}'),
        response(b'{"requestId":"broker-a-1","statusCode":200,"headers":[]}'),
        response(b'{"requestId":"broker-a-1","statusCode":200,"headers":{"a b":"1"}}'),
        response(b'{"requestId":"broker-a-1","statusCode":200,"headers":{"a":"1\\r\\nb: 2"}}'),
        response('{"requestId":"broker-a-1","statusCode":200,"headers":{"a":"→"}}'.encode()),
        response(b'{"requestId":"broker-a-1","statusCode":200,"headers":{"content-length":"-1"}}'),
        response(b'{"requestId":"broker-a-1","statusCode":200,"headers":{"content-length":["1","2"]}}'),
        response(b'{"requestId":"broker-a-1","method":"GET","path":"/","headers":{}}', kind=1),
        response(b"[]"),
        response(b"{"),
        b"\x02" + response(b"{}")[1:],
        response(b"{}", kind=9),
        b"\x01\x02\xff\xff\xff\xff",
        response(
            b'{"requestId":"broker-a-1","statusCode":200,"headers":{'
            + b",".join(b'"%d":""' % number for number in range(4000))
            + b"}}"
        ),
    ],
)
async def test_a_wrong_answer_is_a_protocol_error_and_the_lease_is_reset(
    certs: Certificates, said: bytes
) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        await lease.request()
        await lease.stream.write(said)
        answer = await broker.answer(stream)
        assert answer.status == 502
        assert answer.error["code"] == "protocol-error"
        assert answer.error["context"]["stage"] == "sent"
        assert await failed(lease.stream) == 1
        # The session goes on.
        lease = await guest.lease()
        stream = broker.request()
        await lease.answer(await lease.request())
        assert (await broker.answer(stream)).status == 200


async def test_an_answer_head_may_come_in_pieces(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        lease = await guest.lease()
        stream = broker.request()
        head = await lease.request()
        said = encode_response(head.request_id, 200, {"a": "b"}) + b"body"
        for byte in said:
            await lease.stream.write(bytes((byte,)))
            await guest.session.ping()
        await lease.stream.write(b"", end=True)
        answer = await broker.answer(stream)
        assert (answer.get("a"), answer.body) == ("b", b"body")


async def test_records_tell_of_each_request(certs: Certificates) -> None:
    async with running_host(certs) as host, Guest(host, certs) as guest, Broker(host, certs) as broker:
        records: list[RequestRecord] = []
        stop = host.on_request(records.append)
        lease = await guest.lease()
        stream = broker.request("POST", "/x", end=False)
        await stream.write(b"12345", end=True)
        await lease.answer(await lease.request(), 200, {}, b"123")
        await broker.answer(stream)
        await broker.fetch(target="nobody")
        await broker.fetch(fields={"method": ""})
        done, missing, malformed = records
        assert (done.source_id, done.target_id, done.domain) == ("broker-a", "guest-a", DOMAIN)
        assert (done.method, done.path, done.status, done.error) == ("POST", "/x", 200, None)
        assert (done.bytes_in, done.bytes_out) == (5, 3)
        assert 0 <= done.queued_seconds <= done.seconds
        assert (missing.status, missing.error, missing.target_id) == (502, "missing-guest", "nobody")
        assert (malformed.error, malformed.request_id) == ("protocol-error", "broker-a-3")
        stop()
        await broker.fetch(target="nobody")
        assert len(records) == 3
