"""What a setting is to a user: a flag, a sentence, a default, the group it is shown in.

Apart from the table in `option_table.py` because the command line and the settings need the type, and
the type needs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from verser2_guest_python.service.output.text import size


class Kind(Enum):
    """How a value is written, and how `--help` names it."""

    TEXT = "TEXT"
    URL = "URL"
    FILE = "FILE"
    DIRECTORY = "DIR"
    COUNT = "N"
    SECONDS = "SECONDS"
    SIZE = "SIZE"
    SWITCH = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    `key` is its path in the settings (`leases.limit_concurrency`); `default` is what holds when
    nobody says anything; `off_flag` is the second name of a switch that can be on by default. With
    `from_file` the flag names a file that holds the value: a secret is never on a command line.
    """

    key: str
    flag: str
    sentence: str
    group: str
    kind: Kind = Kind.TEXT
    default: Any = None
    metavar: str = ""
    off_flag: str = ""
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    required: bool = False
    from_file: bool = False

    @property
    def parameter(self) -> str:
        """The name of the Python argument that carries it."""
        return self.key.replace(".", "__")

    @property
    def shown_default(self) -> str:
        """The default as people write it; "" where there is none, or nothing to write."""
        if self.default in (None, (), ""):
            return ""
        if self.kind is Kind.SWITCH:
            return "on" if self.default else "off"
        if self.kind is Kind.SIZE:
            return size(self.default).replace(".0 ", "")
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


GROUP_APP: Final = "The app"
GROUP_HOST: Final = "The Host"
GROUP_LISTENING: Final = "Listening"
GROUP_ADMISSION: Final = "Who may register"
GROUP_TLS: Final = "TLS"
GROUP_LEASES: Final = "Leases"
GROUP_LIMITS: Final = "Limits"
GROUP_SESSION: Final = "Session"
GROUP_WORKERS: Final = "Workers"
GROUP_LOG: Final = "Log"
GROUP_HEALTH: Final = "Health"
GROUP_SOURCES: Final = "Where settings come from"
