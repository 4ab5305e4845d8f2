"""Peers that mean harm, against a Host with its defaults: they are ended, and nobody else notices.

Each attack shows that the Host's memory stays where it was, that its log names the limit, the address and
the peer, and that a Guest and a Broker are served meanwhile and after.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest

from tests.host.attacks import LEASE, attacked_host, broker_request, flood, request_fields
from tests.host.peers import Broker, Guest, Lease
from tests.http2 import frames as h2f
from tests.http2.frames import Hpack
from tests.support.certificates import Certificates
from verser2_guest_python.http2 import Http2Error

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells how much memory was needed at most"
)

MAX_GROWN_MB = 24.0
BATCH = 100
STALLED = 40


def literal(fields: h2f.Fields) -> bytes:
    """A header block that leaves HPACK's table as it is (RFC 7541 §6.2.2)."""
    block = b""
    for name, value in fields:
        for text in (name, value):
            assert len(text) < 127
        block += b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value
    return block


def opened(fields: h2f.Fields, then: bytes = b"") -> Iterator[bytes]:
    """Streams that are opened one after the other, each with a frame of its own behind it."""
    block = literal(fields)
    for start in count(3, 2 * BATCH):
        piece = b""
        for stream_id in range(start, start + 2 * BATCH, 2):
            piece += h2f.headers_frames(stream_id, block)
            if then:
                piece += then[:5] + stream_id.to_bytes(4, "big") + then[9:]
        yield piece


RESET = h2f.rst_stream(1, 8)
BROKEN = h2f.window_update(1, 0)  # which makes the Host reset the stream (RFC 9113 §6.9)


async def test_streams_that_are_opened_for_nothing(certs: Certificates) -> None:
    """Rapid reset (CVE-2023-44487), and its kin."""
    attacks = [
        ("broker", broker_request(), RESET, "resets"),
        ("guest", LEASE, RESET, "resets"),
        ("broker", broker_request("POST"), BROKEN, "resets"),
        (None, request_fields("/verser/register"), RESET, "streams-before-registration"),
        (None, broker_request(), b"", "streams-before-registration"),
        ("guest", request_fields("/nowhere"), b"", "refusals"),
    ]
    async with attacked_host(certs) as attacked:
        for role, fields, then, limit in attacks:
            async with attacked.attacker(role) as peer:
                await flood(peer, opened(fields, then), 200)
                await attacked.ended(peer, limit, "mallory" if role else None)
                await attacked.goes_on(5)
        assert attacked.grown_mb < MAX_GROWN_MB


async def test_floods(certs: Certificates) -> None:
    """CVE-2019-9512, CVE-2019-9515, CVE-2019-9518, and whatever else does nothing."""
    floods = [
        (h2f.ping(), "pings"),
        (h2f.settings_frame({h2f.INITIAL_WINDOW_SIZE: 5}), "settings"),
        (h2f.data_frame(3, b""), "idle_frames"),
        (h2f.data_frame(3, b"", padding=0), "idle_frames"),
        (h2f.data_frame(1, b"late"), "idle_frames"),
        (h2f.frame(h2f.PRIORITY, 3, bytes(5)), "idle_frames"),
        (h2f.frame(0xAB, 3, b"unknown"), "idle_frames"),
        (h2f.window_update(0, 1), "idle_frames"),
        (h2f.window_update(3, 1), "idle_frames"),
        (h2f.SETTINGS_ACK, "idle_frames"),
        (h2f.ping(ack=True), "idle_frames"),
        (h2f.goaway(0), "idle_frames"),
    ]
    async with attacked_host(certs) as attacked:
        for frame, limit in floods:
            async with attacked.attacker("broker") as peer:
                peer.send_fields(3, broker_request("POST"))
                await flood(peer, repeat(frame * BATCH), 3_000)
                await attacked.ended(peer, limit, "mallory")
                await attacked.goes_on(5)
        assert attacked.grown_mb < MAX_GROWN_MB


def continuations(first: bytes, more: bytes) -> Iterator[bytes]:
    yield h2f.frame(h2f.HEADERS, 3, first)
    yield from repeat(h2f.frame(h2f.CONTINUATION, 3, more))


def bomb() -> Iterator[bytes]:
    """One large field in HPACK's table, and a block that names it thousands of times in a byte each."""
    hpack = Hpack()
    block = hpack.encode([*request_fields("/nowhere"), (b"x-bomb", b"b" * 4_000)])
    yield h2f.headers_frames(3, block)
    yield h2f.headers_frames(5, literal(request_fields("/nowhere")) + b"\xbe" * 10_000)


def crumbs() -> Iterator[bytes]:
    """Many small fields, each of which is an object at the other end."""
    yield h2f.headers_frames(3, literal([*request_fields("/nowhere"), *([(b"a", b"")] * 4_000)]))


async def test_headers(certs: Certificates) -> None:
    """CONTINUATION floods (CVE-2024-27316) and HPACK bombs (CVE-2016-6581), before any registration."""
    large = b"\x00\x01a\x7f\x80\x7f" + b"x" * 16_000
    attacks = [continuations(b"", b""), continuations(b"", large), bomb(), crumbs()]
    async with attacked_host(certs) as attacked:
        for pieces in attacks:
            async with attacked.attacker() as peer:
                await flood(peer, pieces, 2_000)
                await attacked.ended(peer, "headers", None)
                await attacked.goes_on(5)
        assert attacked.grown_mb < MAX_GROWN_MB


@pytest.mark.parametrize("how", ["no window", "no reading"])
async def test_answers_that_nobody_takes(certs: Certificates, how: str) -> None:
    """Zero windows, and windows that are open over a TCP connection that is not read (CVE-2019-9517)."""
    settings = {h2f.INITIAL_WINDOW_SIZE: 0 if how == "no window" else 2**31 - 1}
    async with attacked_host(certs) as attacked:
        async with attacked.attacker("broker", settings, window=2**30) as peer:
            if how == "no reading":
                peer.tcp.pause_reading()
            block = literal(broker_request(path="/big"))
            for stream_id in range(3, 3 + 2 * STALLED, 2):
                peer.send(h2f.headers_frames(stream_id, block, end=True))
            await attacked.goes_on(200)
            # What waits is a window for each of them at most, in the session of their Guest.
            assert attacked.grown_mb < STALLED + MAX_GROWN_MB
        await attacked.goes_on(5)
        assert attacked.limits_met() == []


async def serve(lease: Lease) -> None:
    """Answers what comes, if anything does."""
    with contextlib.suppress(Http2Error):
        await lease.answer(lease.parse(await lease.stream.read()), body=b"fine")


async def test_honest_peers_meet_no_limit(certs: Certificates) -> None:
    """Thousands of leases, a thousand requests at once, and as many cancels as protocol.md §12.10 allows."""
    async with attacked_host(certs) as attacked:
        target: Any = attacked.host
        async with (
            Guest(target, certs, "large-guest", "large.test") as guest,
            Broker(target, certs, "busy-broker") as broker,
        ):
            leases = [Lease(guest.open_lease()) for _ in range(4_000)]
            await leases[-1].stream.wait_fields()
            serving = asyncio.gather(*(serve(lease) for lease in leases))
            for _ in range(2):
                asked = [broker.request(target="large-guest", domain="large.test") for _ in range(1_000)]
                for stream in asked[:-100]:
                    stream.reset()
                for stream in asked[-100:]:
                    assert (await broker.answer(stream)).body == b"fine"
            await guest.session.close()
            await serving
        await attacked.goes_on(5)
        assert attacked.limits_met() == []
