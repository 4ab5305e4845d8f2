"""Against HTTP/2 of plain Node.js (nghttp2), in both roles."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.http2.sessions import RESPONSE_BLOCK, assert_idle, client_tls, server_tls
from tests.support.certificates import Certificates
from tests.support.node_peers import NodePeer
from verser2_guest_python.http2 import (
    CertificateRefused,
    ConnectError,
    ErrorCode,
    FieldBlock,
    Goaway,
    Session,
    SessionClosing,
    SessionOptions,
    Stream,
    StreamReset,
    client_context,
    connect,
    listen,
)

pytestmark = [pytest.mark.interop, pytest.mark.limit(30)]

SCRIPTS = Path(__file__).parent / "node"
POST = FieldBlock([(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost")])
MIB = 1 << 20


@asynccontextmanager
async def node(script: str, **options: Any) -> AsyncIterator[NodePeer]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(SCRIPTS / script), json.dumps(options), stdin=pipe, stdout=pipe, stderr=pipe
    )
    peer = NodePeer(script, process)
    try:
        yield peer
    except Exception as error:
        error.add_note(peer.transcript())
        raise
    finally:
        await peer.stop()


@asynccontextmanager
async def node_server(certs: Certificates, **options: Any) -> AsyncIterator[tuple[NodePeer, int]]:
    files = {"cert": str(certs.host), "key": str(certs.host_key)}
    async with node("server.mjs", **files, **options) as server:
        yield server, (await server.event("listening"))["port"]


@asynccontextmanager
async def to_node(
    certs: Certificates, session_options: SessionOptions | None = None, **options: Any
) -> AsyncIterator[tuple[Session, NodePeer]]:
    """A session of ours with a Node.js server."""
    async with node_server(certs, **options) as (server, port):
        session = await connect(
            "127.0.0.1", port, tls=client_tls(certs), options=session_options or SessionOptions()
        )
        try:
            yield session, server
        finally:
            await session.close()


def ask(session: Session, path: str, *, end: bool = False) -> Stream:
    return session.open(POST, [(b":path", path.encode())], end=end)


async def read_all(stream: Stream, limit: int = 65_536) -> bytes:
    parts = []
    while data := await stream.read(limit):
        parts.append(data)
    return b"".join(parts)


SETTINGS = [
    {},
    {"settings": {"initialWindowSize": MIB}},
    {"settings": {"initialWindowSize": 1_000, "headerTableSize": 0}},
    {"settings": {"maxFrameSize": MIB}, "padding": True},
]


@pytest.mark.both_loops
@pytest.mark.parametrize("options", SETTINGS)
async def test_echoes_of_a_node_server(certs: Certificates, options: dict[str, Any]) -> None:
    async with to_node(certs, **options) as (session, _):

        async def echo(number: int) -> None:
            body = bytes([number]) * (number * 4_001)
            stream = ask(session, "/echo")
            sending = asyncio.create_task(stream.write(body, end=True))
            assert await read_all(stream) == body
            await sending

        await asyncio.gather(*[echo(number) for number in range(40)])
        assert await session.ping() > 0
        assert_idle(session)


@pytest.mark.both_loops
async def test_large_transfers_both_ways_at_once(certs: Certificates) -> None:
    async with to_node(certs, settings={"initialWindowSize": MIB}) as (session, _):

        async def upload() -> bytes:
            stream = ask(session, "/sink")
            await stream.write(bytes(4 * MIB), end=True)
            return await read_all(stream)

        async def download() -> int:
            return len(await read_all(ask(session, f"/big/{4 * MIB}", end=True)))

        results = await asyncio.gather(*[upload() for _ in range(4)], *[download() for _ in range(4)])
        assert results == [str(4 * MIB).encode()] * 4 + [4 * MIB] * 4
        assert_idle(session)


async def test_a_node_server_that_reads_slowly_is_waited_for(certs: Certificates) -> None:
    async with to_node(certs) as (session, _):
        slow = ask(session, "/crawl")
        writing = asyncio.create_task(slow.write(bytes(300_000), end=True))
        assert await read_all(ask(session, "/big/100000", end=True)) == b"x" * 100_000
        await writing
        assert await read_all(slow) == b"300000"


async def test_odd_answers_of_a_node_server(certs: Certificates) -> None:
    async with to_node(certs) as (session, _):
        hints = ask(session, "/hints", end=True)
        assert dict(await hints.wait_fields())[b":status"] == b"200"
        assert await read_all(hints) == b"body"
        unchanged = ask(session, "/unchanged", end=True)
        assert dict(await unchanged.wait_fields())[b"content-length"] == b"1234"
        assert await read_all(unchanged) == b""
        large = ask(session, "/fields/30000", end=True)
        assert dict(await large.wait_fields())[b"x-large"] == b"v" * 30_000
        assert await read_all(large) == b"body"
        cut = ask(session, "/cut", end=True)
        with pytest.raises(StreamReset) as caught:
            await read_all(cut)
        assert caught.value.code == ErrorCode.INTERNAL_ERROR
        refused = ask(session, "/refuse")
        sending = asyncio.create_task(refused.write(bytes(MIB), end=True))
        assert await read_all(refused) == b"no"
        with pytest.raises(StreamReset) as caught:
            await sending
        assert caught.value.code == ErrorCode.NO_ERROR
        assert await session.ping() > 0
        assert_idle(session)


async def test_a_node_server_learns_of_our_reset(certs: Certificates) -> None:
    async with to_node(certs) as (session, server):
        stream = ask(session, "/wait")
        await session.ping()
        stream.reset()
        assert (await server.event("aborted"))["code"] == ErrorCode.CANCEL
        assert_idle(session)


async def test_goaway_of_a_node_server(certs: Certificates) -> None:
    async with to_node(certs) as (session, _):
        said: list[Goaway] = []
        session.on_goaway = said.append
        stream = ask(session, "/goaway", end=True)
        assert await read_all(stream) == b"still served"
        assert said == [Goaway(ErrorCode.NO_ERROR)]
        with pytest.raises(SessionClosing):
            ask(session, "/echo")


@pytest.mark.parametrize("size", [1_000, 200_000])
async def test_a_node_server_that_changes_its_window_in_the_middle(certs: Certificates, size: int) -> None:
    async with to_node(certs) as (session, _):
        stream = ask(session, f"/resize/{size}")
        body = bytes(range(256)) * 1_000
        sending = asyncio.create_task(stream.write(body, end=True))
        assert await read_all(stream) == body
        await sending


async def test_a_close_is_an_orderly_end_for_node(certs: Certificates) -> None:
    async with to_node(certs) as (session, server):
        stream = ask(session, f"/big/{16 * MIB}", end=True)
        await stream.read()
        await session.close()
        await server.event("closed")
        assert server.all("error") == []


# --- Client certificates ------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("identity", ["guest", "none", "untrusted"])
async def test_client_certificates(certs: Certificates, identity: str, version: str) -> None:
    """A Node.js server lets a certificate that it does not trust pass in TLS, and then hangs up."""
    tls = client_tls(certs)
    if identity != "none":
        tls = client_context(certs.ca, getattr(certs, identity), getattr(certs, f"{identity}_key"))
    versions = {"minVersion": version, "maxVersion": version}
    async with node_server(certs, ca=str(certs.ca), **versions) as (_, port):
        if identity == "guest":
            session = await connect("127.0.0.1", port, tls=tls)
            assert session.tls_version == version
            await session.close()
            return
        with pytest.raises(ConnectError) as caught:
            await connect("127.0.0.1", port, tls=tls)
        assert "certificate" in str(caught.value)
        if identity == "none":
            assert isinstance(caught.value, CertificateRefused)


# --- Node as the client -------------------------------------------------------------------


@asynccontextmanager
async def echo_server(certs: Certificates) -> AsyncIterator[tuple[int, list[Session]]]:
    sessions: list[Session] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(stream: Stream) -> None:
        path = dict(stream.fields or ())[b":path"]
        stream.send_fields(RESPONSE_BLOCK)
        if path.startswith(b"/big/"):
            await stream.write(bytes(int(path[5:])), end=True)
            return
        while data := await stream.read():
            await stream.write(data)
        await stream.write(b"", end=True)

    def on_stream(stream: Stream) -> None:
        task = asyncio.create_task(serve(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda task: task.exception())

    def on_session(session: Session) -> None:
        sessions.append(session)
        session.on_stream = on_stream

    listener = await listen("127.0.0.1", 0, tls=server_tls(certs), on_session=on_session)
    try:
        yield listener.port, sessions
    finally:
        listener.close()
        for session in sessions:
            await session.close()
        await asyncio.gather(*tasks, return_exceptions=True)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def filled(path: str, size: int) -> bytes:
    """What Node's `Buffer.alloc(size, path)` holds."""
    return (path.encode() * (size // len(path) + 1))[:size]


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "options",
    [{}, {"padding": True}, {"settings": {"initialWindowSize": MIB}, "window": 4 * MIB}],
)
async def test_a_node_client_gets_what_it_asks_for(certs: Certificates, options: dict[str, Any]) -> None:
    requests: list[dict[str, Any]] = [{"path": f"/echo/{n}", "size": n * 9_001} for n in range(30)]
    requests += [{"path": f"/big/{2 * MIB}"}] * 3
    requests += [{"path": "/echo/head", "fields": {"x-large": "v" * 20_000}, "size": 5}]
    async with echo_server(certs) as (port, sessions):
        async with node("client.mjs", port=port, ca=str(certs.ca), requests=requests, **options) as client:
            done = await client.event("done")
            await client.event("closed")
        assert done["ping"] > 0
        for asked, got in zip(requests, done["results"], strict=True):
            size = asked.get("size", 0)
            body = bytes(2 * MIB) if "/big" in asked["path"] else filled(asked["path"], size)
            assert (got["status"], got["size"], got["code"]) == (200, len(body), 0)
            assert got["hash"] == digest(body)
        assert client.all("error") == []
        await sessions[0].wait_lost()
        assert_idle(*sessions)


async def test_a_node_client_that_cancels_harms_nobody_else(certs: Certificates) -> None:
    requests = [{"path": f"/big/{4 * MIB}", "cancelAfter": 50_000}] * 20 + [{"path": f"/big/{MIB}"}] * 4
    async with echo_server(certs) as (port, sessions):
        async with node("client.mjs", port=port, ca=str(certs.ca), requests=requests) as client:
            done = await client.event("done")
            await client.event("closed")
        assert [got["code"] for got in done["results"]] == [8] * 20 + [0] * 4
        assert [got["size"] for got in done["results"][20:]] == [MIB] * 4
        await sessions[0].wait_lost()
        assert_idle(*sessions)
