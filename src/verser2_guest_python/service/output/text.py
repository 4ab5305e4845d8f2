"""Text that came from elsewhere, made safe for a line of log or a terminal.

Apart because every renderer needs it, and because it is security: a path with a line break must not
forge a second line, one with an escape sequence must not drive the terminal.
"""

from __future__ import annotations

import json


def safe(text: str) -> str:
    """`text` on one line: everything that is not printable is written as `\\x0a`, `\\u202e`, …"""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def shown(value: object) -> str:
    """A value beside its name in a console line: quoted where its end could not be seen otherwise."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, tuple | list | set | frozenset):
        return ",".join(shown(entry) for entry in value)
    text = safe(str(value))
    return (
        json.dumps(text, ensure_ascii=False)
        if not text or " " in text or '"' in text or "=" in text
        else text
    )


def indented(text: str) -> str:
    """A block of several lines (a traceback) that cannot be taken for log lines of its own."""
    return "\n".join(f"    {safe(line)}" for line in text.rstrip().split("\n"))


def duration(milliseconds: float) -> str:
    """A duration for people: `1.2 ms`, `140 ms`, `3.21 s`."""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.2f} s"


def size(count: int) -> str:
    """An amount of bytes for people: `13 B`, `4.0 KiB`, `1.2 GiB`."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
