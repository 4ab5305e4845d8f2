"""The command `verser2-guest` from its first instruction on; workers start here too (`python -m`).

Apart because it is there before anything else is imported: an interrupt that comes amid an import would be a
traceback of ours, or be lost in the machinery of imports, and the command would go on.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # until the handler is there, nothing is imported that can wait
if TYPE_CHECKING:
    from types import FrameType
    from typing import Final, NoReturn

_IMPORTING: Final = "<frozen importlib._bootstrap"
_INTERRUPTED: Final = 128 + signal.SIGINT


def main() -> None:
    """Runs the command line; from its first import on, an interrupt ends it in silence."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    from verser2_guest_python.cli.main import main as run

    run()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT until a command has its own: ends an import at once, and interrupts all else."""
    importing = frame
    while importing is not None:
        if importing.f_code.co_filename.startswith(_IMPORTING):
            _end()
        importing = importing.f_back
    signal.default_int_handler(number, frame)


def _end() -> NoReturn:
    """What nothing can swallow: neither an `except` of the app nor a callback of the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()  # what the app has printed
        except (AttributeError, OSError, RuntimeError, ValueError):
            continue  # closed, full, or amid a write: nobody waits for it
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
