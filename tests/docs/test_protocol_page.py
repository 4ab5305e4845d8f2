"""What `docs/protocol.md` shows of the wire is what this package reads from it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.docs.markdown import ROOT, Block, blocks_of
from verser2_guest_python.wire import vws
from verser2_guest_python.wire.envelopes import EnvelopeParser
from verser2_guest_python.wire.errors_wire import parse_error_object
from verser2_guest_python.wire.registration import parse_registration, parse_registration_answer
from verser2_guest_python.wire.routes import parse_control_line

BLOCKS = [block for block in blocks_of(ROOT / "docs" / "protocol.md") if block.marker == "wire"]


def envelope(kind: int) -> Callable[[bytes], object]:
    def read(metadata: bytes) -> object:
        return EnvelopeParser().feed(struct.pack(">BBI", 1, kind, len(metadata)) + metadata)

    return read


READERS: Final[dict[str, Callable[[bytes], object]]] = {
    "registration": parse_registration,
    "registered": lambda body: parse_registration_answer(200, body),
    "control": parse_control_line,
    "request": envelope(1),
    "response": envelope(2),
    "error": envelope(3),
    "error-object": parse_error_object,
    "websocket": vws.decode,
}


def values_of(text: str) -> Iterator[Any]:
    """JSON values that stand one after the other."""
    decoder = json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.line}-{block.argument}")
def test_what_is_shown_is_read(block: Block) -> None:
    for value in values_of(block.text):
        assert READERS[block.argument](json.dumps(value).encode()) is not None


def test_every_reader_has_an_example() -> None:
    assert {block.argument for block in BLOCKS} == set(READERS)
