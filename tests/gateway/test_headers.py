"""What becomes of the headers of a request: who the client is, only the gateway says, or a trusted proxy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.gateways import PUBLIC, Place, gateway_at
from tests.gateway.raw import connected
from tests.integrations.stacks import DOMAIN
from tests.support.certificates import Certificates
from verser2_guest_python import VerserUsageError
from verser2_guest_python.integrations.gateway import create_gateway

FORGED = (
    "Forwarded: for=6.6.6.6",
    "X-Forwarded-For: 6.6.6.6",
    "x-FORWARDED-for: 7.7.7.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Port: 1",
    "X-Forwarded-User: root",
    "X-Real-IP: 6.6.6.6",
    "X-Verser-Source-Id: admin",
    "X_Forwarded_For: 6.6.6.6",
    "Content_Length: 3",
)


async def headers_of(place: Place, *lines: str, host: str = DOMAIN) -> dict[str, str]:
    """The headers that the app sees."""
    async with connected(place.port) as raw:
        text = "\r\n".join((f"GET /describe/ HTTP/1.1\r\nHost: {host}", *lines, "Connection: close"))
        raw.say(text.encode("latin-1") + b"\r\n\r\n")
        status, body = await raw.answer()
    assert status == 200
    said: dict[str, str] = json.loads(body)["headers"]
    return said


async def test_what_a_client_says_of_itself_is_dropped(certs: Certificates) -> None:
    async with gateway_at(certs, maps={PUBLIC: DOMAIN}) as place:
        assert await headers_of(place, *FORGED, host=f"{PUBLIC}:8443") == {
            "host": DOMAIN,
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-proto": "http",
            "x-forwarded-host": f"{PUBLIC}:8443",
        }
        assert (await place.recorded(1))[0].client == "127.0.0.1"


async def test_what_a_trusted_proxy_says_is_passed_on(certs: Certificates) -> None:
    async with gateway_at(certs, trust_forwarded=["10.0.0.0/8", "127.0.0.1"]) as place:
        said = await headers_of(place, *FORGED)
        assert (said["x-forwarded-for"], said["x-forwarded-proto"]) == ("6.6.6.6, 7.7.7.7", "https")
        assert (said["x-forwarded-host"], said["forwarded"]) == ("evil.test", "for=6.6.6.6")
        assert (said["x-real-ip"], said["x-forwarded-user"]) == ("6.6.6.6", "root")
        assert not any(name.startswith("x-verser-") for name in said)
        said = await headers_of(place)
        assert (said["x-forwarded-for"], said["x-forwarded-host"]) == ("127.0.0.1", DOMAIN)
        assert [record.client for record in await place.recorded(2)] == ["7.7.7.7", "127.0.0.1"]


async def test_a_proxy_from_another_network_is_not_believed(certs: Certificates) -> None:
    async with gateway_at(certs, trust_forwarded=["10.0.0.0/8", "::1"]) as place:
        assert (await headers_of(place, *FORGED))["x-forwarded-for"] == "127.0.0.1"


async def test_what_concerns_the_connection_alone_ends_here(certs: Certificates) -> None:
    lines = (
        "TE: trailers",
        "Trailer: x-sum",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic c2VjcmV0",
        "Connection: x-listed, keep-alive",
        "X-Listed: 1",
        "Expect: 100-continue",
        "X-Kept: 1",
        "Authorization: Bearer token",
        "Cookie: a=1",
        "Cookie: b=2",
    )
    async with gateway_at(certs) as place:
        said = await headers_of(place, *lines)
        assert {name for name in said if not name.startswith("x-forwarded-")} == {
            "host",
            "x-kept",
            "authorization",
            "cookie",
        }
        assert said["cookie"] == "a=1; b=2"


@pytest.mark.parametrize(
    "options",
    [
        {"trust_forwarded": ["10.0.0.0/33"]},
        {"trust_forwarded": ["10.1.2.3/8"]},
        {"trust_forwarded": ["everybody"]},
        {"maps": {"a b": "c.test"}},
        {"maps": {"a.test": ""}},
        {"default_domain": "http://a.test"},
        {"route_wait": -1.0},
    ],
)
def test_what_cannot_be_meant_is_told_at_once(options: dict[str, Any]) -> None:
    from verser2_guest_python import create_verser_broker

    broker = create_verser_broker(host_url="https://localhost:1")
    with pytest.raises(VerserUsageError):
        create_gateway(broker, **options)
