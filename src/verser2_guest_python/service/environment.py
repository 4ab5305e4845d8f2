"""The environment as settings: which variable stands for which setting, read without any model.

Apart from `settings.py` because a one-shot `broker get` reads a handful of variables and must not
wait for a validation library to load. Both ways read through `look_up`, so both know the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from verser2_guest_python.errors import VerserConfigurationError

PREFIX: Final = "VERSER_"
_FILE_SUFFIX: Final = "_FILE"
MAX_SECRET_FILE_BYTES: Final = 65_536

# Names that came before the scheme `VERSER_GROUP__KEY` and stay (the first one is shown in --help)
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "routed_domains": ("VERSER_GUEST_DOMAIN",),
        "tls.ca_file": ("VERSER_TLS_CA_FILE",),
        "tls.cert_file": ("VERSER_TLS_CERT_FILE",),
        "tls.key_file": ("VERSER_TLS_KEY_FILE",),
        "tls.key_password": ("VERSER_TLS_KEY_PASSWORD",),
        "tls.pfx_file": ("VERSER_TLS_PFX_FILE",),
        "tls.pfx_password": ("VERSER_TLS_PFX_PASSWORD",),
    }
)

# What others may have set, for any program: it counts only where we were told nothing
_FALLBACKS: Final[Mapping[str, str]] = MappingProxyType({"workers.workers": "WEB_CONCURRENCY"})

LISTS: Final = frozenset(
    {
        "forwarded_allow_brokers",
        "host_url",
        "routed_domains",
        "workers.reload_dir",
        "workers.reload_exclude",
        "workers.reload_include",
    }
)
SECRETS: Final = frozenset({"tls.key_password", "tls.pfx_password"})


@dataclass(frozen=True, slots=True)
class Found:
    """What the environment says about one setting, and which variable said it."""

    value: str
    variable: str


def variables(key: str) -> tuple[str, ...]:
    """The variables for `key` (for `a.b` `VERSER_A__B`), aliases last."""
    return (PREFIX + key.replace(".", "__").upper(), *_ALIASES.get(key, ()))


def shown_variable(key: str) -> str:
    """The one name that help texts and messages use for `key`."""
    names = variables(key)
    return names[-1] if key.startswith("tls.") and len(names) > 1 else names[0]


def split_list(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, without blanks around them and without empty ones."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def look_up(key: str, environ: Mapping[str, str]) -> Found | None:
    """What `environ` says about `key`; an empty variable counts as not set.

    A secret may also come from a file: `VERSER_TLS_KEY_PASSWORD_FILE`. Raises
    `VerserConfigurationError` when two names of one setting say different things, and when a
    secret's file cannot be read.
    """
    found: Found | None = None
    for candidate in _candidates(key, environ):
        if found is None:
            found = candidate
        elif _meaning(key, found.value) != _meaning(key, candidate.value):
            raise VerserConfigurationError(
                f"{found.variable} and {candidate.variable} mean the same setting but hold different values: "
                "unset one of them."
            )
    if found is None and (variable := _FALLBACKS.get(key)) and (value := environ.get(variable, "")):
        return Found(value, variable)
    return found


def _candidates(key: str, environ: Mapping[str, str]) -> list[Found]:
    candidates = []
    for variable in variables(key):
        if value := environ.get(variable, ""):
            candidates.append(Found(value, variable))
        if key in SECRETS and (path := environ.get(variable + _FILE_SUFFIX, "")):
            candidates.append(Found(_secret(variable + _FILE_SUFFIX, path), variable + _FILE_SUFFIX))
    return candidates


def _meaning(key: str, value: str) -> object:
    return split_list(value) if key in LISTS else value


def _secret(variable: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SECRET_FILE_BYTES)
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise VerserConfigurationError(
            f"{variable} names a file that cannot be read: {path} ({error.strerror})."
        ) from None
    except UnicodeDecodeError:
        raise VerserConfigurationError(f"{variable} names a file that is not UTF-8 text: {path}.") from None
