"""HPACK's reading side: header blocks as they come, in one pass each (RFC 7541 §6).

Apart from `fields.py` because that chooses what to remember, and this only reads. It stands where the
decoder of h2 stood, and does what that does; but that one makes several objects for each field and
copies the block behind it, which was a quarter of all that a Host does for a request.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from .huffman import decode_huffman

Field = tuple[bytes, bytes]

HPACK_TABLE_BYTES: Final = 4_096
"""The size of both dynamic tables before anybody says otherwise (RFC 9113 §6.5.2)."""

_STATIC: Final = ((b"", b""), *HeaderTable.STATIC_TABLE)
_FIRST_DYNAMIC: Final = len(_STATIC)
_ENTRY_BYTES: Final = 32  # beside its name and value (RFC 7541 §4.1)
_MAX_INTEGER_SHIFT: Final = 28  # four bytes behind the first: no size and no index needs more


class HpackDecoder:
    """The reading end of one connection: its dynamic table, and what reads header blocks by it.

    The table is as large as HTTP/2 has it when SETTINGS say nothing else: ours never do.
    """

    __slots__ = ("_entries", "_limit", "_max_list_bytes", "_size")

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._entries: deque[Field] = deque()  # the newest first
        self._size = 0
        self._limit = HPACK_TABLE_BYTES

    def decode(self, block: bytes) -> tuple[tuple[Field, ...], bool]:
        """The fields of a block, and whether it left the dynamic table as it was.

        Raises HPACKError, upon which the connection cannot go on; OversizedHeaderListError is one, for
        more fields than are read (RFC 9113 §10.5.1).
        """
        try:
            fields, steady = self._decode(block)
        except IndexError:
            raise HPACKError("a block ends in the middle, or names an index that is not there") from None
        return tuple(fields), steady

    def _decode(self, block: bytes) -> tuple[list[Field], bool]:
        fields: list[Field] = []
        entries = self._entries
        steady = True
        room = self._max_list_bytes
        position = 0
        end = len(block)
        while position < end:
            first = block[position]
            position += 1
            if first & 0x80:  # an indexed field (§6.1)
                index = first & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, index)
                field = _STATIC[index] if index < _FIRST_DYNAMIC else entries[index - _FIRST_DYNAMIC]
                if not index:
                    raise HPACKError("index 0 names no field")
            elif first & 0xE0 == 0x20:  # another size of the table (§6.3)
                if fields:
                    raise HPACKError("the table changes its size behind a field")
                steady = False
                position = self._resize(block, position, first & 0x1F)
                continue
            else:  # a literal (§6.2)
                largest = 0x3F if first & 0x40 else 0x0F
                index = first & largest
                if not index:
                    name, position = _string(block, position)
                else:
                    if index == largest:
                        index, position = _integer(block, position, index)
                    name = (_STATIC[index] if index < _FIRST_DYNAMIC else entries[index - _FIRST_DYNAMIC])[0]
                value, position = _string(block, position)
                field = (name, value)
                if first & 0x40:
                    steady = False
                    self._add(field)
            room -= len(field[0]) + len(field[1]) + _ENTRY_BYTES
            if room < 0:
                raise OversizedHeaderListError(f"more than {self._max_list_bytes:,} bytes")
            fields.append(field)
        if position > end:
            raise IndexError
        return fields, steady

    def _add(self, field: Field) -> None:
        """A new entry; the oldest ones make room (§4.4)."""
        self._entries.appendleft(field)
        self._size += len(field[0]) + len(field[1]) + _ENTRY_BYTES
        if self._size > self._limit:
            self._evict()

    def _resize(self, block: bytes, position: int, size: int) -> int:
        if size == 0x1F:
            size, position = _integer(block, position, size)
        if size > HPACK_TABLE_BYTES:
            raise HPACKError("the table is made larger than our SETTINGS have it")
        self._limit = size
        self._evict()
        return position

    def _evict(self) -> None:
        entries = self._entries
        while self._size > self._limit:
            name, value = entries.pop()
            self._size -= len(name) + len(value) + _ENTRY_BYTES


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """An integer whose first byte was full, `value` being what that holds (§5.1); and where it ends."""
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _MAX_INTEGER_SHIFT:
            raise HPACKError("an integer has no end")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string (§5.2), and where it ends, which may be behind the block."""
    first = block[position]
    position += 1
    size = first & 0x7F
    if size == 0x7F:
        size, position = _integer(block, position, size)
    end = position + size
    if first & 0x80:
        return decode_huffman(block[position:end]), end
    return block[position:end], end
