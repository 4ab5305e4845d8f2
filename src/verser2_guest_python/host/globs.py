"""Patterns of names, in which `*` stands for any run of characters, also for none, and for dots.

Apart because a policy matches what strangers send: this takes time in proportion to the text, however
many stars a pattern has, where a regular expression may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


class Globs:
    """Several patterns; a text matches if one of them does."""

    __slots__ = ("_everything", "_exact", "_patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        known = tuple(patterns)
        self._everything = "*" in known
        self._exact = frozenset(pattern for pattern in known if "*" not in pattern)
        self._patterns = tuple(tuple(pattern.split("*")) for pattern in known if "*" in pattern)

    @property
    def everything(self) -> bool:
        """Whether every text matches."""
        return self._everything

    def match(self, text: str) -> bool:
        """Whether the text matches; upper and lower case differ."""
        return self._everything or text in self._exact or any(_match(parts, text) for parts in self._patterns)

    def match_any(self, texts: Iterable[str]) -> bool:
        """Whether one of the texts matches."""
        return any(self.match(text) for text in texts)


@lru_cache(maxsize=1_024)
def globs(patterns: tuple[str, ...]) -> Globs:
    """The patterns, ready to match; the same ones are made ready once."""
    return Globs(patterns)


def _match(parts: tuple[str, ...], text: str) -> bool:
    """Each part in turn at the first place where it fits: with nothing but stars between, that is enough."""
    first, *middle, last = parts
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
