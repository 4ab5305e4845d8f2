"""HPACK for messages that repeat: constant fields are encoded and decoded once, not each time.

A session sends the same few kinds of messages for days. Here only their constant fields enter
HPACK's dynamic table, so that nothing pushes them out again (protocol.md §12.9); what varies goes
as literals without indexing, and secrets as literals that are never indexed (RFC 7541 §7.1.3).
"""

from __future__ import annotations

from collections.abc import Sequence

from .backend import Decoder, Encoder

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


def _size_updates(smallest: int, size: int) -> bytes:
    """Sizes of the table since the last block: the smallest of them, and the last (RFC 7541 §4.2)."""
    sizes = (smallest, size) if smallest < size else (size,)
    return b"".join(_integer(one, 31, 0x20) for one in sizes)


def _without_size_updates(block: bytes) -> bytes:
    position = 0
    while position < len(block) and block[position] & 0xE0 == 0x20:
        position = _ends_of_integer(block, position, 0x1F)[1]
    return block[position:]


def _length(size: int) -> bytes:
    """A string length without Huffman coding (RFC 7541 §5.2)."""
    return size.to_bytes(1, "big") if size < 127 else _integer(size, 127, 0)


def _integer(value: int, prefix: int, first: int) -> bytes:
    """An integer beside the bits of `first`, where `prefix` is the largest that fits (RFC 7541 §5.1)."""
    if value < prefix:
        return bytes((first | value,))
    rest = value - prefix
    out = bytearray((first | prefix,))
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


def _ends_of_integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """An integer (RFC 7541 §5.1) and where it ends; hpack has accepted the block already."""
    value = block[position] & prefix
    position += 1
    if value == prefix:
        shift = 0
        while True:
            byte = block[position]
            position += 1
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
    return value, position


def leaves_table(block: bytes) -> bool:
    """Whether a header block, which must be a valid one, leaves the dynamic table as it is.

    So it does when it has neither literals with incremental indexing nor size updates (RFC 7541 §6).
    """
    position = 0
    while position < len(block):
        first = block[position]
        if first & 0x80:
            position = _ends_of_integer(block, position, 0x7F)[1]
        elif first & 0x60:
            return False
        else:
            name, position = _ends_of_integer(block, position, 0x0F)
            for _ in range(1 if name else 2):  # the value, and the name unless it is indexed
                size, position = _ends_of_integer(block, position, 0x7F)
                position += size
    return True


class BlockEncoder:
    """Encodes header blocks: remembered constant fields first, literals behind them.

    `encoder` is hpack's, or one like it. Only constant fields go through it, so its dynamic table
    changes only when a kind of message is sent for the first time, or the peer changes the table's size.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._size = encoder.header_table_size
        self._smallest: int | None = None  # of the sizes that the next block has to announce
        self._remembered: dict[FieldBlock, bytes] = {}

    def encode(self, block: FieldBlock, extra: Fields = (), secret: Fields = ()) -> bytes:
        """One header block. It must be sent: the peer's table follows ours."""
        encoded = self._remembered.get(block)
        if encoded is None:
            encoded = self._encode_constant(block)
        if extra:
            encoded += encode_literals(extra)
        if secret:
            encoded += encode_literals(secret, secret=True)
        return encoded

    def _encode_constant(self, block: FieldBlock) -> bytes:
        encoded: bytes = self._encoder.encode([(name, value, False) for name, value in block.constant])
        if self._smallest is not None:  # hpack announces each size in between as well, or none that came back
            encoded = _size_updates(self._smallest, self._size) + _without_size_updates(encoded)
            self._smallest = None
        if not leaves_table(encoded):
            self._remembered.clear()  # indices have moved
        elif len(self._remembered) < MAX_REMEMBERED_BLOCKS:
            self._remembered[block] = encoded
        return encoded

    def resized(self) -> None:
        """The peer has changed the table's size: the next block says so (RFC 7541 §4.2)."""
        size = self._encoder.header_table_size
        if size == self._size and self._smallest is None:
            return
        self._size = size
        self._smallest = size if self._smallest is None else min(size, self._smallest)
        self._remembered.clear()


class BlockDecoder:
    """Decodes header blocks, and knows those again that leave the dynamic table as it is."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._remembered: dict[bytes, Fields] = {}

    def remembered(self, block: bytes) -> Fields | None:
        """The fields of a block that was kept by `remember`, or None."""
        return self._remembered.get(block)

    def decode(self, block: bytes) -> tuple[Fields, bool]:
        """The fields of a block, and whether they may be remembered for the same bytes.

        Raises what hpack raises.
        """
        fields: Fields = tuple((name, value) for name, value, *_ in self._decoder.decode(block, raw=True))
        if leaves_table(block):
            return fields, len(block) <= MAX_REMEMBERED_BLOCK_BYTES
        self._remembered.clear()  # indices have moved
        return fields, False

    def remember(self, block: bytes, fields: Fields) -> None:
        """Keeps the validated fields of a block until the dynamic table changes."""
        if len(self._remembered) >= MAX_REMEMBERED_BLOCKS:
            self._remembered.clear()
        self._remembered[block] = fields
