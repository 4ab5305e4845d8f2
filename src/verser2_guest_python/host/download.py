"""The rest of an answer's body on its way to a Broker that has no room for it just now.

Apart from the exchange, which passes on in callbacks whatever finds room: this is the coroutine that
waits, keeps no more than a chunk meanwhile, and does not wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from verser2_guest_python.host.upload import CHUNK_BYTES
from verser2_guest_python.http2 import Stream
from verser2_guest_python.http2.deadline import within


async def download(
    lease: Stream,
    broker: Stream,
    data: bytes,
    end: bool,
    *,
    stalled_seconds: float,
    passes: Callable[[bytes, bool], bytes | None],
) -> bool:
    """Writes `data`, which has been counted, and what follows it on the lease, up to its end.

    `passes` is called with each further chunk and whether it is the last one; it returns what of it is to
    be passed on, or None when nothing more is, upon which this returns False.

    Raises:
        TimeoutError: the Broker took less than a chunk in `stalled_seconds`.
        Http2Error: one of the two streams failed.
    """
    while True:
        async with within(stalled_seconds):
            await broker.write(data, end=end)
        if end:
            return True
        chunk = await lease.read(CHUNK_BYTES)
        end = lease.at_end
        passing = passes(chunk, end)
        if passing is None:
            return False
        data = passing
