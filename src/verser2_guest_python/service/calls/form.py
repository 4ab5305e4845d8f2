"""The body of `-F`: a form as multipart/form-data (RFC 7578), files included, streamed.

Apart because the format has rules of its own: how a field is written on the command line, how a name is
quoted, what stands between two parts.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.service.calls.body import Part, RequestBody, read_parts

_UNKNOWN_TYPE: Final = "application/octet-stream"
_ATTRIBUTE: Final = re.compile(r";\s*(type|filename)=")
# What a browser escapes in names (WHATWG HTML, multipart/form-data encoding algorithm)
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    content: list[Part]
    filename: str | None
    content_type: str | None

    def head(self) -> bytes:
        lines = [f'Content-Disposition: form-data; name="{self.name.translate(_ESCAPES)}"']
        if self.filename is not None:
            lines[0] += f'; filename="{self.filename.translate(_ESCAPES)}"'
        if self.content_type is not None:
            lines.append(f"Content-Type: {self.content_type}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def form_body(fields: Sequence[str]) -> RequestBody:
    """The body of fields written as `name=text`, `name=@file` or `name=<file`.

    `;type=TYPE` and `;filename=NAME` may follow. Raises `VerserUsageError` for what is no field and
    `VerserConfigurationError` for a file that cannot be read.
    """
    boundary = f"----verser2-{secrets.token_hex(12)}"
    parts: list[Part] = []
    for field in map(_field, fields):
        start = f"--{boundary}\r\n".encode() + field.head()
        parts += [start, *field.content, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return RequestBody(tuple(parts), f"multipart/form-data; boundary={boundary}")


def _field(text: str) -> _Field:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise VerserUsageError(f"{text!r} is no field of a form: -F is written name=value or name=@file.")
    value, *rest = _ATTRIBUTE.split(value)
    attributes = dict(zip(rest[::2], (entry.strip('"') for entry in rest[1::2]), strict=True))
    content_type, filename = attributes.get("type"), attributes.get("filename")
    if content_type is not None and not content_type.isprintable():
        raise VerserUsageError(f"The type of the field {name!r} is no content type: {content_type!r}.")
    if value.startswith("@"):
        path = value[1:]
        filename = filename if filename is not None else "-" if path == "-" else os.path.basename(path)  # noqa: PTH119
        return _Field(name, read_parts(path), filename, content_type or _guess(filename))
    if value.startswith("<"):
        return _Field(name, read_parts(value[1:]), filename, content_type)
    return _Field(name, [value.encode("utf-8", "surrogateescape")], filename, content_type)


def _guess(filename: str) -> str:
    import mimetypes

    return mimetypes.guess_type(filename)[0] or _UNKNOWN_TYPE
