"""Which connections may begin a handshake."""

from __future__ import annotations

from typing import Any

import pytest

from verser2_guest_python.http2 import DoorLimits
from verser2_guest_python.http2.door import MAX_ADDRESSES, Door, network_of


class Knock:
    """What a door needs of a connection."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.peer_address = (address, 1)
        self.gone = False

    def turn_away(self) -> None:
        self.gone = True


class Street:
    """A door with a clock, and what it has said."""

    def __init__(self, **limits: Any) -> None:
        self.now = 0.0
        self.refused: list[tuple[str, str]] = []
        given = {"connection_burst": 3, "connections_per_second": 2.0, "handshakes": 100} | limits
        self.door = Door(DoorLimits(**given), lambda: self.now, lambda *what: self.refused.append(what))

    def knock(self, address: str = "192.0.2.1") -> bool:
        visitor: Any = Knock(address)
        return self.door.admits(visitor, address)


def test_an_address_may_come_so_often() -> None:
    street = Street()
    assert [street.knock() for _ in range(5)] == [True] * 3 + [False] * 2
    assert street.refused == [("192.0.2.1", "connections")] * 2
    assert street.knock("192.0.2.2")
    street.now += 1.0
    assert [street.knock() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::5", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_whom_an_address_counts_for(address: str, network: str) -> None:
    assert network_of(address) == network


def test_only_so_many_addresses_are_remembered() -> None:
    street = Street()
    for _ in range(3):
        assert street.knock("198.51.100.1")
    for number in range(MAX_ADDRESSES - 1):
        assert street.knock(f"a{number}")
        if number % 100 == 0:
            assert not street.knock("198.51.100.1")  # it is kept, because it comes again and again
    assert len(street.door._rations) == MAX_ADDRESSES
    for number in range(MAX_ADDRESSES):
        street.knock(f"b{number}")
    assert len(street.door._rations) == MAX_ADDRESSES


def test_one_handshake_too_many_ends_the_oldest() -> None:
    street = Street(connection_burst=100, handshakes=2)
    knocks: list[Any] = [Knock() for _ in range(4)]
    for knock in knocks[:3]:
        assert street.door.admits(knock, "192.0.2.1")
    assert [knock.gone for knock in knocks] == [True, False, False, False]
    assert street.refused == [("192.0.2.1", "handshakes")]
    street.door.left(knocks[1])  # its handshake is over
    assert street.door.admits(knocks[3], "192.0.2.1")
    assert [knock.gone for knock in knocks] == [True, False, False, False]
    street.door.left(knocks[0])  # which is gone already
