"""What docs/host.md shows of a Host's log and answers is what a Host says."""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

from examples.hello import app
from tests.cli.processes import start
from tests.docs.markdown import ROOT, blocks_of
from tests.docs.playing import matches
from tests.host.attacks import broker_request, flood, request_fields
from tests.host.test_attacks import RESET, opened
from tests.http2 import frames as h2f
from tests.http2.raw_peer import RawPeer
from tests.http2.sessions import client_tls
from tests.support.certificates import Certificates
from verser2_guest_python import create_verser_broker, create_verser_guest
from verser2_guest_python.asgi.types import ASGIApp
from verser2_guest_python.wire.registration import Registration, encode_registration

PAGE = ROOT / "docs" / "host.md"
LOG_LINE, HEADER = (block.text for block in blocks_of(PAGE) if block.marker == "tested")


async def test_a_peer_that_resets_too_much_is_told_of_in_these_words(certs: Certificates) -> None:
    files = ("--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    with start("host", "--port", "0", *files, "--log-format", "console") as host:
        line = await asyncio.to_thread(host.says, "listening")
        found = re.search(r"port=(\d+)", line)
        assert found is not None, line
        peer = await RawPeer.dial(int(found[1]), client_tls(certs))
        try:
            peer.greet()
            stream_id = peer.request(request_fields("/verser/register"))
            body = encode_registration(Registration("batch", "broker", ()))
            peer.send(h2f.data_frame(stream_id, body, end=True))
            await asyncio.to_thread(host.says, "registered")
            await flood(peer, opened(broker_request(), RESET), 200)
            said = await asyncio.to_thread(host.says, "disconnected")
        finally:
            peer.abort()
            await peer.until(lambda: peer.outcome.lost)
    shown = re.sub(r"^[\d:.]+Z|(?<=address=)\S+", "…", LOG_LINE)
    assert matches(said, shown), said


async def test_the_time_that_a_request_waited_is_in_this_header(certs: Certificates) -> None:
    files = ("--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    with start("host", "--port", "0", *files, "--log-format", "console", "--server-timing") as host:
        line = await asyncio.to_thread(host.says, "listening")
        found = re.search(r"port=(\d+)", line)
        assert found is not None, line
        peer: dict[str, Any] = {"host_url": f"https://localhost:{found[1]}", "tls_ca_file": certs.ca}
        served = create_verser_guest(
            guest_id="shop", routed_domains=["shop.test"], app=cast("ASGIApp", app), **peer
        )
        async with served, create_verser_broker(**peer) as broker:
            await broker.wait_for_route("shop.test")
            response = await broker.get("http://shop.test/")
            await response.read()
    name, _, value = HEADER.strip().partition(": ")
    shape = re.sub(r"\d", "0", value)
    assert re.fullmatch(
        re.escape(shape).replace("0", r"\d").replace(r"\d\d", r"\d+", 1), response.headers[name]
    )
