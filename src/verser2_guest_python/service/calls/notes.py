"""What a `broker` command says beside its answer, on stderr: warnings, and with `-v` what is going on.

Apart because stdout belongs to the answer alone, and because `-s` silences all of this in one place.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from verser2_guest_python.service.output.colour import Palette, wants_colour
from verser2_guest_python.service.output.text import safe

_DESCRIPTOR: Final = 2
_PROGRAM: Final = "verser2-guest"
_LIBRARY: Final = "verser2_guest_python"


class Notes:
    """Where warnings and details go. `silent` keeps all of them to itself."""

    def __init__(self, *, silent: bool = False, verbose: bool = False) -> None:
        self.silent = silent
        self.verbose = verbose and not silent
        self._closed = sys.stderr is None  # then the descriptor may be anything, a socket of ours too
        self._palette = Palette(on=wants_colour(_DESCRIPTOR, os.environ))

    def warn(self, sentence: str) -> None:
        """Something that the user should know, though the command goes on."""
        if not self.silent:
            self._write(f"{self._palette.warning(f'{_PROGRAM}:')} {safe(sentence)}\n")

    def detail(self, mark: str, text: str = "") -> None:
        """A line of `-v`: `*` for what happens, `>` for what is sent, `<` for what comes."""
        if self.verbose:
            line = f"{mark} {safe(text)}".rstrip()
            self._write(f"{self._palette.dim(line) if mark == '*' else line}\n")

    def _write(self, text: str) -> None:
        if not self._closed:
            with suppress(OSError):  # nobody reads it: that is no reason to give the answer up
                os.write(_DESCRIPTOR, text.encode("utf-8", "backslashreplace"))

    @contextmanager
    def of_library(self, *, warnings: bool) -> Iterator[None]:
        """While the block runs, the library's log is told: warnings if asked for, more with `-v`."""
        logger = logging.getLogger(_LIBRARY)
        handler = _Handler(self, warnings=warnings)
        propagate, level = logger.propagate, logger.level
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO if self.verbose else logging.WARNING)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, notes: Notes, *, warnings: bool) -> None:
        super().__init__()
        self._notes = notes
        self._warnings = warnings

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING and self._warnings:
            self._notes.warn(message if message.endswith((".", "!", "?")) else f"{message}.")
        else:
            self._notes.detail("*", message)
