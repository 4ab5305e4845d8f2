"""Many Guests that do nothing, in one process: each registers, opens its leases and waits.

    .venv/bin/python -m bench.idle_guests --host-url https://localhost:8443 --ca ca.pem --guests 1000

Apart from the benchmark that starts it so that its own memory is not counted. Prints one JSON line once all
of them are there; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from urllib.parse import urlsplit

import uvloop

from verser2_guest_python.http2 import FieldBlock, Session, Stream, client_context, connect
from verser2_guest_python.wire.registration import Registration, encode_registration

AT_A_TIME = 20


def block(path: bytes) -> FieldBlock:
    return FieldBlock(
        [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    )


REGISTER = block(b"/verser/register")
CONTROL = block(b"/verser/guest/control")
LEASE = block(b"/verser/guest/lease")
WEBSOCKET_LEASE = block(b"/verser/guest/websocket-lease")


async def guest(session: Session, guest_id: str, leases: int) -> list[Stream]:
    """A Guest as this package's own is when nothing happens: control stream, leases, two for WebSockets."""
    registering = session.open(REGISTER, [(b"content-type", b"application/json")])
    registration = Registration(guest_id, "guest", (f"{guest_id}.bench.test",))
    await registering.write(encode_registration(registration), end=True)
    fields = dict(await registering.wait_fields())
    if fields[b":status"] != b"200":
        raise RuntimeError(f"{guest_id}: {await registering.read()!r}")
    registering.discard()
    me = (b"x-verser-peer-id", guest_id.encode())
    streams = [session.open(CONTROL, [me])]
    streams += [session.open(LEASE, [me, (b"x-verser-lease-id", b"%d" % n)]) for n in range(leases)]
    streams += [session.open(WEBSOCKET_LEASE, [me]) for _ in range(2)]
    for stream in streams:
        await stream.wait_fields()
    return streams


async def main(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    url = urlsplit(arguments.host_url)
    tls = client_context(ca_file=arguments.ca)
    door = asyncio.Semaphore(AT_A_TIME)
    sessions: list[Session] = []
    kept: list[Stream] = []

    async def add(number: int) -> None:
        async with door:
            session = await connect(url.hostname or "", url.port or 443, tls=tls, timeout=60)
            sessions.append(session)
            kept.extend(await guest(session, f"{arguments.prefix}-{number}", arguments.leases))

    async with asyncio.TaskGroup() as group:
        for number in range(arguments.guests):
            group.create_task(add(number))
    print(json.dumps({"event": "ready", "guests": len(sessions)}), flush=True)
    await stopped.wait()
    await asyncio.gather(*(session.close() for session in sessions))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host-url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--guests", type=int, default=1_000)
    parser.add_argument("--leases", type=int, default=8)
    parser.add_argument("--prefix", default="idle")
    uvloop.run(main(parser.parse_args()))
