"""WebSockets and route changes of a `SyncVerserBroker`."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.integrations.apps import Diary, make_app
from tests.integrations.stacks import DOMAIN, END_SECONDS, ThreadedStack, threaded_stack
from tests.support.certificates import Certificates
from verser2_guest_python import RequestTimeoutError, VerserWebSocketError
from verser2_guest_python.integrations.sync import SyncVerserBroker

URL = f"ws://{DOMAIN}"


@pytest.fixture
def broker(shared: tuple[Diary, ThreadedStack]) -> Iterator[SyncVerserBroker]:
    with SyncVerserBroker(shared[1].broker()) as broker:
        yield broker


def test_messages_go_both_ways(broker: SyncVerserBroker) -> None:
    with broker.websocket(f"{URL}/talk") as socket:
        assert (socket.target_id, socket.protocol, socket.closed) == ("guest-a", "", False)
        socket.send_text("tëxt")
        assert socket.receive() == {"type": "text", "data": "tëxt"}
        socket.send_bytes(bytearray(b"\x00\xff"))
        assert next(socket) == b"\x00\xff"
        socket.ping("are you there?")
        assert socket.receive() == {"type": "pong", "data": "are you there?"}
        assert socket.buffered_amount == 0
        assert "SyncVerserWebSocket" in repr(socket)
    assert socket.closed
    assert socket.close_code == 1000
    socket.close()


def test_iterating_ends_when_the_app_closes(broker: SyncVerserBroker) -> None:
    with broker.web_socket(f"{URL}/talk", protocol="chat.v1") as socket:
        assert socket.protocol == "chat.v1"
        for text in ("one", "two", "go"):
            socket.send_text(text)
        assert list(socket) == ["one", "two"]
        assert (socket.close_code, socket.close_reason) == (4_001, "as you said")
        assert socket.receive() == {"type": "close", "code": 4_001, "reason": "as you said"}
        with pytest.raises(VerserWebSocketError):
            socket.send_text("too late")


def test_a_message_that_does_not_come(broker: SyncVerserBroker) -> None:
    with broker.websocket(f"{URL}/talk") as socket:
        with pytest.raises(RequestTimeoutError, match="No message"):
            socket.receive(timeout=0.05)
        socket.send_text("still there")
        assert socket.receive(timeout=END_SECONDS)["data"] == "still there"


def test_an_app_that_refuses(broker: SyncVerserBroker) -> None:
    with pytest.raises(VerserWebSocketError):
        broker.websocket(f"{URL}/shut")


def test_it_is_aborted_by_another_thread(
    broker: SyncVerserBroker, shared: tuple[Diary, ThreadedStack]
) -> None:
    with broker.websocket(f"{URL}/talk") as socket:
        aborter = threading.Thread(target=socket.abort)
        aborter.start()
        assert list(socket) == []
        aborter.join(END_SECONDS)
        socket.wait_closed()
        assert socket.close_code == 1006
    diary, threaded = shared
    threaded.until(lambda: diary.events == ["talked: 1006"])


def test_what_came_before_the_close_is_received_after_it(broker: SyncVerserBroker) -> None:
    with broker.websocket(f"{URL}/talk") as socket:
        socket.send_text("hello")
        socket.send_text("go")
        socket.wait_closed()
        broker.close()
        assert list(socket) == ["hello"]
        closed = {"type": "close", "code": 4_001, "reason": "as you said"}
        assert socket.receive(timeout=END_SECONDS) == closed


def test_it_ends_with_its_broker(broker: SyncVerserBroker) -> None:
    with broker.websocket(f"{URL}/talk") as socket:
        broker.close()
        assert socket.closed


def test_route_changes_are_waited_for(certs: Certificates) -> None:
    with threaded_stack(make_app(), certs) as threaded, SyncVerserBroker(threaded.broker()) as broker:
        with broker.routes() as changes:
            threaded.run(threaded.guest.revoke_routes([DOMAIN]))
            change = next(changes)
            assert (change.type, change.domain, changes.dropped) == ("removed", DOMAIN, 0)
        assert list(changes) == []
        waiting = broker.routes()
        closer = threading.Thread(target=broker.close)
        closer.start()
        assert list(waiting) == []
        closer.join(END_SECONDS)
        waiting.close()
