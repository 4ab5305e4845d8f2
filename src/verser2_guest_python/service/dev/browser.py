"""Opening a browser for somebody at a terminal, without waiting for it.

Apart because Python's `webbrowser` takes a text browser where there is no screen, which would draw over
our own lines, and waits for browsers that do not go to the background.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable


def open_in_browser(url: str, tell: Callable[[bool], object]) -> None:
    """Opens `url`; `tell` is called, in a thread, with whether there was a browser that took it."""

    def work() -> None:
        import webbrowser

        try:
            opened = _has_a_screen() and webbrowser.open(url)
        except (webbrowser.Error, OSError):
            opened = False
        tell(opened)

    threading.Thread(target=work, name="browser", daemon=True).start()


def _has_a_screen() -> bool:
    if os.name == "nt" or sys.platform == "darwin":
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
