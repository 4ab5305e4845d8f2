"""The environment as settings: which variable stands for which setting, read without any model.

Apart from `sources.py`, which ranks it among the other places, because files of variables and
directories of secrets know the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError

PREFIX: Final = "VERSER_"
_FILE_SUFFIX: Final = "_FILE"
MAX_VALUE_FILE_BYTES: Final = 65_536

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
        "gateway.map",
        "gateway.trust_forwarded",
        "host_url",
        "routed_domains",
        "workers.reload_dir",
        "workers.reload_exclude",
        "workers.reload_include",
    }
)
SECRETS: Final = frozenset(
    {"gateway.ssl_keyfile_password", "registration_token", "tls.key_password", "tls.pfx_password"}
)


@dataclass(frozen=True, slots=True)
class Found:
    """What is said about one setting, and where.

    `name` is what the setting is called there: a flag, a variable, a key; `file` is the file that it
    stands in, with the line if that is known, and "" for the command line and the environment.
    """

    value: Any
    name: str
    file: str = ""

    @property
    def place(self) -> str:
        """Where it was said, for a sentence."""
        return f"{self.name} in {self.file}" if self.file else self.name


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


def look_up(key: str, environ: Mapping[str, str], *, file: str = "") -> Found | None:
    """What `environ` says about `key`; an empty variable counts as not set.

    The value may also be in a file that a variable names: `VERSER_TLS_KEY_PASSWORD_FILE`. `file` is where
    the variables come from, if not from the environment. Raises `VerserConfigurationError` when two names
    of one setting say different things, and when the file with a value cannot be read.
    """
    found: Found | None = None
    for candidate in _candidates(key, environ, file):
        if found is None:
            found = candidate
        elif _meaning(key, found.value) != _meaning(key, candidate.value):
            where = f" in {file}" if file else ""
            raise VerserConfigurationError(
                f"{found.name} and {candidate.name}{where} mean the same setting but hold different values: "
                "unset one of them."
            )
    return found


def look_up_fallback(key: str, environ: Mapping[str, str]) -> Found | None:
    """What a variable that others set for any program says about `key`, where nothing else does."""
    if (variable := _FALLBACKS.get(key)) and (value := environ.get(variable, "")):
        return Found(value, variable)
    return None


def _candidates(key: str, environ: Mapping[str, str], file: str) -> list[Found]:
    candidates = []
    for variable in variables(key):
        if value := environ.get(variable, ""):
            candidates.append(Found(value, variable, file))
        if path := environ.get(variable + _FILE_SUFFIX, ""):
            named = variable + _FILE_SUFFIX
            candidates.append(Found(read_value(named, Path(path)), named, file))
    return candidates


def _meaning(key: str, value: str) -> object:
    return split_list(value) if key in LISTS else value


def read_value(name: str, path: Path) -> str:
    """The value that a file holds, without the newline at its end; `name` is what named the file.

    Raises `VerserConfigurationError`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_VALUE_FILE_BYTES)
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise VerserConfigurationError(
            f"{name} names a file that cannot be read: {path} ({error.strerror})."
        ) from None
    except UnicodeDecodeError:
        raise VerserConfigurationError(f"{name} names a file that is not UTF-8 text: {path}.") from None
