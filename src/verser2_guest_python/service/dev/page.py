"""What stands in for an app that does not start: a page with its own error, answered with 503.

A Guest beside the app's process serves it, so that browsers, `broker get` and WebSockets meet the same
sentence, at once, and not a time-out. The page looks again by itself, and shows the app once it is mended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from html import escape
from typing import Final

from verser2_guest_python.asgi.types import ASGIApp, Receive, Scope, Send
from verser2_guest_python.errors import VerserError
from verser2_guest_python.guest.guest import VerserGuest

PAGE_GUEST_ID: Final = "guest-page"
_STATUS: Final = 503
_LOOK_AGAIN_SECONDS: Final = 1
_TRY_AGAIN_LATER: Final = 1013
_MAX_PAGE_CHARS: Final = 64_000

_HTML: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{seconds}">
<title>The app does not start</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 60rem; padding: 0 1rem }}
  pre {{ background: #8881; border-left: 4px solid #c33; padding: 1rem; white-space: pre-wrap }}
  :root {{ color-scheme: light dark }}
</style>
<h1>The app does not start</h1>
<p>{sentence}</p>
{details}
<p>It is started again when its source changes, and this page shows it then.</p>
</html>
"""


class FailurePage:
    """Shown while there is nothing better; `make_guest` gives a Guest for an app, not connected yet."""

    def __init__(self, make_guest: Callable[[ASGIApp], VerserGuest]) -> None:
        self._make_guest = make_guest
        self._guest: VerserGuest | None = None
        self._sentence = self._details = ""

    async def show(self, sentence: str, details: str) -> None:
        """From here on the page is what there is to see."""
        self._sentence, self._details = sentence, details[-_MAX_PAGE_CHARS:]
        guest = self._make_guest(self._app)
        with suppress(VerserError):  # the Host is closing: nobody will ask
            await guest.connect()
        self._guest = guest

    async def hide(self) -> None:
        """From here on requests are not answered with it."""
        guest, self._guest = self._guest, None
        if guest is not None:
            await guest.close("the app is started again", timeout=1.0)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
        else:
            await self._answer(scope, send)

    async def _answer(self, scope: Scope, send: Send) -> None:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        kind, text = ("html", self._html()) if b"text/html" in accept else ("plain", self._text())
        body = text.encode("utf-8", "replace")
        headers = [
            (b"content-type", b"text/%s; charset=utf-8" % kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"%d" % _LOOK_AGAIN_SECONDS),
        ]
        await send({"type": "http.response.start", "status": _STATUS, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _html(self) -> str:
        details = f"<pre>{escape(self._details)}</pre>" if self._details else ""
        return _HTML.format(seconds=_LOOK_AGAIN_SECONDS, sentence=escape(self._sentence), details=details)

    def _text(self) -> str:
        return f"{self._sentence}\n\n{self._details}".rstrip() + "\n"
