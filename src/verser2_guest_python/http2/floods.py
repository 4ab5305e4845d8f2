"""Frames that cost whoever receives them more than whoever sends them, and how many a peer may send.

    resets      streams that are opened and given up (CVE-2023-44487), or that a broken rule makes us reset
    pings       each is answered (CVE-2019-9512)
    settings    each is answered, and concerns every open stream (CVE-2019-9515)
    idle frames what moves nothing: empty DATA (CVE-2019-9518), WINDOW_UPDATE, PRIORITY, unknown types,
                frames on streams that are over

Apart from the parser because a session of a Host is held to this and one of a peer is not: whom a peer
dials, it has chosen. Other floods end by sizes: header blocks by their bytes and frames
(CVE-2024-27316), what a peer does not read by `max_backlog_bytes`, bodies by windows.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ErrorCode
from .frames import EngineError
from .ration import Ration

BYTES_FOR_AN_IDLE_FRAME = 64
"""What we send allows the peer idle frames as well: whoever reads much, sends WINDOW_UPDATE often."""


@dataclass(frozen=True, slots=True)
class Pace:
    """So many at once, and so many a second after that."""

    burst: int
    per_second: float


@dataclass(frozen=True, slots=True)
class FloodLimits:
    """What a session may bring before it is ended with ENHANCE_YOUR_CALM.

    `resets` lies above what a peer that keeps to protocol.md §12.10 ever sends (900, and 30 a second),
    also where a stall of the network joins many seconds of it.
    """

    resets: Pace = Pace(2_000, 60.0)
    pings: Pace = Pace(1_000, 50.0)
    settings: Pace = Pace(100, 5.0)
    idle_frames: Pace = Pace(20_000, 5_000.0)


_WORDS = {
    "resets": "resets of streams",
    "pings": "PINGs",
    "settings": "SETTINGS",
    "idle_frames": "frames that move nothing",
}


class FloodGuard:
    """Counts what one peer sends."""

    __slots__ = ("_earned", "_limits", "_rations")

    def __init__(self, limits: FloodLimits) -> None:
        self._limits = limits
        self._rations: dict[str, Ration] = {}
        self._earned = 0

    def count(self, what: str, number: int, sent_bytes: int, now: float) -> None:
        """So many came, of what a field of `FloodLimits` names; raises `EngineError` when it is too much.

        `sent_bytes` is what has been sent to the peer up to now.
        """
        if what == "idle_frames":
            used = min(number, sent_bytes // BYTES_FOR_AN_IDLE_FRAME - self._earned)
            self._earned += used
            number -= used
        ration = self._rations.get(what)
        if ration is None:
            pace: Pace = getattr(self._limits, what)
            ration = self._rations[what] = Ration(pace.burst, pace.per_second, now)
        if not ration.take(now, number):
            raise EngineError(
                ErrorCode.ENHANCE_YOUR_CALM, f"the peer sent too many {_WORDS[what]}", limit=what
            )
