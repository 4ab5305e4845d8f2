"""An answer on its way out: head if asked for, body decoded as it arrives, made readable on a terminal.

Apart because of one promise: on a terminal an answer may be made pretty, everywhere else what comes out is
exactly the body.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.output.body_output import Output
from verser2_guest_python.service.output.colour import Palette, wants_colour
from verser2_guest_python.service.output.errors import OutputError
from verser2_guest_python.service.output.progress import Progress
from verser2_guest_python.service.output.text import safe
from verser2_guest_python.service.process.exit_codes import ExitCode

if TYPE_CHECKING:
    from verser2_guest_python.broker.response import VerserBrokerResponse
    from verser2_guest_python.service.output.decoding import Decoder

_CHUNK_BYTES: Final = 65_536
_LOWEST_FAILURE: Final = 400
STANDARD_OUTPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class Shown:
    """How an answer is shown.

    `output` is a file, `-` for standard output even if that is a terminal, None for standard output.
    `fail`: an answer of 400 or more is a failure; `fail_body`: its body is shown nevertheless.
    """

    head: bool = False
    output: str | None = None
    raw: bool = False
    fail: bool = False
    fail_body: bool = False


class Presenter:
    """Writes the answers of one command. `received` counts the bytes of the body as they came."""

    def __init__(self, shown: Shown, notes: Notes) -> None:
        self.received = 0
        self.body_seconds = 0.0
        self._shown = shown
        self._notes = notes
        # Standard output that is closed is told now; a file is touched only when there is an answer.
        self._output = Output() if shown.output in (None, STANDARD_OUTPUT) else None

    @property
    def on_terminal(self) -> bool:
        """Whether the body comes out on a terminal."""
        return self._output is not None and self._output.is_terminal

    async def head(self, response: VerserBrokerResponse) -> None:
        """Status and headers, if they are to be shown."""
        if self._shown.head:
            output = self._open()
            colour = output.is_terminal and wants_colour(output.descriptor, os.environ)
            await output.write(_head_of(response, Palette(on=True) if colour else None))

    async def answer(self, response: VerserBrokerResponse) -> int:
        """The whole answer; returns the exit code."""
        await self.head(response)
        failed = self._shown.fail and response.status >= _LOWEST_FAILURE
        if failed and not self._shown.fail_body:
            await response.aclose()
        else:
            await self._body(response)
        if failed:
            self._notes.warn(
                f"{response.target_id} answered {response.status} {response.reason}".rstrip() + "."
            )
            return ExitCode.HTTP_ERROR
        return ExitCode.DONE

    def close(self) -> None:
        """Closes a file that was written."""
        if self._output is not None:
            self._output.close()

    def _open(self) -> Output:
        if self._output is None:
            self._output = Output.to_file(self._shown.output or "")
        return self._output

    async def _body(self, response: VerserBrokerResponse) -> None:
        output = self._open()
        look = self._look(response)
        started = perf_counter()
        async with response, aclosing(self._decoded(response)) as chunks:
            async for chunk in chunks:
                for piece in look.feed(chunk):
                    await output.write(piece)
            for piece in look.finish():
                await output.write(piece)
        self.body_seconds = perf_counter() - started

    async def _decoded(self, response: VerserBrokerResponse) -> AsyncGenerator[bytes, None]:
        """The body in pieces, its content-encoding undone."""
        decoder = self._decoder(response)
        total = response.headers.get("content-length", "")
        on = not self._notes.silent and not self.on_terminal
        with Progress("download", int(total) if total.isdigit() else None, on=on) as progress:
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                self.received += len(chunk)
                progress.add(len(chunk))
                if decoder is None:
                    yield chunk
                else:
                    for piece in decoder.feed(chunk):
                        yield piece
        if decoder is not None:
            decoder.finish()

    def _decoder(self, response: VerserBrokerResponse) -> Decoder | None:
        encoding = response.headers.get("content-encoding")
        if encoding is None or self._shown.raw:
            return None
        from verser2_guest_python.service.output.decoding import UnknownEncoding, decoder_for

        try:
            return decoder_for(encoding)
        except UnknownEncoding as error:
            self._notes.warn(str(error))
            return None

    def _look(self, response: VerserBrokerResponse) -> _Look:
        """How the body is made to look."""
        if not self.on_terminal or self._shown.output is not None or self._shown.raw:
            return _Exact()
        from verser2_guest_python.service.output.json_text import is_json

        if is_json(response.headers.get("content-type", "")):
            return _Json(Palette(on=wants_colour(self._open().descriptor, os.environ)))
        return _Text()


class _Look(Protocol):
    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What is written for the next piece of the body."""

    def finish(self) -> Iterator[bytes]:
        """What is written at its end."""


class _Exact:
    """The body as it is."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def finish(self) -> Iterator[bytes]:
        return iter(())


class _Text:
    """Text on a terminal: it ends its last line, so that the prompt begins one; bytes are kept away."""

    def __init__(self) -> None:
        self._last = b"\n"

    def feed(self, piece: bytes) -> Iterator[bytes]:
        if b"\0" in piece:
            raise OutputError(
                "The body is binary, which a terminal cannot show: -o FILE keeps it, -o - shows it anyway."
            )
        self._last = piece[-1:] or self._last
        yield piece

    def finish(self) -> Iterator[bytes]:
        if self._last != b"\n":
            yield b"\n"


class _Json:
    """JSON on a terminal, once it is all there; what is long, or not JSON after all, is text."""

    def __init__(self, palette: Palette) -> None:
        self._palette = palette
        self._held: bytearray | None = bytearray()
        self._text = _Text()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        from verser2_guest_python.service.output.json_text import MAX_SHOWN_BYTES

        if self._held is None:
            yield from self._text.feed(piece)
            return
        self._held += piece
        if len(self._held) > MAX_SHOWN_BYTES:
            held, self._held = bytes(self._held), None
            yield from self._text.feed(held)

    def finish(self) -> Iterator[bytes]:
        from verser2_guest_python.service.output.json_text import pretty_json

        if self._held:
            body = bytes(self._held)
            pretty = pretty_json(body, self._palette)
            if pretty is not None:
                yield pretty.encode()
                return
            yield from self._text.feed(body)
        yield from self._text.finish()


def _head_of(response: VerserBrokerResponse, palette: Palette | None) -> bytes:
    """Status line and headers as `curl -i` shows them; in colour, they are for eyes alone."""
    status = f"HTTP/1.1 {response.status} {response.reason}".rstrip()
    items = response.headers.multi_items()
    if palette is None:
        lines = [status, *(f"{name}: {value}" for name, value in items)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    paint = palette.good if response.ok else palette.bad
    lines = [paint(status), *(f"{palette.bold(name)}: {safe(value)}" for name, value in items)]
    return ("\n".join(lines) + "\n\n").encode()
