"""HPACK for messages that repeat: constant fields are encoded and decoded once, not each time.

A session sends the same few kinds of messages for days. Here only their constant fields enter
HPACK's dynamic table, so that nothing pushes them out again (protocol.md §12.9); what varies goes
as literals without indexing, and secrets as literals that are never indexed (RFC 7541 §7.1.3).
"""

from __future__ import annotations

from collections.abc import Sequence

from hpack import Decoder, Encoder
from hpack.table import HeaderTable

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields as bytes: lower-case names, pseudo-header fields first."""

MAX_REMEMBERED_BLOCKS = 512
MAX_REMEMBERED_BLOCK_BYTES = 1_024

_PLAIN = b"\x00"  # literal without indexing, new name (RFC 7541 §6.2.2)
_SECRET = b"\x10"  # literal never indexed, new name (RFC 7541 §6.2.3)


class FieldBlock:
    """The constant fields of one kind of message; compared by identity, shared by all sessions.

    Example: `FieldBlock([(b":status", b"200"), (b"content-type", b"application/json")])`.
    """

    __slots__ = ("constant",)

    def __init__(self, constant: Fields) -> None:
        self.constant = tuple(constant)


class _CountingTable(HeaderTable):
    """A dynamic table that counts its changes, so that what was encoded against it can be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


def _length(size: int) -> bytes:
    """A string length without Huffman coding (RFC 7541 §5.1, prefix of 7 bits)."""
    if size < 127:
        return size.to_bytes(1, "big")
    rest = size - 127
    out = bytearray((127,))
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def encode_literals(fields: Fields, *, secret: bool = False) -> bytes:
    """Fields that leave the dynamic tables of both ends as they are."""
    first = _SECRET if secret else _PLAIN
    parts: list[bytes] = []
    for name, value in fields:
        parts += (first, _length(len(name)), name, _length(len(value)), value)
    return b"".join(parts)


class BlockEncoder:
    """Encodes header blocks: remembered constant fields first, literals behind them."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._table = encoder.header_table = _CountingTable()
        self._remembered: dict[FieldBlock, bytes] = {}
        self._changes = 0

    def encode(self, block: FieldBlock, extra: Fields = (), secret: Fields = ()) -> bytes:
        """One header block. It must be sent: the peer's table follows ours."""
        table = self._table
        if table.changes != self._changes or table.resized:
            self._remembered.clear()
            self._changes = table.changes
        encoded = self._remembered.get(block)
        if encoded is None:
            encoded = self._encode_constant(block)
        if extra:
            encoded += encode_literals(extra)
        if secret:
            encoded += encode_literals(secret, secret=True)
        return encoded

    def _encode_constant(self, block: FieldBlock) -> bytes:
        resized = self._table.resized
        before = self._table.changes
        encoded: bytes = self._encoder.encode(block.constant)
        if self._table.changes == before and not resized and len(self._remembered) < MAX_REMEMBERED_BLOCKS:
            self._remembered[block] = encoded  # indices alone: sending them again changes no table
        return encoded


class BlockDecoder:
    """Decodes header blocks, and knows those again that leave the dynamic table as it is."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._table = decoder.header_table = _CountingTable()
        self._remembered: dict[bytes, Fields] = {}
        self._size = self._table.maxsize

    def remembered(self, block: bytes) -> Fields | None:
        """The fields of a block that was kept by `remember`, or None."""
        return self._remembered.get(block)

    def decode(self, block: bytes) -> tuple[Fields, bool]:
        """The fields of a block, and whether they may be remembered for the same bytes.

        Raises what hpack raises.
        """
        table = self._table
        before = table.changes
        fields: Fields = tuple(self._decoder.decode(block, raw=True))
        if table.changes != before or table.maxsize != self._size:
            self._size = table.maxsize
            self._remembered.clear()
            return fields, False
        return fields, len(block) <= MAX_REMEMBERED_BLOCK_BYTES

    def remember(self, block: bytes, fields: Fields) -> None:
        """Keeps the validated fields of a block until the dynamic table changes."""
        if len(self._remembered) >= MAX_REMEMBERED_BLOCKS:
            self._remembered.clear()
        self._remembered[block] = fields
