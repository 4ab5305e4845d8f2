"""Huffman-coded strings of header blocks (RFC 7541 §5.2), a byte at a time.

Apart from the decoder because it is a table and nothing else: hpack's goes by half bytes, which takes
twice the steps; here what a whole byte leads to is worked out from that once, when it is first met.
"""

from __future__ import annotations

from typing import Final

from hpack.exceptions import HPACKError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

_NOWHERE: Final = 256  # a state beyond those of the table: nothing begins like this
_ACCEPTED: Final = frozenset(
    state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE and not flags & HUFFMAN_FAIL
)
"""Where a string may end: behind a symbol, or in padding of at most seven bits, all of them 1."""

_Row = tuple[tuple[int, ...], tuple[bytes, ...]]


class _Rows(dict[int, _Row]):
    """For each state what every byte leads to: the next states, and the symbols that are complete then."""

    def __missing__(self, state: int) -> _Row:
        states, symbols = zip(*(_step(state, byte) for byte in range(256)), strict=True)
        row = self[state] = states, symbols
        return row


def _step(state: int, byte: int) -> tuple[int, bytes]:
    symbols = b""
    for half in (byte >> 4, byte & 0x0F):
        if state == _NOWHERE:
            break
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
        if flags & HUFFMAN_FAIL:
            state = _NOWHERE
        elif flags & HUFFMAN_EMIT_SYMBOL:
            symbols += bytes((symbol,))
    return state, symbols


_ROWS: Final = _Rows()


def decode_huffman(coded: bytes) -> bytes:
    """What a coded string says. Raises HPACKError where it is none, or padded as none may be."""
    rows = _ROWS
    state = 0
    said = []
    for byte in coded:
        states, symbols = rows[state]
        state = states[byte]
        said.append(symbols[byte])
    if state not in _ACCEPTED:
        raise HPACKError("a Huffman-coded string is broken")
    return b"".join(said)
