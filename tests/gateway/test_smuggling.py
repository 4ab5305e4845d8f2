"""Requests that two servers could read in two ways: each ends in 400, and nothing behind it is read."""

from __future__ import annotations

import pytest

from tests.gateway.gateways import Place, gateway_at
from tests.gateway.raw import connected, statuses
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import Certificates

HOST = b"Host: " + DOMAIN.encode() + b"\r\n"
POST = b"POST /count HTTP/1.1\r\n" + HOST
GET = b"GET / HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /describe/hidden HTTP/1.1\r\n" + HOST + b"\r\n"
EMPTY = b"0\r\n\r\n"

PAYLOADS = {
    "CL.TE": POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n" + EMPTY,
    "TE.CL": POST + CHUNKED + b"Content-Length: 6\r\n\r\n" + EMPTY,
    "TE.TE": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + EMPTY,
    "TE twice": POST + CHUNKED + CHUNKED + b"\r\n" + EMPTY,
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + EMPTY,
    "TE identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + EMPTY,
    "TE list": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + EMPTY,
    "TE list turned": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + EMPTY,
    "TE quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + EMPTY,
    "TE vertical tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + EMPTY,
    "TE NUL": POST + b"Transfer-Encoding: chunked\x00\r\n\r\n" + EMPTY,
    "TE folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + EMPTY,
    "TE space before colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + EMPTY,
    "TE behind a folded line": POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + EMPTY,
    "TE bare CR": POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n" + EMPTY,
    "TE bare LF": POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY,
    "TE in HTTP/1.0": b"POST /count HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + EMPTY,
    "CL twice": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "CL twice the same": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "CL plus": POST + b"Content-Length: +5\r\n\r\nhello",
    "CL minus": POST + b"Content-Length: -5\r\n\r\nhello",
    "CL hexadecimal": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "CL underscore": POST + b"Content-Length: 1_0\r\n\r\nhello",
    "CL empty": POST + b"Content-Length:\r\n\r\nhello",
    "CL too many digits": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhello",
    "CL space before colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "chunk size in words": POST + CHUNKED + b"\r\nfive\r\nhello\r\n" + EMPTY,
    "chunk size 0x": POST + CHUNKED + b"\r\n0x5\r\nhello\r\n" + EMPTY,
    "chunk size plus": POST + CHUNKED + b"\r\n+5\r\nhello\r\n" + EMPTY,
    "chunk size minus": POST + CHUNKED + b"\r\n-5\r\nhello\r\n" + EMPTY,
    "chunk size space": POST + CHUNKED + b"\r\n5 \r\nhello\r\n" + EMPTY,
    "chunk size overflow": POST + CHUNKED + b"\r\nFFFFFFFFFFFFFFFFF\r\nhello\r\n" + EMPTY,
    "chunk size LF": POST + CHUNKED + b"\r\n5\nhello\r\n" + EMPTY,
    "chunk longer than said": POST + CHUNKED + b"\r\n5\r\nhello!!\r\n" + EMPTY,
    "chunk without its end": POST + CHUNKED + b"\r\n5\r\nhello" + EMPTY,
    "chunk ends in LF": POST + CHUNKED + b"\r\n5\r\nhello\n" + EMPTY,
    "chunk extension LF": POST + CHUNKED + b"\r\n5;x\nhello\r\n" + EMPTY,
    "last chunk LF": POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\n",
    "CL in trailers": POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "LF only": b"GET / HTTP/1.1\nHost: " + DOMAIN.encode() + b"\n\n",
    "folded header": GET + b"X: y\r\n z\r\n\r\n",
    "folded with tab": GET + b"X: y\r\n\tz\r\n\r\n",
    "space before the first header": b"GET / HTTP/1.1\r\n " + HOST + b"\r\n",
    "space before colon": GET + b"X : y\r\n\r\n",
    "name with a space": GET + b"X y: z\r\n\r\n",
    "no name": GET + b": z\r\n\r\n",
    "no colon": GET + b"X\r\n\r\n",
    "NUL in a value": GET + b"X: y\x00z\r\n\r\n",
    "NUL in a name": GET + b"X\x00: y\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "control in a value": GET + b"X: y\x01z\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "two Hosts": GET + b"Host: other.test\r\n\r\n",
    "Host twice": GET + HOST + b"\r\n",
    "Host list": b"GET / HTTP/1.1\r\nHost: " + DOMAIN.encode() + b", other.test\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: " + DOMAIN.encode() + b"/x\r\n\r\n",
    "Host with a user": b"GET / HTTP/1.1\r\nHost: me@" + DOMAIN.encode() + b"\r\n\r\n",
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "absolute target of another host": b"GET http://other.test/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute target with a user": b"GET http://me@" + DOMAIN.encode() + b"/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute target of another scheme": b"GET ftp://" + DOMAIN.encode() + b"/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority as target": b"CONNECT " + DOMAIN.encode() + b":443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "tunnel to a path": b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment in the target": b"GET /#x HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "not ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab in the line": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "space behind the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "method in lower case": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "method of its own": b"SMUGGLE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "WebSocket with a body": GET
    + b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 3\r\n\r\nabc",
}


