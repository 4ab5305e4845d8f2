"""Request targets: what a path may look like (protocol.md §7).

It stands apart because deployed Hosts do not check paths: whoever receives one has to, and whoever
sends one had better.
"""

from __future__ import annotations

import re
from typing import Final

from verser2_guest_python.errors import VerserProtocolError

from .excerpt import code_point, path_excerpt

# Visible ASCII, as RFC 9112 §3.2 leaves no space for anything else.
_PATH: Final = re.compile(r"/[\x21-\x7e]*|\*")
_BAD_CHARACTER: Final = re.compile(r"[^\x21-\x7e]")


def check_path(path: str, what: str) -> None:
    """Raises unless `path` is percent-encoded ASCII that starts with `/`, or is `*`.

    Raises:
        VerserProtocolError: it begins with `what` and shows the path without its query.
    """
    if _PATH.fullmatch(path) is not None:
        return
    bad = _BAD_CHARACTER.search(path)
    if bad is None:
        raise VerserProtocolError(f"{what} has the path {path_excerpt(path)}, which does not start with '/'.")
    raise VerserProtocolError(
        f"{what} has the path {path_excerpt(path)} with {code_point(bad[0])} at character "
        f"{bad.start() + 1:,}: percent-encode it."
    )
