"""Colours of a terminal, where there is one and they are wanted.

Apart because what is shown should not have to know whether it is shown in colour.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


def wants_colour(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether `descriptor` is a terminal that shows colours, and nobody said NO_COLOR (no-color.org)."""
    return not environ.get("NO_COLOR") and can_redraw(descriptor, environ)


def can_redraw(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether `descriptor` is a terminal on which a line can be drawn over."""
    return environ.get("TERM") != "dumb" and os.isatty(descriptor)


class Palette:
    """Puts colours around text, or leaves it as it is."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def _paint(self, codes: str, text: str) -> str:
        return f"\x1b[{codes}m{text}\x1b[0m" if self._on and text else text

    def plain(self, text: str) -> str:
        return text

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def dim(self, text: str) -> str:
        return self._paint("2", text)

    def good(self, text: str) -> str:
        return self._paint("32", text)

    def warning(self, text: str) -> str:
        return self._paint("33", text)

    def bad(self, text: str) -> str:
        return self._paint("31", text)

    def key(self, text: str) -> str:
        return self._paint("34;1", text)

    def string(self, text: str) -> str:
        return self._paint("32", text)

    def number(self, text: str) -> str:
        return self._paint("36", text)

    def literal(self, text: str) -> str:
        return self._paint("35", text)
