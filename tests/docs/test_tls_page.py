"""The errors that `docs/tls.md` explains are those that people get, with these words and these codes."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import ROOT
from tests.support.certificates import Certificates
from verser2_guest_python import VerserError, create_verser_broker, create_verser_host
from verser2_guest_python.service.process.exit_codes import exit_code

TABLE = (ROOT / "docs" / "tls.md").read_text().partition("## What the errors mean")[2]


async def test_every_error_is_one_that_people_get(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    async for error in failures(Certificates.make(tmp_path)):
        told.append((error.message, exit_code(error)))
    rows = re.findall(r"^\| (`[^|]+`) \| (\d+) \|", TABLE, re.MULTILINE)
    assert rows
    for quoted, code in rows:
        # One row may quote several sentences: each of them is enough
        for sentence in re.findall(r"`([^`]+)`", quoted):
            wanted = ".*".join(re.escape(part) for part in sentence.split("…"))
            found = [known for known in told if re.search(wanted, known[0])]
            assert found or sentence == "unable to get local issuer certificate", (sentence, told)
            assert all(known == int(code) for _, known in found), (sentence, found)


async def failures(made: Certificates) -> AsyncIterator[VerserError]:
    """What connecting gives in each of the situations."""
    identity: dict[str, Any] = {"tls_cert_file": made.broker, "tls_key_file": made.broker_key}
    async with AsyncExitStack() as ends:
        strict = await ends.enter_async_context(
            create_verser_host(tls_cert_file=made.host, tls_key_file=made.host_key, client_ca_file=made.ca)
        )
        expired = await ends.enter_async_context(
            create_verser_host(tls_cert_file=made.expired, tls_key_file=made.expired_key)
        )
        elsewhere = await ends.enter_async_context(
            create_verser_host(tls_cert_file=made.other_name, tls_key_file=made.other_name_key)
        )
        web = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        web.load_cert_chain(made.host, made.host_key)
        without_alpn = await ends.enter_async_context(served(web))
        without_tls = await ends.enter_async_context(served(None))
        for url, options in (
            (strict.url, {"tls_ca_file": made.untrusted_ca, **identity}),
            (elsewhere.url, {}),
            (expired.url, {}),
            (strict.url, {}),
            (strict.url, {"tls_cert_file": made.untrusted, "tls_key_file": made.untrusted_key}),
            (without_alpn, {}),
            (without_tls, {}),
            (strict.url, {"tls_ca_file": made.directory / "nowhere.pem"}),
            (strict.url, {**identity, "tls_key_file": made.guest_key}),
            (strict.url, {"tls_cert_file": made.guest, "tls_key_file": made.guest_encrypted_key}),
            (strict.url, {"tls_pfx_file": made.guest_pfx, "tls_pfx_password": made.wrong_password}),
            (strict.url, {"tls_pfx_file": made.guest}),
        ):
            broker = create_verser_broker(host_url=url, **{"tls_ca_file": made.ca, **options})
            with pytest.raises(VerserError) as caught:
                await broker.connect()
            await broker.close()
            yield caught.value


@asynccontextmanager
async def served(tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    """A server that is no Host: it says a line to whoever comes, and closes."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            return  # the other end was quicker

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
