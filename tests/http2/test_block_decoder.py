"""Our HPACK decoder beside hpack's: it reads what that reads, and refuses what that refuses."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, settings
from hypothesis import strategies as st

from verser2_guest_python.http2.block_decoder import HpackDecoder
from verser2_guest_python.http2.huffman import decode_huffman

LIMIT = 1_000
Fields = list[tuple[bytes, bytes]]

NAMES = st.sampled_from([b":path", b"content-type", b"x-a", b"x-" + b"long" * 40])
VALUES = st.one_of(st.binary(max_size=40), st.sampled_from([b"v" * 127, b"v" * 300, b"v" * 1_200]))
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


class Pair:
    """Both decoders of one connection."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.ours = HpackDecoder(limit)
        self.theirs = Decoder(max_header_list_size=limit)

    def read(self, block: bytes) -> Fields | None:
        """The fields, on which both agree; None where both refuse the block."""
        expected: Fields | None
        try:
            expected = [(bytes(name), bytes(value)) for name, value in self.theirs.decode(block, raw=True)]
        except HPACKError:
            expected = None
        entries = list(self.ours._entries)
        try:
            fields, steady = self.ours.decode(block)
        except HPACKError:
            assert expected is None, block.hex()
            return None
        assert list(fields) == expected, block.hex()
        assert list(self.ours._entries) == list(self.theirs.header_table.dynamic_entries)
        if steady:
            assert list(self.ours._entries) == entries
        return list(fields)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FIELDS, st.booleans(), st.booleans()), max_size=12), st.binary(max_size=30))
def test_blocks_of_any_encoder_and_what_is_no_block_at_all(
    blocks: list[tuple[Fields, bool, bool]], rubbish: bytes
) -> None:
    pair = Pair()
    encoder = Encoder()
    for fields, sensitive, huffman in blocks:
        block = encoder.encode([(*one, sensitive) for one in fields], huffman=huffman)
        if pair.read(block) is None:
            return  # too large: the connection is over
    pair.read(rubbish)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=5))
def test_any_bytes(blocks: list[bytes]) -> None:
    pair = Pair()
    for block in blocks:
        if pair.read(block) is None:
            return


@settings(max_examples=300, deadline=None)
@given(FIELDS, st.integers(0, 200), st.integers(0, 255))
def test_a_block_with_a_wrong_byte(fields: Fields, position: int, byte: int) -> None:
    block = bytearray(Encoder().encode(fields))
    if block:
        block[position % len(block)] = byte
    Pair().read(bytes(block))


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xff\x00",  # an index beyond an empty table
        b"\xff\xff\xff\xff\xff\x7f",  # a huge one
        b"\xff\xff\xff\xff\xff\xff\x7f",  # one that takes too many bytes
        b"\xff",  # the end, in an integer
        b"\x40",  # … behind a field's first byte
        b"\x40\x03abc",  # … behind its name
        b"\x40\x03ab",  # … in it
        b"\x04\x05/abc",  # … in a value
        b"\x00\x81\xff\x01a",  # padding alone, and too much of it
        b"\x00\x84\xff\xff\xff\xff\x01a",  # the symbol that ends a string
        b"\x82\x20",  # a size behind a field
        b"\x3f\xe2\x1f",  # 4,097
    ],
)
def test_what_no_peer_may_send(block: bytes) -> None:
    assert Pair().read(block) is None


def test_sizes_of_the_table_as_they_come() -> None:
    pair = Pair()
    assert pair.read(b"\x40\x01a\x01b\x40\x01c\x01d") == [(b"a", b"b"), (b"c", b"d")]
    assert pair.read(b"\x3f\x04\xbe") == [(b"c", b"d")]  # 35: the older one goes
    assert pair.read(b"\xbf") is None
    pair = Pair()
    assert pair.read(b"\x40\x01a\x01b") == [(b"a", b"b")]
    assert pair.read(b"\x20\x3f\xe1\x1f\x82") == [(b":method", b"GET")]  # emptied, and 4,096 again
    assert pair.read(b"\xbe") is None


def test_an_entry_that_is_larger_than_the_table_empties_it() -> None:
    pair = Pair(1 << 20)
    pair.read(b"\x40\x01a\x01b")
    encoder = Encoder()
    pair.read(encoder.encode([(b"x", b"v" * 5_000)]))
    assert not pair.ours._entries


def test_a_name_that_is_taken_from_the_entry_which_the_new_one_pushes_out() -> None:
    pair = Pair(1 << 20)
    pair.read(b"\x40\x01a" + b"\x7f\xe0\x1e" + b"v" * 4_063)  # 4,096 bytes with its 32
    assert pair.read(b"\x7e\x01w") == [(b"a", b"w")]


def test_a_list_of_fields_ends_at_its_limit() -> None:
    decoder = HpackDecoder(100)
    assert len(decoder.decode(b"\x82" * 2)[0]) == 2
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(b"\x82" * 3)


def test_every_symbol_alone_and_behind_every_other() -> None:
    def coded(*symbols: int) -> bytes:
        bits = "".join(f"{REQUEST_CODES[one]:0{REQUEST_CODES_LENGTH[one]}b}" for one in symbols)
        bits += "1" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    for first in range(256):
        assert decode_huffman(coded(first)) == bytes([first])
        for second in range(0, 256, 5):
            assert decode_huffman(coded(first, second)) == bytes([first, second])
    assert decode_huffman(b"") == b""
