"""The recorder keeps what it says, and no more: requests, bytes, bodies, messages."""

from __future__ import annotations

from typing import Any

from verser2_guest_python.host import ExchangeEnd, ExchangeStart, Side
from verser2_guest_python.service.inspector import Recorder
from verser2_guest_python.service.inspector.record import (
    MAX_BODY_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGES,
    MAX_SOCKET_BYTES,
    Record,
)
from verser2_guest_python.service.inspector.recorder import MAX_REQUESTS
from verser2_guest_python.wire.vws import Binary, Close, Message, Text

DONE = ExchangeEnd(200, None, 0, 0)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def start(path: str = "/", **fields: Any) -> ExchangeStart:
    values: dict[str, Any] = {
        "request_id": "broker-a-1",
        "source_id": "broker-a",
        "target_id": "guest-a",
        "domain": "a.test",
        "method": "GET",
        "path": path,
        "headers": {},
    }
    return ExchangeStart(**(values | fields))


def weights(recorder: Recorder) -> int:
    return sum(record.weight for record in recorder)


def test_the_last_requests_are_kept() -> None:
    recorder = Recorder()
    for number in range(MAX_REQUESTS + 20):
        recorder.began(start(f"/{number}")).ended(DONE)
    assert len(recorder) == MAX_REQUESTS == 500
    assert next(record.start.path for record in recorder) == "/20"
    assert recorder.oldest == 21
    assert recorder.get(20) is None
    assert recorder.bytes == weights(recorder)


def test_all_bytes_together_are_bounded_and_the_oldest_go_first() -> None:
    recorder = Recorder(max_bytes=1_000_000)
    for number in range(100):
        record = recorder.began(start(f"/{number}", headers={"x-large": "x" * 10_000}))
        record.answered(200, ((b"x-large", b"y" * 10_000),))
        for _ in range(10):
            record.response_body(b"z" * 10_000)
            assert recorder.bytes <= 1_000_000
        record.ended(DONE)
    assert 5 < len(recorder) < 20
    assert recorder.bytes == weights(recorder)
    assert [record.start.path for record in recorder][-1] == "/99"


def test_one_request_is_kept_whatever_it_takes() -> None:
    recorder = Recorder(max_bytes=1_000)
    record = recorder.began(start())
    record.request_body(b"x" * 50_000)
    assert list(recorder) == [record]
    recorder.began(start())
    assert list(recorder) != [record]


def test_a_body_is_kept_up_to_its_limit_and_counted_whole() -> None:
    record = Recorder().began(start())
    record.request_body(b"a" * (MAX_BODY_BYTES - 1))
    assert not record.request.cut
    record.request_body(b"bcd")
    record.request_body(b"e")
    assert bytes(record.request.kept[-2:]) == b"ab"
    assert (len(record.request.kept), record.request.size, record.request.cut) == (65_536, 65_539, True)


def test_a_request_that_is_not_kept_any_more_costs_nothing() -> None:
    recorder = Recorder(max_requests=1)
    old = recorder.began(start())
    new = recorder.began(start())
    changes: list[Record] = []
    recorder.listen(changes.append)
    before = recorder.bytes
    old.request_body(b"x" * 1_000)
    old.answered(200, ((b"a", b"b"),))
    old.response_body(b"x" * 1_000)
    old.message(Side.GUEST, Text("x" * 1_000))
    old.ended(DONE)
    assert (changes, recorder.bytes, list(recorder)) == ([], before, [new])


def test_websocket_messages_are_bounded_in_number() -> None:
    recorder = Recorder()
    record = recorder.began(start(websocket=True))
    for number in range(MAX_MESSAGES + 50):
        record.message(Side.BROKER, Text(str(number)))
    assert len(record.messages) == MAX_MESSAGES
    assert (record.messages[0].data, record.messages[-1].data) == ("50", "249")
    assert (record.message_count, record.cut_messages) == (250, 50)
    assert recorder.bytes == weights(recorder)


def test_websocket_messages_are_bounded_in_size() -> None:
    recorder = Recorder()
    record = recorder.began(start(websocket=True))
    big: list[Message] = [Text("é" * 400_000), Binary(b"x" * 700_000)]
    for number in range(60):
        record.message(Side.GUEST, big[number % 2])
        assert record.weight <= MAX_SOCKET_BYTES + 10_000
    text, binary = list(record.messages)[-2:]
    assert (text.size, text.cut, len(text.data)) == (800_000, True, MAX_MESSAGE_BYTES)
    assert (binary.size, binary.cut, len(binary.data)) == (700_000, True, MAX_MESSAGE_BYTES)
    assert recorder.bytes == weights(recorder)


def test_the_times_of_a_request() -> None:
    clock = Clock()
    record = Recorder(clock=clock, wall_clock=lambda: 1_700_000_000.0).began(start())
    for name, call in (
        ("leased_at", record.leased),
        ("uploaded_at", lambda: record.request_body(b"x")),
        ("answered_at", lambda: record.answered(201, ())),
        ("first_byte_at", lambda: record.response_body(b"x")),
        ("ended_at", lambda: record.ended(ExchangeEnd(201, None, 1, 1))),
    ):
        clock.now += 1
        assert getattr(record, name) is None
        call()
        assert getattr(record, name) == clock.now
    assert (record.status, record.wall_time) == (201, 1_700_000_000.0)


def test_what_the_broker_was_answered_counts() -> None:
    record = Recorder().began(start())
    record.answered(200, ())
    record.ended(ExchangeEnd(502, "stream-failure", 0, 0, "too short"))
    assert record.status == 502
    socket = Recorder().began(start(websocket=True))
    socket.answered(101, ())
    socket.message(Side.BROKER, Close(1000, "bye"))
    socket.ended(ExchangeEnd(200, None, 0, 0))
    assert socket.status == 101
    assert [(message.kind, message.code, message.data) for message in socket.messages] == [
        ("close", 1000, "bye")
    ]


def test_clearing_leaves_what_is_under_way() -> None:
    recorder = Recorder()
    done, active = recorder.began(start()), recorder.began(start())
    done.ended(DONE)
    cleared: list[int] = []
    recorder.listen(lambda record: None, lambda: cleared.append(len(recorder)))
    recorder.clear()
    assert list(recorder) == [active]
    assert (cleared, recorder.bytes) == ([1], active.weight)


def test_the_newest_of_a_name_is_found() -> None:
    recorder = Recorder()
    recorder.began(start())
    second = recorder.began(start())
    assert recorder.find("broker-a", "broker-a-1") is second
    assert recorder.find("broker-b", "broker-a-1") is None
