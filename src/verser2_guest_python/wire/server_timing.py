"""How a Host says in an answer how long the request waited for a lease: `server-timing` (W3C Server Timing).

Apart because a Host writes it and a Broker reads it, and it is no word of the wire contract: browsers show
it as well, and an app may say such a field itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from verser2_guest_python.wire.limits import MAX_TIMEOUT_MILLISECONDS

SERVER_TIMING_FIELD: Final = b"server-timing"

_LEASE_METRIC: Final = b"verser-lease"
_BLANKS: Final = b" \t"
# A metric's name or a parameter, and what ends it; a comma within quotes ends nothing. It fits anything, so
# that it never has to look back, however long and wrong a value is.
_PIECE: Final = re.compile(rb'((?:[^",;]+|"(?:[^"\\]+|\\.?)*"?)*)([,;]|\Z)', re.DOTALL)
_DURATION: Final = re.compile(rb'(")?([0-9]{1,10}(?:\.[0-9]{1,20})?)(?(1)")')


def lease_timing(seconds: float) -> tuple[bytes, bytes]:
    """The field that says how long a request waited."""
    return SERVER_TIMING_FIELD, b"verser-lease;dur=%.3f" % (seconds * 1_000)


def read_lease_wait(fields: Sequence[tuple[bytes, bytes]]) -> float | None:
    """What the last `verser-lease` in these fields says, in seconds; None where nobody says a length of time.

    Total on any input. A Host adds its own behind whatever an app has said.
    """
    for name, value in reversed(fields):
        if name == SERVER_TIMING_FIELD and _LEASE_METRIC in value:
            metric = _last_metric(value)
            if metric is not None:
                return _seconds(metric)
    return None


def _last_metric(value: bytes) -> list[bytes] | None:
    """The last metric of that name, and its parameters."""
    last: list[bytes] | None = None
    metric: list[bytes] = []
    for piece, end in _PIECE.findall(value):
        metric.append(piece.strip(_BLANKS))
        if end != b";":
            if metric[0] == _LEASE_METRIC:
                last = metric
            metric = []
    return last


def _seconds(metric: list[bytes]) -> float | None:
    for parameter in metric[1:]:
        name, _, value = parameter.partition(b"=")
        if name.strip(_BLANKS).lower() == b"dur":  # of several the first counts
            said = _DURATION.fullmatch(value.strip(_BLANKS))
            if said is None:
                return None
            milliseconds = float(said[2])
            return milliseconds / 1_000 if milliseconds <= MAX_TIMEOUT_MILLISECONDS else None
    return None
