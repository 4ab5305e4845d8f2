"""Header blocks: our encoder read by a plain HPACK decoder, our decoder fed by a plain HPACK encoder."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http2.frames import REQUEST, RESPONSE
from verser2_guest_python.http2.backend import Decoder as EngineDecoder
from verser2_guest_python.http2.backend import Encoder as EngineEncoder
from verser2_guest_python.http2.fields import BlockDecoder, BlockEncoder, FieldBlock, encode_literals

NAMES = st.sampled_from([b":status", b"content-type", b"x-a", b"x-b", b"cookie", b"x-" + b"long" * 40])
VALUES = st.one_of(
    st.sampled_from([b"", b"200", b"text/plain", b"a", b"\xff\x00", b"v" * 126, b"v" * 127, b"v" * 128]),
    st.binary(max_size=40),
    st.sampled_from([b"w" * 254, b"w" * 255, b"w" * 3_000]),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def plain(fields: object) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in fields]  # type: ignore[attr-defined]


def decoder(table_bytes: int = 4_096) -> Decoder:
    made = Decoder(max_header_list_size=1 << 24)
    made.header_table_size = table_bytes
    made.max_allowed_table_size = table_bytes
    return made


class SendingEnd:
    """A `BlockEncoder`, and the peer's decoder that reads what it makes."""

    def __init__(self) -> None:
        self._hpack = EngineEncoder()
        self._blocks = BlockEncoder(self._hpack)
        self.decoder = decoder()

    def announce(self, table_bytes: int) -> None:
        """The peer sends SETTINGS_HEADER_TABLE_SIZE, and we acknowledge it."""
        # As h2 does when the setting has changed, and also when it is said again.
        self._hpack.header_table_size = table_bytes
        self._blocks.resized()
        self.decoder.max_allowed_table_size = table_bytes

    def send(
        self,
        block: FieldBlock,
        extra: list[tuple[bytes, bytes]] | None = None,
        secret: list[tuple[bytes, bytes]] | None = None,
    ) -> list[HeaderTuple]:
        return list(self.decoder.decode(self._blocks.encode(block, extra or (), secret or ()), raw=True))

    def encoded(self, block: FieldBlock) -> bytes:
        encoded = self._blocks.encode(block)
        self.decoder.decode(encoded, raw=True)
        return encoded


@settings(max_examples=200, deadline=None)
@given(
    blocks=st.lists(FIELDS, min_size=1, max_size=6),
    steps=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 5), FIELDS, FIELDS),
            st.sampled_from([0, 1, 40, 100, 4_096, 65_536]),
        ),
        max_size=30,
    ),
)
def test_whatever_is_encoded_is_decoded_by_any_peer(
    blocks: list[list[tuple[bytes, bytes]]],
    steps: list[tuple[int, list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]] | int],
) -> None:
    """Many kinds of messages, interleaved, while the peer changes the size of its table."""
    end = SendingEnd()
    kinds = [FieldBlock(fields) for fields in blocks]
    for step in steps:
        if isinstance(step, int):
            end.announce(step)
        else:
            number, extra, secret = step
            kind = kinds[number % len(kinds)]
            assert plain(end.send(kind, extra, secret)) == [*kind.constant, *extra, *secret]


def test_a_size_that_is_said_twice_before_the_next_block() -> None:
    end = SendingEnd()
    kind = FieldBlock(REQUEST)
    end.send(kind)
    end.send(kind)
    end.announce(100)
    end.announce(100)
    assert plain(end.send(kind)) == REQUEST
    assert plain(end.send(kind)) == REQUEST


@pytest.mark.parametrize("between", [0, 33, 4_095])
def test_a_size_that_shrinks_and_grows_again_before_the_next_block(between: int) -> None:
    end = SendingEnd()
    kind = FieldBlock(REQUEST)
    end.send(kind)
    end.send(kind)
    end.announce(between)
    end.announce(4_096)
    # The peer has evicted what did not fit meanwhile.
    end.decoder.header_table_size = between
    end.decoder.header_table_size = 4_096
    assert plain(end.send(kind)) == REQUEST


def test_constant_fields_cost_an_index_each_from_the_second_time_on() -> None:
    end = SendingEnd()
    kind = FieldBlock([*REQUEST, (b"x-verser-peer-id", b"guest-a")])
    first, second, third = end.encoded(kind), end.encoded(kind), end.encoded(kind)
    assert len(first) > len(second)
    assert second == third
    assert len(second) == len(kind.constant)


def test_what_varies_never_pushes_the_constant_fields_out_of_the_table() -> None:
    """protocol.md §12.9."""
    end = SendingEnd()
    kind = FieldBlock([*REQUEST, (b"x-verser-peer-id", b"guest-a")])
    end.encoded(kind)
    for number in range(2_000):
        end.send(kind, [(b"x-verser-lease-id", b"%d" % number)], [(b"authorization", b"%d" % number)])
    assert len(end.encoded(kind)) == len(kind.constant)


