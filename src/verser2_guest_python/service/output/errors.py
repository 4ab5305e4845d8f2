"""Why output ends early, and what is said of an error.

Apart from what writes output, which needs the event loop, because the command line looks for these before
anything of that is loaded.
"""

from __future__ import annotations

from verser2_guest_python.errors import VerserError


class OutputError(Exception):
    """The output cannot be written; says why."""


class OutputClosed(Exception):
    """Whoever read the output has left, as `| head` does."""


def sentences_of(error: VerserError) -> tuple[str, ...]:
    """What is wrong, a sentence each: the error's own, and those on all else that is wrong as well."""
    return error.message, *getattr(error, "__notes__", ())
