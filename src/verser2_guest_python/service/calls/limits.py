"""How long a single call through a Broker may take and how hard it is tried: what `Sources` say.

Apart from `settings/model.py`, whose model checks the same values for everybody else, because a one-shot
command must start fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

from verser2_guest_python.errors import VerserConfigurationError, VerserUsageError
from verser2_guest_python.service.settings.environment import Found
from verser2_guest_python.service.settings.options import OPTIONS
from verser2_guest_python.service.settings.sources import Sources

_MAX_SECONDS: Final = 86_400.0
_MAX_COUNT: Final = 1_000_000
# As the settings' model has them
_ON, _OFF = ("true", "1", "on", "yes", "y", "t"), ("false", "0", "off", "no", "n", "f")
_SWITCHES: Final[Mapping[str, bool]] = MappingProxyType(dict.fromkeys(_ON, True) | dict.fromkeys(_OFF, False))
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The settings of `[broker]`; times are in seconds, None is without a limit."""

    wait: float | None
    timeout: float | None
    lease_timeout: float | None
    retry: int
    max_redirects: int


def call_limits(sources: Sources) -> CallLimits:
    """What `sources` say; raises `VerserUsageError` or `VerserConfigurationError` for what does not fit."""
    return CallLimits(
        wait=seconds_of(sources, "broker.wait"),
        timeout=seconds_of(sources, "broker.timeout"),
        lease_timeout=seconds_of(sources, "broker.lease_timeout"),
        retry=_count_of(sources, "broker.retry"),
        max_redirects=_count_of(sources, "broker.max_redirects"),
    )


def seconds_of(sources: Sources, key: str) -> float | None:
    """A setting that is a time; its default where nothing is said."""
    found = sources.find(key)
    if found is None:
        default: float | None = OPTIONS[key].default
        return default
    value = _number(found.value, float)
    if value is None or not 0 < value <= _MAX_SECONDS:
        raise _misfit(found, f"seconds, above 0 and at most {_MAX_SECONDS:g}")
    return value


def switch_of(sources: Sources, key: str) -> bool:
    """A setting that is on or off; its default where nothing is said."""
    found = sources.find(key)
    if found is None:
        return bool(OPTIONS[key].default)
    value = found.value if isinstance(found.value, bool) else _SWITCHES.get(str(found.value).lower())
    if value is None:
        raise _misfit(found, "true or false")
    return value


def _count_of(sources: Sources, key: str) -> int:
    found = sources.find(key)
    if found is None:
        return int(OPTIONS[key].default)
    value = _number(found.value, int)
    if value is None or not 0 <= value <= _MAX_COUNT:
        raise _misfit(found, f"a number from 0 to {_MAX_COUNT:,}")
    return value


def _number(value: Any, kind: type[_Number]) -> _Number | None:
    if isinstance(value, bool):  # `retry = true`, which Python would take for 1
        return None
    try:
        return kind(value)
    except (TypeError, ValueError):
        return None


def _misfit(found: Found, wanted: str) -> VerserUsageError | VerserConfigurationError:
    kind = VerserConfigurationError if found.file else VerserUsageError
    return kind(f"The value {str(found.value)!r} of {found.place} does not fit: it should be {wanted}.")
