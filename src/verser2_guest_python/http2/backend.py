"""Which HTTP/2 engine does the work: h2, or jh2 where it is installed (extra `speed`).

jh2 has the interface of h2 and an HPACK in machine code. Every name of either that the floor uses
passes through here. `VERSER_HTTP2_ENGINE=h2` (or `jh2`) chooses by hand, for tests and for doubts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

_CHOICE = os.environ.get("VERSER_HTTP2_ENGINE", "")

if TYPE_CHECKING:
    _jh2_is_wanted = False
else:
    _jh2_is_wanted = _CHOICE != "h2"
    if _jh2_is_wanted:
        try:
            import jh2  # noqa: F401 - asks whether it is there
        except ImportError:
            if _CHOICE == "jh2":
                raise
            _jh2_is_wanted = False

if TYPE_CHECKING or not _jh2_is_wanted:
    from h2 import events
    from h2.config import H2Configuration
    from h2.connection import AllowedStreamIDs, ConnectionInputs, H2Connection
    from h2.exceptions import H2Error, ProtocolError, StreamClosedError
    from h2.settings import SettingCodes, Settings
    from h2.stream import H2Stream, StreamClosedBy, StreamInputs, StreamState
    from hpack import Decoder, Encoder
    from hpack.exceptions import HPACKError, OversizedHeaderListError
else:
    from jh2 import events
    from jh2.config import H2Configuration
    from jh2.connection import (
        AllowedStreamIDs,
        ConnectionInputs,
        Decoder,
        Encoder,
        H2Connection,
        HPACKError,
        OversizedHeaderListError,
    )
    from jh2.exceptions import H2Error, ProtocolError, StreamClosedError
    from jh2.settings import SettingCodes, Settings
    from jh2.stream import H2Stream, StreamClosedBy, StreamInputs, StreamState

ENGINE_NAME = "jh2" if _jh2_is_wanted else "h2"

__all__ = [
    "ENGINE_NAME",
    "AllowedStreamIDs",
    "ConnectionInputs",
    "Decoder",
    "Encoder",
    "H2Configuration",
    "H2Connection",
    "H2Error",
    "H2Stream",
    "HPACKError",
    "OversizedHeaderListError",
    "ProtocolError",
    "SettingCodes",
    "Settings",
    "StreamClosedBy",
    "StreamClosedError",
    "StreamInputs",
    "StreamState",
    "events",
]
