"""Newline-delimited pieces of a stream, for control streams and WebSockets (protocol.md §3, §11).

It stands apart because DATA frames cut lines anywhere, and a line without end must not fill memory.
"""

from __future__ import annotations

from verser2_guest_python.errors import VerserProtocolError


class LineTooLong(VerserProtocolError):
    """Code `protocol-error`: a line is longer than its limit. `lines` were complete before it."""

    lines: list[bytes]

    def __init__(self, message: str, *, lines: list[bytes] | None = None) -> None:
        super().__init__(message)
        self.lines = lines or []


class LineParser:
    """Cuts a stream into lines. Keeps at most `max_bytes` of a line that is not complete.

    Args:
        max_bytes: the longest line, not counting its newline.

    Example:
        parser = LineParser(MAX_CONTROL_LINE_BYTES)
        parser.feed(b'{"type":"rou')    # []
        parser.feed(b'tes"}\\n\\n{')      # [b'{"type":"routes"}']
    """

    __slots__ = ("_too_long", "_waiting", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._waiting = bytearray()
        self._too_long = False

    @property
    def pending(self) -> int:
        """Bytes of the line that is not complete yet; not 0 at the end of a stream: it was cut off."""
        return len(self._waiting)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines; empty ones are skipped.

        Raises:
            LineTooLong: a line exceeds the limit, complete or not; any further call raises it again.
        """
        if self._too_long:
            raise self._refusal([])
        pieces = data.split(b"\n")
        waiting = self._waiting
        if len(pieces) == 1:
            if len(waiting) + len(data) > self.max_bytes:
                raise self._refusal([])
            waiting += data
            return []
        last = pieces.pop()
        if waiting:
            if len(waiting) + len(pieces[0]) > self.max_bytes:
                raise self._refusal([])
            waiting += pieces[0]
            pieces[0] = bytes(waiting)
            waiting.clear()
        longest = self.max_bytes
        lines: list[bytes] = []
        for piece in pieces:
            if len(piece) > longest:
                raise self._refusal(lines)
            if piece:
                lines.append(piece)
        if len(last) > longest:
            raise self._refusal(lines)
        waiting += last
        return lines

    def _refusal(self, lines: list[bytes]) -> LineTooLong:
        self._too_long = True
        self._waiting.clear()
        return LineTooLong(f"A line is longer than {self.max_bytes:,} bytes.", lines=lines)
