"""A policy as a file writes it: tables under `[[host.policy]]`, into entries.

Apart from `policy.py` because a file is written by hand: every mistake has to be told in the words of
whoever made it, with the entry's number and the nearest key that exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.host.policy import PolicyEntry

TOKEN_FILE_KEY: Final = "registration_token_file"  # noqa: S105 - a name, no password
TOKEN_SHA256_KEY: Final = "registration_token_sha256"  # noqa: S105
MAX_TOKEN_FILE_BYTES: Final = 65_536

_LIST_KEYS: Final = (
    "cn",
    "dns",
    "uri",
    "fingerprint",
    "roles",
    "peer_ids",
    "domains",
    "call_domains",
    "call_methods",
)
POLICY_KEYS: Final = ("name", *_LIST_KEYS, TOKEN_FILE_KEY, TOKEN_SHA256_KEY)
"""All keys of an entry."""

_NO_TABLES: Final = "The policy has to be a list of tables: write each as [[host.policy]]."
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def read_policy(
    tables: object, *, directory: Path = Path(), place: Callable[[int], str] | None = None
) -> tuple[PolicyEntry, ...]:
    """The entries of a policy; token files are read here, and named from `directory`.

    `place` says where the entry of a number, from 1, stands, such as `host.toml:12`.

    Raises:
        VerserConfigurationError: an entry makes no sense, or a file cannot be read. Sentences on further
            entries of that kind are its notes.

    Example:
        read_policy([{"cn": "shop-*", "domains": ["*.shop.test"]}])
    """
    if not isinstance(tables, Sequence) or isinstance(tables, str) or not tables:
        raise VerserConfigurationError(_NO_TABLES)
    entries = []
    mistakes = []
    for number, table in enumerate(tables, start=1):
        try:
            entries.append(_entry(table, number, directory))
        except VerserConfigurationError as error:
            mistakes.append(f"{place(number)}: {error.message}" if place else error.message)
    if mistakes:
        raised = VerserConfigurationError(mistakes[0])
        for other in mistakes[1:]:
            raised.add_note(other)
        raise raised
    return tuple(entries)


def _entry(table: object, number: int, directory: Path) -> PolicyEntry:
    if not isinstance(table, Mapping):
        raise VerserConfigurationError(_NO_TABLES)
    name = table.get("name", "")
    where = f"[[host.policy]] {name if isinstance(name, str) and name else f'#{number}'}"
    for key in table:
        if key not in POLICY_KEYS:
            near = get_close_matches(str(key), POLICY_KEYS, n=1, cutoff=0.0)[0]
            raise VerserConfigurationError(
                f"{where} has the key {key!r}, which there is not: is {near!r} meant?"
            )
    values: dict[str, Any] = {"name": _text(name, "name", where) if "name" in table else f"#{number}"}
    for key in _LIST_KEYS:
        if key in table:
            values[key] = _texts(table[key], key, where)
    if TOKEN_FILE_KEY in table and TOKEN_SHA256_KEY in table:
        raise VerserConfigurationError(
            f"{where} has both {TOKEN_FILE_KEY} and {TOKEN_SHA256_KEY}: leave one out."
        )
    if TOKEN_FILE_KEY in table:
        path = directory / Path(_text(table[TOKEN_FILE_KEY], TOKEN_FILE_KEY, where)).expanduser()
        values["registration_token"] = read_token(path, f"{where}, {TOKEN_FILE_KEY}")
    if TOKEN_SHA256_KEY in table:
        text = _text(table[TOKEN_SHA256_KEY], TOKEN_SHA256_KEY, where)
        if _SHA256.fullmatch(text) is None:
            raise VerserConfigurationError(
                f"{where} has a {TOKEN_SHA256_KEY} that is not 64 hex digits: "
                '`printf %s "$token" | sha256sum` shows it.'
            )
        values["token_digest"] = bytes.fromhex(text)
    return PolicyEntry(**values)


def read_token(path: Path, where: str) -> str:
    """The token in a file, without the end of its line; `where` says who asks for it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TOKEN_FILE_BYTES)
        token = content.decode("utf-8").strip()
    except OSError as error:
        raise VerserConfigurationError(f"{where}: {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise VerserConfigurationError(f"{where}: {path} is not UTF-8 text.") from None
    if not token:
        raise VerserConfigurationError(f"{where}: {path} is empty.")
    return token


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise VerserConfigurationError(f"{where}: {key} has to be a text.")
    return value


def _texts(value: object, key: str, where: str) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not entries:
        raise VerserConfigurationError(
            f"{where}: {key} has to be a text, or a list of texts that is not empty."
        )
    return tuple(_text(entry, key, where) for entry in entries)
