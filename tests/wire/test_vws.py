"""WebSocket messages, VWS/1 (protocol.md §11, §14)."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import (
    contexts,
    domains,
    header_names,
    header_values,
    ids,
    nearly,
    paths,
    pieces,
    properties,
    texts,
)
from verser2_guest_python.wire.limits import MAX_VWS_LINE_BYTES
from verser2_guest_python.wire.vws import (
    Accept,
    Binary,
    Close,
    Error,
    Message,
    Open,
    Ping,
    Pong,
    Text,
    VwsParser,
    VwsViolation,
    decode,
    encode,
    is_close_code,
)

EXAMPLES: list[tuple[bytes, Message]] = [
    (
        b'{"type":"open","domain":"a.local.test","path":"/room?x=1","protocol":"chat.v1"}',
        Open("a.local.test", "/room?x=1", "chat.v1"),
    ),
    (b'{"type":"accept","protocol":"chat.v1"}', Accept("chat.v1")),
    ('{"type":"text","data":"hé"}'.encode(), Text("hé")),
    (b'{"type":"binary","data":"AP9/"}', Binary(b"\x00\xff\x7f")),
    (b'{"type":"ping","data":"n"}', Ping("n")),
    (b'{"type":"pong","data":"n"}', Pong("n")),
    (b'{"type":"close","code":1000,"reason":"done"}', Close(1000, "done")),
    (
        b'{"type":"error","code":"missing-guest","message":"m","context":{"status":404}}',
        Error("missing-guest", "m", {"status": 404}),
    ),
]


@pytest.mark.parametrize(("line", "message"), EXAMPLES)
def test_11_the_lines_are_those_of_the_contract(line: bytes, message: Message) -> None:
    assert decode(line) == message
    assert encode(message) == line + b"\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"type":"open","domain":"a"}', Open("a", "/", "")),
        (b'{"type":"open","domain":"a","path":""}', Open("a", "/", "")),
        (b'{"type":"accept"}', Accept("")),
        (b'{"type":"accept","protocol":""}', Accept("")),
        (b'{"type":"ping"}', Ping("")),
        (b'{"type":"pong"}', Pong("")),
        (b'{"type":"close","code":1000}', Close(1000, "")),
        (b'{"type":"error","code":"timeout"}', Error("timeout")),
        (b'{"type":"text","data":"","new":1}', Text("")),
        (b'{"type":"binary","data":""}', Binary(b"")),
        (b'{"data":"\\ud83d\\ude00","type":"text"}', Text("😀")),
    ],
)
def test_11_what_is_optional_has_a_default_and_unknown_keys_are_ignored(
    line: bytes, message: Message
) -> None:
    assert decode(line) == message


def test_14_headers_of_open_and_accept() -> None:
    assert decode(b'{"type":"open","domain":"a","headers":{"cookie":"x"}}') == Open(
        "a", headers={"cookie": "x"}
    )
    accept = Accept("", {"set-cookie": ["a=1", "b=2"], "x": "y"})
    assert decode(encode(accept).rstrip()) == accept
    assert "hunter2" not in repr(Open("a", headers={"cookie": "hunter2"}))


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b'"text"',
        b"{}",
        b'{"type":null}',
        b'{"type":5}',
        b'{"type":["text"]}',
        b'{"type":"hello"}',
        b'{"type":"Text","data":""}',
        b'{"type":"text"}',
        b'{"type":"text","data":5}',
        b'{"type":"text","data":null}',
        b'{"type":"text","data":"\\ud800"}',
        b'{"type":"text","data":"\xff"}',
        b'{"type":"text","data":"\n"}',
        b'{"type":"text","data":NaN}',
        b'{"type":"open"}',
        b'{"type":"open","domain":""}',
        b'{"type":"open","domain":5}',
        b'{"type":"open","domain":"a","path":5}',
        b'{"type":"open","domain":"a","path":"room"}',
        b'{"type":"open","domain":"a","path":"/a\\r\\nb"}',
        b'{"type":"open","domain":"a","protocol":null}',
        b'{"type":"open","domain":"a","headers":[]}',
        b'{"type":"open","domain":"a","headers":{"a":["x"]}}',
        b'{"type":"accept","protocol":5}',
        b'{"type":"accept","headers":{"a":5}}',
        b'{"type":"ping","data":null}',
        b'{"type":"pong","data":true}',
        b'{"type":"close"}',
        b'{"type":"close","code":"1000"}',
        b'{"type":"close","code":true}',
        b'{"type":"close","code":1000.5}',
        b'{"type":"close","code":1000,"reason":5}',
        b'{"type":"error"}',
        b'{"type":"error","code":""}',
        b'{"type":"error","code":5}',
        b'{"type":"error","code":"x","message":5}',
    ],
)
def test_11_what_breaks_the_contract_is_answered_with_1002(line: bytes) -> None:
    with pytest.raises(VwsViolation) as caught:
        VwsParser().feed(line + b"\n")
    assert caught.value.close_code == 1002
    assert caught.value.code == "protocol-error"


@pytest.mark.parametrize(
    "data",
    [
        "AP9",
        "AP9/=",
        "AP9_",
        "A",
        "AA",
        "AA=",
        "=AAA",
        "AA==AA==",
        "AP 9/",
        "AP9/\\n",
        "é",
        "AB==",
        "AAB=",
        "AA\\u003d",
        "=",
        "====",
        "AP9/====",
        "A===",
        "AA===",
    ],
)
def test_11_bad_base64_is_answered_with_1002(data: str) -> None:
    with pytest.raises(VwsViolation, match="not base64") as caught:
        decode(f'{{"type":"binary","data":"{data}"}}'.encode())
    assert caught.value.close_code == 1002


def test_11_close_codes_on_the_wire() -> None:
    allowed = {*range(1000, 1015), *range(3000, 5000)} - {1004, 1005, 1006}
    for code in (*range(990, 1020), 2000, 2999, 3000, 3001, 4998, 4999, 5000, 0, -1, 10**30):
        assert is_close_code(code) == (code in allowed)
        line = json.dumps({"type": "close", "code": code}).encode()
        if code in allowed:
            assert decode(line) == Close(code, "")
            assert encode(Close(code))
        else:
            with pytest.raises(VwsViolation):
                decode(line)
            with pytest.raises(VwsViolation):
                encode(Close(code))


def test_11_a_reason_has_at_most_123_bytes_of_utf_8() -> None:
    for reason, right in (("x" * 123, True), ("x" * 124, False), ("é" * 61, True), ("é" * 62, False)):
        line = json.dumps({"type": "close", "code": 1000, "reason": reason}).encode()
        if right:
            assert decode(line) == Close(1000, reason)
            assert decode(encode(Close(1000, reason)).rstrip()) == Close(1000, reason)
        else:
            with pytest.raises(VwsViolation, match="at most 123") as caught:
                decode(line)
            assert caught.value.close_code == 1002
            with pytest.raises(VwsViolation, match="at most 123"):
                encode(Close(1000, reason))


def test_11_the_longest_line_passes_and_one_byte_more_is_answered_with_1009() -> None:
    frame = len(b'{"type":"text","data":""}')
    longest = encode(Text("x" * (MAX_VWS_LINE_BYTES - frame)))
    assert len(longest) == MAX_VWS_LINE_BYTES + 1
    assert VwsParser().feed(longest) == [Text("x" * (MAX_VWS_LINE_BYTES - frame))]
    with pytest.raises(VwsViolation, match="1,048,577") as caught:
        encode(Text("x" * (MAX_VWS_LINE_BYTES - frame + 1)))
    assert caught.value.close_code == 1009
    with pytest.raises(VwsViolation) as caught:
        VwsParser().feed(b" " + longest)
    assert caught.value.close_code == 1009
    with pytest.raises(VwsViolation) as caught:
        VwsParser().feed(b" " + longest[:-1])  # the newline has not even come
    assert caught.value.close_code == 1009


def test_11_the_largest_binary_message() -> None:
    message = Binary(b"\xff" * 786_400)
    assert VwsParser().feed(encode(message)) == [message]
    with pytest.raises(VwsViolation) as caught:
        encode(Binary(b"\xff" * 786_432))
    assert caught.value.close_code == 1009


def test_messages_before_a_violation_are_not_lost() -> None:
    parser = VwsParser()
    with pytest.raises(VwsViolation) as caught:
        parser.feed(encode(Text("a")) + encode(Ping("b")) + b"nonsense\n" + encode(Text("c")))
    assert caught.value.messages == [Text("a"), Ping("b")]
    with pytest.raises(VwsViolation) as caught:
        parser.feed(encode(Text("d")))
    assert (caught.value.messages, caught.value.close_code) == ([], 1002)


def feed_for_ever(parser: VwsParser, piece: bytes) -> None:
    for _ in range(1_000):
        parser.feed(piece)


def test_a_line_without_end_fills_no_memory() -> None:
    parser = VwsParser()
    piece = b"x" * 16_384
    tracemalloc.start()
    try:
        with pytest.raises(VwsViolation) as caught:
            feed_for_ever(parser, piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.close_code == 1009
    assert peak < 3 << 20


@pytest.mark.parametrize(
    "message", [Text("\ud800"), Ping("\udfff"), Close(1000, "\ud800"), Open("a", "/\ud800")]
)
def test_a_text_that_utf_8_cannot_say_is_refused(message: Message) -> None:
    with pytest.raises(VwsViolation, match="surrogate"):
        encode(message)


@pytest.mark.parametrize("message", [Text(5), Text(b"x"), Text(None)])  # type: ignore[arg-type]
def test_a_text_is_a_text(message: Message) -> None:
    with pytest.raises(VwsViolation, match="where a text is due"):
        encode(message)


# ---- Properties

close_codes = st.one_of(st.sampled_from([1000, 1001, 1003, 1014]), st.integers(3000, 4999))
accept_values = st.one_of(header_values, st.lists(header_values, max_size=2))
messages = st.one_of(
    st.builds(Text, texts),
    st.builds(Binary, st.binary(max_size=40)),
    st.builds(Ping, texts),
    st.builds(Pong, texts),
    st.builds(Close, close_codes, texts.map(lambda text: text[:30])),
    st.builds(
        Open,
        domains,
        paths,
        texts,
        st.one_of(st.none(), st.dictionaries(header_names, header_values, max_size=3)),
    ),
    st.builds(
        Accept,
        texts,
        st.one_of(
            st.none(),
            st.dictionaries(header_names, accept_values, max_size=3),
        ),
    ),
    st.builds(Error, ids, texts, contexts),
)


def outcome(parts: list[bytes]) -> tuple[list[Message], int | None, int]:
    parser = VwsParser()
    found: list[Message] = []
    for part in parts:
        try:
            found += parser.feed(part)
        except VwsViolation as violation:
            return (found + violation.messages, violation.close_code, 0)
        assert parser.pending <= MAX_VWS_LINE_BYTES
    return (found, None, parser.pending)


@properties
@given(st.data(), st.lists(messages, max_size=5))
def test_messages_come_back_however_they_are_cut(data: st.DataObject, said: list[Message]) -> None:
    wire = b"".join(encode(message) for message in said)
    assert outcome([wire]) == (said, None, 0)
    assert outcome(data.draw(pieces(wire))) == (said, None, 0)


wrong_lines = st.one_of(
    st.binary(max_size=40),
    *[nearly(json.loads(line)) for line, _ in EXAMPLES],
)


@properties
@given(st.data(), st.lists(st.one_of(wrong_lines, messages.map(lambda m: encode(m)[:-1])), max_size=4))
def test_any_bytes_give_messages_or_a_violation_however_they_are_cut(
    data: st.DataObject, lines: list[bytes]
) -> None:
    wire = b"\n".join(lines)
    whole = outcome([wire])
    assert outcome(data.draw(pieces(wire))) == whole
    assert outcome([wire[at : at + 1] for at in range(len(wire))]) == whole
    for message in whole[0]:
        again: Any = decode(encode(message)[:-1])
        assert again == message or isinstance(message, Error)


@given(
    st.text(max_size=12) | st.sampled_from(["", '"', "\\", "\x00", "\x7f", "\u2028", "é", "a\tb"]),
    st.binary(max_size=4),
)
def test_a_text_message_is_read_alike_however_it_is_spaced(text: str, behind: bytes) -> None:
    """The usual spelling has a way of its own through the decoder."""

    def outcome(line: bytes) -> Text | str:
        try:
            message = decode(line)
        except VwsViolation as violation:
            return "violation" if violation.close_code == 1002 else violation.message
        assert isinstance(message, Text)
        return message

    for said in (
        text.encode("utf-8", "surrogatepass"),
        json.dumps(text)[1:-1].encode(),
        text.encode() + behind,
    ):
        usual = b'{"type":"text","data":"' + said + b'"}'
        assert outcome(usual) == outcome(usual.replace(b"{", b"{ ", 1))
        assert outcome(usual + behind) == outcome((usual + behind).replace(b"{", b"{ ", 1))
