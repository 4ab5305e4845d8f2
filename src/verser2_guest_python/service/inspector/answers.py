"""Answers of the inspector, and the header fields that every one of them has.

Apart because no answer may go without them: they are what keeps a captured body from being a program,
and another site from framing or reading the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from verser2_guest_python.asgi.types import Send

Fields = Sequence[tuple[bytes, bytes]]

PAGE_POLICY: Final = b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
BODY_POLICY: Final = b"sandbox; default-src 'none'; frame-ancestors 'none'"

COMMON: Final[Fields] = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


async def start(send: Send, status: int, content_type: str, *extra: tuple[bytes, bytes]) -> None:
    """The head of an answer whose body follows in pieces."""
    policy = () if any(name == b"content-security-policy" for name, _ in extra) else (PAGE_POLICY,)
    fields = [
        (b"content-type", content_type.encode("latin-1")),
        *COMMON,
        *((b"content-security-policy", value) for value in policy),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})


async def answer(
    send: Send, status: int, content_type: str, body: bytes, *extra: tuple[bytes, bytes], head: bool = False
) -> None:
    """A whole answer; `head` leaves its body out (HEAD)."""
    await start(send, status, content_type, (b"content-length", b"%d" % len(body)), *extra)
    await send({"type": "http.response.body", "body": b"" if head else body})


async def answer_json(send: Send, status: int, value: Any, *, head: bool = False) -> None:
    """A value as JSON."""
    body = json.dumps(value, separators=(",", ":")).encode("ascii")
    await answer(send, status, "application/json", body, head=head)


async def answer_text(
    send: Send, status: int, text: str, *extra: tuple[bytes, bytes], head: bool = False
) -> None:
    """A sentence."""
    await answer(send, status, "text/plain; charset=utf-8", text.encode() + b"\n", *extra, head=head)
