"""When to try again after a Host was lost (interface.md, *Starting and failing*).

Apart because the rule has a clock and chance in it, and both are easier to test alone.
"""

from __future__ import annotations

import random

EAGER_SECONDS = 10.0
"""For so long after a loss attempts are close together."""
EAGER_DELAY_SECONDS = 0.5
STABLE_SECONDS = 60.0
"""A session that lived so long was no part of the outage before it."""


class Backoff:
    """Delays between attempts; times are seconds of any steady clock.

    For the first 10 s of an outage attempts are at most 0.5 s apart; then the delay doubles with full
    jitter, up to `max_delay`. A session that lasted a minute ends the outage; a shorter one does not.
    """

    def __init__(self, max_delay: float = 30.0, rng: random.Random | None = None) -> None:
        self._max_delay = max_delay
        self._random = rng or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._outage_began: float | None = None
        self._connected_at: float | None = None
        self._late_attempts = 0
        self.attempt = 0

    def connected(self, now: float) -> None:
        """A session stands."""
        self._connected_at = now

    def lost(self, now: float) -> None:
        """The session is gone, or the first attempt has failed."""
        stable = self._connected_at is not None and now - self._connected_at >= STABLE_SECONDS
        if self._outage_began is None or stable:
            self._outage_began = now
            self._late_attempts = 0
            self.attempt = 0
        self._connected_at = None

    def next_delay(self, now: float) -> float:
        """Seconds until the next attempt."""
        self.attempt += 1
        began = now if self._outage_began is None else self._outage_began
        if now - began < EAGER_SECONDS:
            return self._random.uniform(0.1, EAGER_DELAY_SECONDS) if self.attempt > 1 else 0.0
        self._late_attempts += 1
        ceiling = min(self._max_delay, EAGER_DELAY_SECONDS * 2 ** min(self._late_attempts, 20))
        return self._random.uniform(0.0, ceiling)
