"""Why output ends early.

Apart from `output.py`, which needs the event loop, because the command line looks for these before anything
of that is loaded.
"""

from __future__ import annotations


class OutputError(Exception):
    """The output cannot be written; says why."""


class OutputClosed(Exception):
    """Whoever read the output has left, as `| head` does."""
