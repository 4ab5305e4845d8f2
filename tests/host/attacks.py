"""A Host as a process that is attacked while honest peers use it: what it says and needs, whom it serves."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from tests.host.peers import Broker, Guest
from tests.http2 import frames as h2f
from tests.http2.raw_peer import RawPeer
from tests.http2.sessions import client_tls
from tests.support.certificates import Certificates
from tests.support.node_peers import MAX_LINE_BYTES, NodeHost
from verser2_guest_python.http2 import StreamReset
from verser2_guest_python.wire.registration import Registration, encode_registration

ROOT = Path(__file__).resolve().parents[2]
FULL_BYTES = 1 << 20  # of our own, that wait for the Host to read them
WORKERS = 4
WAIT_SECONDS = 30.0
BIG = bytes(1_000_000)


class Attacked:
    """The Host, and a Guest and a Broker that go on using it all the time."""

    def __init__(self, host: NodeHost, certs: Certificates) -> None:
        self.host = host
        self.certs = certs
        self.served = 0
        self._news = asyncio.Event()
        self._before = 0.0

    # --- Honest peers ---------------------------------------------------------------------

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """A Broker asks a Guest again and again; any failure fails the test."""
        target: Any = self.host  # a port is all that they need
        async with (
            Guest(target, self.certs, "honest-guest", "honest.test") as guest,
            Broker(target, self.certs, "honest-broker") as broker,
        ):
            await self.host.event("registered", peer="honest-broker")
            workers = [asyncio.create_task(self._serve(guest)) for _ in range(WORKERS)]
            asking = asyncio.create_task(self._ask(broker))
            try:
                await self.goes_on(5)
                self._clear_peak()
                self._before = self._peak_mb()
                yield
                await self.goes_on(5)
            finally:
                for task in (asking, *workers):
                    task.cancel()
                outcomes = await asyncio.gather(asking, *workers, return_exceptions=True)
            for outcome in outcomes:
                assert isinstance(outcome, asyncio.CancelledError), outcome

    async def _serve(self, guest: Guest) -> None:
        while True:
            lease = await guest.lease()
            with contextlib.suppress(StreamReset):  # of an attacker's request, which is gone with it
                head = lease.parse(await lease.stream.read())
                await lease.answer(head, body=BIG if head.path == "/big" else b"served")

    async def _ask(self, broker: Broker) -> None:
        while True:
            async with asyncio.timeout(WAIT_SECONDS):
                answer = await broker.fetch(target="honest-guest", domain="honest.test")
            assert (answer.status, answer.body) == (200, b"served")
            self.served += 1
            self._news.set()
            await asyncio.sleep(0)

    async def goes_on(self, requests: int) -> None:
        """Until so many more requests were served."""
        wanted = self.served + requests
        async with asyncio.timeout(WAIT_SECONDS):
            while self.served < wanted:
                self._news.clear()
                await self._news.wait()

    # --- Memory ---------------------------------------------------------------------------

    def _clear_peak(self) -> None:
        Path(f"/proc/{self.host.pid}/clear_refs").write_text("5")

    def _peak_mb(self) -> float:
        for line in Path(f"/proc/{self.host.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("this system does not tell")

    @property
    def grown_mb(self) -> float:
        """How much more memory the Host has needed at its worst than before the attack."""
        return self._peak_mb() - self._before

    # --- Attackers ------------------------------------------------------------------------

    @asynccontextmanager
    async def attacker(
        self, role: str | None = None, settings: dict[int, int] | None = None, window: int = 0
    ) -> AsyncIterator[RawPeer]:
        """A peer that says what it likes; registered as `mallory` if it has a role."""
        peer = await RawPeer.dial(self.host.port, client_tls(self.certs))
        try:
            peer.greet(settings, window=window)
            if role is not None:
                stream_id = peer.request(request_fields("/verser/register"))
                domains = ("mallory.test",) if role == "guest" else ()
                body = encode_registration(Registration("mallory", role, domains))
                peer.send(h2f.data_frame(stream_id, body, end=True))
                await self.host.event("registered", peer="mallory")
            else:
                await peer.sync()
            yield peer
        finally:
            peer.abort()
            await peer.until(lambda: peer.outcome.lost)

    async def ended(self, peer: RawPeer, limit: str, peer_id: str | None) -> None:
        """The Host has ended the attacker's session, and said who it was and why."""
        host, port = peer.tcp.get_extra_info("sockname")[:2]
        event = await self.host.event("disconnected", address=f"{host}:{port}", timeout=WAIT_SECONDS)
        assert (event["limit"], event["peer"]) == (limit, peer_id), event

    def limits_met(self) -> list[str]:
        """The limits for which sessions were ended up to now."""
        return [event["limit"] for event in self.host.all("disconnected") if event["limit"] is not None]


def request_fields(path: str, *extra: tuple[bytes, bytes]) -> h2f.Fields:
    return [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path.encode()),
        *extra,
    ]


LEASE = request_fields(
    "/verser/guest/lease", (b"x-verser-peer-id", b"mallory"), (b"x-verser-lease-id", b"lease")
)


def broker_request(method: str = "GET", path: str = "/") -> h2f.Fields:
    """A request to the honest Guest."""
    said = {
        "request-id": "r",
        "source-id": "mallory",
        "target-id": "honest-guest",
        "route-domain": "honest.test",
        "method": method,
        "path": path,
        "headers": "{}",
    }
    return request_fields(
        "/verser/request", *((f"x-verser-{name}".encode(), value.encode()) for name, value in said.items())
    )


async def flood(peer: RawPeer, pieces: Iterable[bytes], limit: int) -> None:
    """Sends at most so many pieces, as fast as the Host reads, until it ends the session."""
    for number, piece in enumerate(islice(pieces, limit)):
        if peer.outcome.eof or peer.outcome.lost:
            break
        peer.send(piece)
        while peer.tcp.get_write_buffer_size() > FULL_BYTES and not peer.outcome.lost:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if number % 20 == 0:
            await asyncio.sleep(0)


@asynccontextmanager
async def attacked_host(certs: Certificates) -> AsyncIterator[Attacked]:
    """A Host process with its defaults, in use."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.host_process", "--events"),
        *("--cert", str(certs.host), "--key", str(certs.host_key)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        cwd=ROOT,
    )
    host = NodeHost("host", process)
    try:
        listening = await host.event("listening", timeout=WAIT_SECONDS)
        host.port = listening["port"]
        attacked = Attacked(host, certs)
        async with attacked.in_use():
            yield attacked
        assert host.all("internal-error") == []
        for honest in ("honest-guest", "honest-broker"):
            for event in host.all("disconnected", peer=honest):
                assert event["limit"] is None, event
    except Exception as error:
        with contextlib.suppress(Exception):
            error.add_note(host.transcript())
        raise
    finally:
        await host.stop()
