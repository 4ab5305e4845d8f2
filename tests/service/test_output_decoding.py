"""Content-encodings undone piece by piece: whole, cut off, wrong, and of a size that must stay bounded."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verser2_guest_python.errors import StreamFailureError, VerserError
from verser2_guest_python.service.output.decoding import (
    PIECE_BYTES,
    UnknownEncoding,
    decodable_encodings,
    decoder_for,
)


def raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "gzip, deflate": lambda data: zlib.compress(gzip.compress(data)),
    "GZIP , identity": gzip.compress,
}


def decoded(encoding: str, data: bytes, step: int | None = None) -> bytes:
    decoder = decoder_for(encoding)
    assert decoder is not None
    step = step or len(data) or 1
    out = b"".join(piece for at in range(0, len(data), step) for piece in decoder.feed(data[at : at + step]))
    decoder.finish()
    return out


@pytest.mark.parametrize("encoding", ENCODERS)
@given(data=st.binary(max_size=3000), step=st.integers(1, 700))
def test_what_was_encoded_comes_back_however_it_was_cut(encoding: str, data: bytes, step: int) -> None:
    assert decoded(encoding, ENCODERS[encoding](data), step) == data


@given(data=st.binary(min_size=1, max_size=3000), step=st.integers(1, 700))
def test_deflate_without_its_header_is_known_too(data: bytes, step: int) -> None:
    assert decoded("deflate", raw_deflate(data), step) == data


@pytest.mark.parametrize("encoding", ["", "identity", " , identity"])
def test_there_may_be_nothing_to_undo(encoding: str) -> None:
    assert decoder_for(encoding) is None


def test_several_members_of_gzip_are_one_body_and_what_follows_is_left_out() -> None:
    members = gzip.compress(b"one ") + gzip.compress(b"two")
    for step in (1, 7, 1000):
        assert decoded("gzip", members + b"\0\0\0", step) == b"one two"


def test_a_little_that_becomes_much_comes_in_pieces() -> None:
    decoder = decoder_for("gzip")
    assert decoder is not None
    sizes = [len(piece) for piece in decoder.feed(gzip.compress(bytes(20_000_000)))]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= PIECE_BYTES


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_body_that_ends_too_early_is_told(encoding: str) -> None:
    data = ENCODERS[encoding](b"some text that is long enough" * 50)
    with pytest.raises(StreamFailureError, match="too early"):
        decoded(encoding, data[:-5])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, deflate"])
def test_a_body_that_is_something_else_is_told_with_what_to_do(encoding: str) -> None:
    with pytest.raises(VerserError, match=r"is not .*--raw"):
        decoded(encoding, b"<html>not encoded at all</html>")


@pytest.mark.parametrize("encoding", ENCODERS)
def test_no_body_at_all_is_whole(encoding: str) -> None:
    assert decoded(encoding, b"") == b""


def test_an_encoding_that_nobody_knows_is_named() -> None:
    with pytest.raises(UnknownEncoding, match="'quark'"):
        decoder_for("gzip, quark")


def test_what_can_be_undone_is_said() -> None:
    names = decodable_encodings()
    assert names[:2] == ("gzip", "deflate")
    for name in names:
        assert decoder_for(name) is not None


def test_a_package_that_is_missing_is_named() -> None:
    missing = {"br", "zstd"} - set(decodable_encodings())
    for name in missing:
        with pytest.raises(UnknownEncoding, match="needs the package"):
            decoder_for(name)


def test_brotli_comes_back() -> None:
    brotli = pytest.importorskip("brotli")
    data = b"a text, " * 10_000
    for step in (1, 100, 100_000):
        assert decoded("br", brotli.compress(data), step) == data
    with pytest.raises(StreamFailureError):
        decoded("br", brotli.compress(data)[:-3])
    with pytest.raises(VerserError, match="is not br"):
        decoded("br", b"<html>not encoded at all</html>")


def test_zstd_comes_back() -> None:
    zstd = pytest.importorskip("compression.zstd", reason="needs Python 3.14")
    data = b"a text, " * 100_000
    for step in (1, 100, 100_000):
        assert decoded("zstd", zstd.compress(data) + zstd.compress(b"end"), step) == data + b"end"
    with pytest.raises(StreamFailureError):
        decoded("zstd", zstd.compress(data)[:-3])