async def test_what_could_be_read_in_two_ways_is_refused(certs: Certificates) -> None:
    async with gateway_at(certs) as place:
        answers = {name: await statuses(place.port, data + HIDDEN) for name, data in PAYLOADS.items()}
        assert {name: found for name, found in answers.items() if found != [400]} == {}
        assert all(path != "/describe/hidden" for path in place.diary.over)
        assert place.gateway.active == 0
        assert await statuses(place.port, GET + b"Connection: close\r\n\r\n") == [200]


async def test_what_has_one_meaning_is_answered(certs: Certificates) -> None:
    absolute = b"GET http://" + DOMAIN.upper().encode() + b"/ HTTP/1.1\r\n" + HOST
    end = b"Connection: close\r\n\r\n"
    async with gateway_at(certs) as place:
        for data, expected in {
            absolute + end: [200],
            b"\r\n\r\n" + GET + end: [200],
            b"GET / HTTP/1.0\r\n" + HOST + b"\r\n": [200],
            POST + CHUNKED + end + b"005;name=value\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n": [200],
            POST + b"Content-Length: 05\r\n" + end + b"hello": [200],
            GET + b"\r\n" + GET + end: [200, 200],
            GET + b"X-Empty:\r\nX-Tab: a\tb\r\nX-High: \xe9\r\n" + end: [200],
        }.items():
            assert await statuses(place.port, data) == expected, data


async def test_an_answer_is_never_taken_for_that_to_another_request(certs: Certificates) -> None:
    """What comes behind a request that is being answered, and is none, is not answered in its place."""
    async with gateway_at(certs) as place, connected(place.port) as raw:
        raw.say(GET.replace(b"GET / ", b"GET /wait ") + b"\r\n" + b"nonsense\r\n\r\n" + HIDDEN)
        await _waiting(place)
        place.diary.go_on.set()
        assert await raw.answer() == (200, b"waited")
        assert await raw.rest() == b""
        assert place.diary.over == ["/wait"]


async def test_a_body_that_turns_out_to_be_none_ends_its_request(certs: Certificates) -> None:
    async with gateway_at(certs) as place:
        async with connected(place.port) as raw:
            raw.say(POST.replace(b"/count", b"/wait") + CHUNKED + b"\r\n5\r\nhello\r\n")
            await _waiting(place)
            raw.say(b"nonsense\r\n")
            assert (await raw.answer())[0] == 400
        async with connected(place.port) as raw:
            raw.say(POST.replace(b"/count", b"/echo") + CHUNKED + b"\r\n5\r\nhello\r\n")
            assert (await raw.head())[0] == 200
            raw.say(b"nonsense\r\n")
            assert b"HTTP/1.1" not in await raw.rest()


async def _waiting(place: Place) -> None:
    from tests.support.waiting import until

    await until(lambda: "waiting" in place.diary.events)


@pytest.mark.parametrize("offset", range(1, 60, 7))
async def test_bytes_that_come_one_after_the_other(certs: Certificates, offset: int) -> None:
    """Where the packets end makes no difference."""
    data = PAYLOADS["CL.TE"]
    async with gateway_at(certs) as place, connected(place.port) as raw:
        raw.say(data[:offset])
        await raw.writer.drain()
        raw.say(data[offset:])
        assert (await raw.answer())[0] == 400
