"""Whole frames into writes of one TLS record each, so that no frame straddles one (protocol.md §12.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .options import MAX_RECORD_BYTES


def pack_records(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Joins frames, in order, into pieces of at most 16,384 bytes. A frame is never cut.

    Each piece is meant for one write to the TLS layer, which makes one record of it.
    """
    batch: list[bytes] = []
    size = 0
    for frame in frames:
        length = len(frame)
        if size + length > MAX_RECORD_BYTES and batch:
            yield batch[0] if len(batch) == 1 else b"".join(batch)
            batch = []
            size = 0
        batch.append(frame)
        size += length
    if batch:
        yield batch[0] if len(batch) == 1 else b"".join(batch)