def test_secrets_are_never_indexed_and_others_may_be() -> None:
    end = SendingEnd()
    kind = FieldBlock(REQUEST)
    sent = end.send(kind, [(b"x-lease", b"1")], [(b"authorization", b"Bearer t"), (b"cookie", b"c")])
    secret = [one for one in sent if isinstance(one, NeverIndexedHeaderTuple)]
    assert plain(secret) == [(b"authorization", b"Bearer t"), (b"cookie", b"c")]
    assert (b"authorization", b"Bearer t") not in plain(end.decoder.header_table.dynamic_entries)
    assert (b"x-lease", b"1") not in plain(end.decoder.header_table.dynamic_entries)


@given(FIELDS, st.booleans())
def test_literals_read_back(fields: list[tuple[bytes, bytes]], secret: bool) -> None:
    reader = decoder()
    assert plain(reader.decode(encode_literals(fields, secret=secret), raw=True)) == fields
    assert not reader.header_table.dynamic_entries


@pytest.mark.parametrize("size", [0, 126, 127, 128, 254, 255, 256, 16_510, 16_511, 70_000])
def test_literals_of_any_length_read_back(size: int) -> None:
    fields = [(b"n" * size, b"v"), (b"n", b"v" * size)]
    assert plain(decoder().decode(encode_literals(fields), raw=True)) == fields


def received(blocks: BlockDecoder, encoded: bytes) -> list[tuple[bytes, bytes]]:
    """A block as a session takes it."""
    fields = blocks.remembered(encoded)
    if fields is None:
        fields, keep = blocks.decode(encoded)
        if keep:
            blocks.remember(encoded, fields)
    return plain(fields)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 4), st.booleans()),
            st.tuples(FIELDS, st.booleans()),
            st.sampled_from([0, 32, 60, 100, 2_000, 4_096]),
        ),
        max_size=40,
    )
)
def test_whatever_any_peer_encodes_is_decoded(steps: list[object]) -> None:
    """Blocks that repeat, blocks that are new, never-indexed fields, and table sizes that change."""
    usual = [REQUEST, RESPONSE, [*REQUEST, (b"x-a", b"1")], [*RESPONSE, (b"x-b", b"v" * 200)], [(b"x", b"")]]
    peer = Encoder()
    hpack = EngineDecoder()
    hpack.max_header_list_size = 1 << 20
    blocks = BlockDecoder(hpack)
    reference = decoder()
    reference.max_header_list_size = 1 << 24
    for step in steps:
        if isinstance(step, int):
            if not peer.header_table.resized:  # hpack gets two changes at once wrong
                peer.header_table_size = step
            continue
        assert isinstance(step, tuple)
        what, sensitive = step
        fields = usual[what] if isinstance(what, int) else what
        encoded = peer.encode([(*one, sensitive and one[0][:1] != b":") for one in fields])
        expected = plain(reference.decode(encoded, raw=True))
        assert expected == fields
        assert received(blocks, encoded) == fields


def test_a_block_is_known_again_only_while_the_table_stays_as_it_was() -> None:
    """The same bytes mean something else once an entry was added."""
    blocks = BlockDecoder(EngineDecoder())
    peer = Encoder()
    first = [(b"x-a", b"1")]
    assert received(blocks, peer.encode(first)) == first
    again = peer.encode(first)
    assert again == b"\xbe"
    assert received(blocks, again) == first
    assert received(blocks, again) == first
    assert received(blocks, peer.encode([(b"x-b", b"2")])) == [(b"x-b", b"2")]
    assert received(blocks, b"\xbe") == [(b"x-b", b"2")]
    assert received(blocks, b"\xbf") == first


def test_a_table_that_was_emptied_in_between_knows_nothing_any_more() -> None:
    blocks = BlockDecoder(EngineDecoder())
    peer = Encoder()
    assert received(blocks, peer.encode([(b"x-a", b"1")])) == [(b"x-a", b"1")]
    assert received(blocks, b"\xbe") == [(b"x-a", b"1")]
    peer.header_table_size = 0
    peer.header_table_size = 4_096
    assert received(blocks, peer.encode([(b":status", b"200")])) == [(b":status", b"200")]
    with pytest.raises(Exception, match=r"(?i)index"):
        received(blocks, b"\xbe")


def test_what_is_remembered_stays_within_bounds() -> None:
    blocks = BlockDecoder(EngineDecoder())
    for number in range(5_000):
        received(blocks, encode_literals([(b"x", b"%d" % number)]))
    received(blocks, encode_literals([(b"x", b"v" * 5_000)]))
    assert len(blocks._remembered) <= 512
    assert blocks.remembered(encode_literals([(b"x", b"v" * 5_000)])) is None
