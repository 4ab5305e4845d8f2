"""The gateway's own answers, as a page for people or as JSON for programs.

Apart from the reasons in `refusal.py` because here only looks matter. Everything that came from the client
is escaped; a page loads nothing and runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from email.utils import formatdate
from html import escape
from http import HTTPStatus
from json import dumps
from typing import Final

from .refusal import Refusal

Headers = list[tuple[bytes, bytes]]

REQUEST_ID: Final = b"x-request-id"
_HTML: Final = b"text/html"
_SECURITY: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status} {phrase}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 38rem; margin: 15vh auto; padding: 0 1.5rem }}
  h1 {{ font-size: 1.4rem; line-height: 1.3 }}
  small {{ opacity: .65 }}
  code {{ overflow-wrap: anywhere }}
</style>
<h1>{status} {phrase}</h1>
<p>{sentence}</p>
{routes}<p><small>Request <code>{request_id}</code></small></p>
</html>
"""


def page(refusal: Refusal, accept: bytes, routes: Sequence[str] | None = None) -> tuple[Headers, bytes]:
    """Headers and body: HTML for who accepts that, else JSON. `routes`: the names to list, if any."""
    phrase = _phrase(refusal.status)
    if _HTML in accept.lower():
        kind = b"text/html; charset=utf-8"
        body = _PAGE.format(
            status=refusal.status,
            phrase=phrase,
            sentence=escape(refusal.sentence),
            routes=_list(routes) if routes is not None else "",
            request_id=escape(refusal.request_id),
        )
    else:
        kind = b"application/json"
        said = {"code": refusal.code, "message": refusal.sentence, "requestId": refusal.request_id}
        body = dumps({"error": said if routes is None else {**said, "routes": list(routes)}}) + "\n"
    content = body.encode("utf-8", "replace")
    headers: Headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(content)),
        (b"vary", b"accept"),
        (REQUEST_ID, refusal.request_id.encode("latin-1", "replace")),
        *_SECURITY,
        *((name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers.items()),
    ]
    if refusal.close:
        headers.append((b"connection", b"close"))
    return headers, content


def answer(refusal: Refusal) -> bytes:
    """The same as the bytes of HTTP/1.1, where no ASGI server stands between; the connection ends with it."""
    refusal.close = True
    headers, body = page(refusal, b"")
    lines = [b"HTTP/1.1 %d %s" % (refusal.status, _phrase(refusal.status).encode()), b"date: " + date()]
    lines.extend(b"%s: %s" % field for field in headers)
    return b"\r\n".join((*lines, b"", body))


def date() -> bytes:
    """The time, as a `date` header says it."""
    return formatdate(usegmt=True).encode("ascii")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _list(routes: Iterable[str]) -> str:
    items = "\n".join(f"  <li><code>{escape(name)}</code>" for name in routes)
    return f"<p>These are here:</p>\n<ul>\n{items}\n</ul>\n" if items else "<p>There are none at all.</p>\n"
