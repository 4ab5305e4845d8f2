"""Small request bodies, read whole: registrations and revocations.

Apart because both need the same limit, and a peer may send any number of bytes.
"""

from __future__ import annotations

from verser2_guest_python.errors import VerserProtocolError
from verser2_guest_python.http2 import Stream


async def read_body(stream: Stream, limit: int, what: str) -> bytes:
    """The whole body; raises `VerserProtocolError` beyond `limit` bytes, and what `Stream.read` raises."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.read():
        size += len(chunk)
        if size > limit:
            raise VerserProtocolError(f"{what} is longer than {limit:,} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)
