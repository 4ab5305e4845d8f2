"""What a GOAWAY says beside its code: a few words of debug data (RFC 9113 §6.8), fit for a line of log.

Apart from the frames because those words are anybody's: they are cut short, and nothing in them can end
a line, move a cursor or close the quotes around them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ErrorCode

MAX_WORDS_BYTES = 200
"""Of debug data, what is read and what is sent."""


@dataclass(frozen=True, slots=True)
class Goaway:
    """The peer's GOAWAY; `str()` is its code by name, and its words in quotes where it has any."""

    code: int
    words: str = ""

    def __str__(self) -> str:
        name = ErrorCode.name_of(self.code)
        return f'{name}, "{self.words}"' if self.words else name


def read_words(debug: bytes) -> str:
    """Debug data as printable text; what does not fit is left out."""
    text = debug[:MAX_WORDS_BYTES].decode("utf-8", "replace").replace('"', "'")
    words = "".join(
        one if one.isprintable() and one != "\\" else one.encode("unicode_escape").decode("ascii")
        for one in text
    )
    return f"{words}…" if len(debug) > MAX_WORDS_BYTES else words


def write_words(words: str) -> bytes:
    """Words of ours as debug data, in plain ASCII."""
    return words.encode("ascii", "replace")[:MAX_WORDS_BYTES]
