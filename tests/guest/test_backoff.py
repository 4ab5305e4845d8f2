"""When to try again, on a clock of its own (interface.md, Starting and failing)."""

from __future__ import annotations

import random

import pytest

from verser2_guest_python.peer.backoff import (
    EAGER_DELAY_SECONDS,
    EAGER_SECONDS,
    STABLE_SECONDS,
    Backoff,
)

SEEDS = range(50)


class Outage:
    """A Host that is away, and a peer that dials it; each attempt takes `dial_seconds`."""

    def __init__(self, seed: int, *, max_delay: float = 30.0, dial_seconds: float = 0.0) -> None:
        self.backoff = Backoff(max_delay, random.Random(seed))
        self.now = 1_000.0
        self.dial_seconds = dial_seconds
        self.backoff.lost(self.now)

    def attempt(self) -> float:
        """Waits for the next attempt, which fails; returns how long the pause was."""
        delay = self.backoff.next_delay(self.now)
        self.now += delay + self.dial_seconds
        return delay

    def attempts_until(self, time: float) -> list[float]:
        delays = []
        while self.now < time:
            delays.append(self.attempt())
        return delays


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_attempt_comes_at_once(seed: int) -> None:
    assert Outage(seed).attempt() == 0.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dial_seconds", [0.0, 0.05, 1.0])
def test_attempts_are_close_together_for_ten_seconds(seed: int, dial_seconds: float) -> None:
    outage = Outage(seed, dial_seconds=dial_seconds)
    delays = outage.attempts_until(1_000.0 + EAGER_SECONDS)
    assert all(delay <= EAGER_DELAY_SECONDS for delay in delays)
    assert all(delay > 0 for delay in delays[1:])
    assert len(delays) < 150  # and are no flood


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_was_away_for_up_to_ten_seconds_is_found_within_one(seed: int) -> None:
    for away in (0.3, 2.0, 5.0, 9.0, 9.9, 10.0):
        outage = Outage(seed, dial_seconds=0.005)
        outage.attempts_until(1_000.0 + away)
        assert outage.now + 0.0 - (1_000.0 + away) <= 1.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("max_delay", [0.2, 5.0, 30.0])
def test_later_the_pauses_grow_with_full_jitter_up_to_the_largest(seed: int, max_delay: float) -> None:
    outage = Outage(seed, max_delay=max_delay)
    outage.attempts_until(1_000.0 + EAGER_SECONDS)
    ceiling = EAGER_DELAY_SECONDS
    for _ in range(40):
        ceiling = min(2 * ceiling, max(max_delay, EAGER_DELAY_SECONDS))
        assert 0.0 <= outage.attempt() <= min(ceiling, max_delay)


def test_jitter_is_spread_over_the_whole_pause() -> None:
    delays = []
    for seed in range(400):
        outage = Outage(seed)
        outage.now += 3_600.0
        for _ in range(10):
            outage.backoff.next_delay(outage.now)
        delays.append(outage.backoff.next_delay(outage.now))
    assert max(delays) <= 30.0
    assert max(delays) > 29.0
    assert min(delays) < 1.0
    assert 13.0 < sum(delays) / len(delays) < 17.0


def test_two_guests_do_not_dial_in_step() -> None:
    one, other = Outage(1), Outage(2)
    assert [one.attempt() for _ in range(5)][1:] != [other.attempt() for _ in range(5)][1:]


def test_a_day_away_overflows_nothing() -> None:
    outage = Outage(0)
    delays = outage.attempts_until(1_000.0 + 5 * 86_400.0)
    assert all(0.0 <= delay <= 30.0 for delay in delays)


def test_a_stable_session_ends_the_outage() -> None:
    outage = Outage(0)
    outage.attempts_until(2_000.0)
    outage.backoff.connected(outage.now)
    outage.now += STABLE_SECONDS
    outage.backoff.lost(outage.now)
    assert outage.attempt() == 0.0
    assert outage.backoff.attempt == 1
    start = outage.now
    assert all(delay <= EAGER_DELAY_SECONDS for delay in outage.attempts_until(start + EAGER_SECONDS))


def test_a_session_that_lives_a_moment_does_not() -> None:
    """A Host that accepts and drops everybody is dialled with growing pauses."""
    outage = Outage(0)
    outage.attempts_until(1_000.0 + EAGER_SECONDS)
    delays = []
    for _ in range(30):
        outage.backoff.connected(outage.now)
        outage.now += 0.5
        outage.backoff.lost(outage.now)
        delays.append(outage.attempt())
    assert max(delays) > 5.0
    assert outage.backoff.attempt > 30


def test_lost_twice_in_a_row_is_one_outage() -> None:
    outage = Outage(0)
    outage.attempts_until(1_000.0 + EAGER_SECONDS)
    attempts = outage.backoff.attempt
    outage.backoff.lost(outage.now)
    outage.attempt()
    assert outage.backoff.attempt == attempts + 1
