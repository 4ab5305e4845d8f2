"""The methods that are commands of `broker`.

Apart because the list of commands and the commands themselves both need them.
"""

from __future__ import annotations

from typing import Final

METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")


def named_request(method: str) -> str:
    """What a method sends, as a sentence begins: `Send a GET request`."""
    return f"Send {'an' if method[0] in 'aeio' else 'a'} {method.upper()} request"
