"""When to try again (interface.md, *Starting and failing*), against a clock of the test's own."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from verser2_guest_python.peer.backoff import Backoff


class Outage:
    """Attempts that fail at once, or take `attempt_seconds` each, until a Host opens its port."""

    def __init__(self, backoff: Backoff, began: float = 1_000.0, attempt_seconds: float = 0.0) -> None:
        self.backoff = backoff
        self.now = began
        self.began = began
        self.attempt_seconds = attempt_seconds
        self.attempts: list[float] = []

    def lose(self) -> None:
        self.backoff.lost(self.now)

    def attempt(self) -> float:
        """The next attempt: when it begins, counted from the beginning of the outage."""
        self.now += self.backoff.next_delay(self.now)
        self.attempts.append(self.now - self.began)
        self.now += self.attempt_seconds
        return self.attempts[-1]

    def until(self, seconds: float) -> list[float]:
        """All attempts up to then."""
        while self.attempt() <= seconds:
            pass
        return self.attempts

    def connect(self, lived: float) -> None:
        """A session that lasts so long, and is lost."""
        self.backoff.connected(self.now)
        self.now += lived
        self.began = self.now
        self.attempts = []
        self.lose()


def outage(seed: int, **options: float) -> Outage:
    one = Outage(Backoff(rng=random.Random(seed)), **options)
    one.lose()
    return one


@pytest.mark.parametrize("seed", range(20))
def test_a_host_that_was_away_for_up_to_ten_seconds_is_served_within_one(seed: int) -> None:
    attempts = outage(seed).until(10.0)
    assert attempts[0] == 0.0
    gaps = [after - before for before, after in pairwise(attempts)]
    assert max(gaps) <= 0.5
    assert min(gaps[1:-1]) >= 0.1  # not in a loop


@pytest.mark.parametrize("seed", range(20))
def test_then_the_pauses_grow_to_their_maximum_with_full_jitter(seed: int) -> None:
    attempts = outage(seed).until(3_600.0)
    late = [moment for moment in attempts if moment > 10.5]
    gaps = [after - before for before, after in pairwise(late)]
    for number, gap in enumerate(gaps):
        assert gap <= min(30.0, 0.5 * 2 ** (number + 3))
    assert max(gaps) > 20.0
    assert min(gaps) < 10.0
    assert 100 < len(late) < 600


def test_a_stable_minute_ends_it_all() -> None:
    one = outage(1)
    one.until(600.0)
    one.connect(lived=60.0)
    assert len([moment for moment in one.until(10.0) if moment <= 10.0]) > 20
    assert one.backoff.attempt <= len(one.attempts)
    late = [one.attempt() for _ in range(3)]
    assert late[-1] - late[0] <= 1.0 + 2.0 + 4.0  # and the long pauses are short again


def test_each_outage_has_its_ten_seconds() -> None:
    """A Host that is restarted every half minute is served at once each time."""
    one = outage(2)
    for _ in range(20):
        attempts = one.until(9.0)
        assert attempts[0] == 0.0
        assert max(b - a for a, b in pairwise(attempts)) <= 0.5
        one.connect(lived=30.0)


def test_a_host_that_lets_everybody_in_and_out_again_is_not_asked_for_ever() -> None:
    one = outage(3)
    began = one.now
    registrations = 0
    while one.now - began < 3_600.0:
        one.attempt()
        registrations += 1
        one.connect(lived=0.05)
    assert registrations < 500
    # … and a few such sessions do not make it slow
    one = outage(4)
    for _ in range(10):
        one.attempt()
        one.connect(lived=0.5)
    assert one.attempt() <= 0.5


def test_the_longest_pause_is_an_option() -> None:
    one = Outage(Backoff(max_delay=2.0, rng=random.Random(5)))
    one.lose()
    attempts = one.until(300.0)
    assert max(b - a for a, b in pairwise(attempts)) <= 2.0


def test_attempts_are_counted_within_an_outage() -> None:
    one = outage(6)
    for number in range(1, 5):
        one.attempt()
        assert one.backoff.attempt == number
    one.connect(lived=10.0)
    one.attempt()
    assert one.backoff.attempt == 1
