"""Lines out of a stream that is cut anywhere (protocol.md §3, §11)."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import pieces, properties
from verser2_guest_python.wire.lines import LineParser, LineTooLong


def outcome(parts: list[bytes], limit: int) -> tuple[list[bytes], bool, int]:
    parser = LineParser(limit)
    lines: list[bytes] = []
    for part in parts:
        try:
            lines += parser.feed(part)
        except LineTooLong as error:
            return (lines + error.lines, True, 0)
        assert parser.pending <= limit
    return (lines, False, parser.pending)


def test_3_a_line_may_be_split_anywhere_and_a_frame_may_hold_several() -> None:
    parser = LineParser(100)
    assert parser.feed(b'{"a":') == []
    assert parser.pending == 5
    assert parser.feed(b'1}\n{"b":2}\n{"c"') == [b'{"a":1}', b'{"b":2}']
    assert parser.feed(b":3}") == []
    assert parser.feed(b"\n") == [b'{"c":3}']
    assert parser.pending == 0


def test_3_empty_lines_are_skipped() -> None:
    assert LineParser(100).feed(b"\n\n{}\n\n\n{}\n") == [b"{}", b"{}"]


@properties
@given(st.data(), st.text(st.sampled_from("ab\n"), max_size=60).map(str.encode), st.integers(1, 12))
def test_3_any_cut_gives_the_same_lines_and_the_same_end(
    data: st.DataObject, wire: bytes, limit: int
) -> None:
    lines = wire.split(b"\n")
    fits: list[bytes] = []
    for line in lines:
        if len(line) > limit:
            wanted = (fits, True, 0)
            break
        fits.append(line)
    else:
        wanted = (fits[:-1], False, len(fits[-1]))
    wanted = ([line for line in wanted[0] if line], *wanted[1:])
    assert outcome([wire], limit) == wanted
    assert outcome(data.draw(pieces(wire)), limit) == wanted
    assert outcome([wire[at : at + 1] for at in range(len(wire))], limit) == wanted


def test_11_the_limit_does_not_count_the_newline() -> None:
    assert LineParser(3).feed(b"abc\n") == [b"abc"]
    with pytest.raises(LineTooLong, match="longer than 3 bytes"):
        LineParser(3).feed(b"abcd\n")


def test_a_line_that_is_too_long_is_refused_before_its_end_and_for_good() -> None:
    parser = LineParser(1_000)
    with pytest.raises(LineTooLong) as caught:
        parser.feed(b"one\ntwo\n" + b"x" * 1_001)
    assert caught.value.lines == [b"one", b"two"]
    assert caught.value.code == "protocol-error"
    with pytest.raises(LineTooLong) as caught:
        parser.feed(b"\nthree\n")
    assert caught.value.lines == []


def feed_for_ever(parser: LineParser, piece: bytes) -> None:
    for _ in range(10_000):
        parser.feed(piece)


def test_a_line_without_end_fills_no_memory() -> None:
    parser = LineParser(1 << 20)
    piece = b"x" * 16_000
    tracemalloc.start()
    try:
        with pytest.raises(LineTooLong):
            feed_for_ever(parser, piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


def test_a_long_line_in_single_bytes_is_no_more_work_than_its_bytes() -> None:
    parser = LineParser(1 << 20)
    for _ in range(1 << 18):
        assert parser.feed(b"x") == []
    assert parser.feed(b"\n") == [b"x" * (1 << 18)]
