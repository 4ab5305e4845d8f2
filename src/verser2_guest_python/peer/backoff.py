"""When to try again after a Host was lost (interface.md, *Starting and failing*).

Apart because the rule has a clock and chance in it, and both are easier to test alone.
"""

from __future__ import annotations

import random

EAGER_SECONDS = 10.0
"""For so long without a session attempts are close together."""
EAGER_DELAY_SECONDS = 0.5
EAGER_MINIMUM_SECONDS = 0.1
SETTLED_SECONDS = 5.0
"""A session that lived so long has ended its outage: the next one begins with 10 s of its own."""
STABLE_SECONDS = 60.0
"""A session that lived so long was no part of the trouble before it."""


class Backoff:
    """Delays between attempts; times are seconds of any steady clock.

    For the first 10 s of an outage attempts are at most 0.5 s apart; then the delay doubles with full
    jitter, up to `max_delay`, and goes on where it was until a session has lasted a minute. Sessions of
    a few seconds are part of one outage, whose 10 s are those without a session: a Host that lets
    everybody in and out again is not asked twice a second for ever.

    Attributes:
        attempt: How many attempts there were in this outage.
    """

    def __init__(self, max_delay: float = 30.0, rng: random.Random | None = None) -> None:
        self._max_delay = max_delay
        self._random = rng or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._away = 0.0  # seconds without a session before this spell …
        self._away_since: float | None = None  # … which began then
        self._connected_at: float | None = None
        self._late_attempts = 0
        self.attempt = 0

    def connected(self, now: float) -> None:
        """A session stands."""
        if self._away_since is not None:
            self._away += now - self._away_since
            self._away_since = None
        self._connected_at = now

    def lost(self, now: float) -> None:
        """The session is gone, or there has never been one."""
        if self._connected_at is not None:
            lived = now - self._connected_at
            if lived >= SETTLED_SECONDS:
                self._away = 0.0
                self.attempt = 0
            if lived >= STABLE_SECONDS:
                self._late_attempts = 0
            self._connected_at = None
        if self._away_since is None:
            self._away_since = now

    def next_delay(self, now: float) -> float:
        """Seconds until the next attempt."""
        self.attempt += 1
        away = self._away if self._away_since is None else self._away + now - self._away_since
        if away < EAGER_SECONDS:
            if self.attempt == 1:
                return 0.0
            return self._random.uniform(EAGER_MINIMUM_SECONDS, EAGER_DELAY_SECONDS)
        self._late_attempts += 1
        ceiling = min(self._max_delay, EAGER_DELAY_SECONDS * 2 ** min(self._late_attempts, 20))
        return self._random.uniform(0.0, ceiling)
