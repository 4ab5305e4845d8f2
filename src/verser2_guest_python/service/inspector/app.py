"""The inspector as an ASGI app: which path is what, once it is clear who asks.

Apart from the gateway, in front of which it stands: `with_inspector` sends it what begins with
`/_verser/`, and all else to the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qsl

from verser2_guest_python.asgi.types import ASGIApp, Receive, Scope, Send
from verser2_guest_python.broker.broker import VerserBroker
from verser2_guest_python.errors import VerserError
from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.inspector.access import TOKEN_PARAMETER, Access, Refused
from verser2_guest_python.service.inspector.answers import BODY_POLICY, answer, answer_json, answer_text
from verser2_guest_python.service.inspector.bodies import shown
from verser2_guest_python.service.inspector.live import Viewers
from verser2_guest_python.service.inspector.record import Record
from verser2_guest_python.service.inspector.recorder import Recorder
from verser2_guest_python.service.inspector.replay import Replayer, TooManyReplays
from verser2_guest_python.service.inspector.view import details

PREFIX: Final = "/_verser"
ROOT: Final = PREFIX + "/"

_FILES: Final = {
    "": ("index.html", "text/html; charset=utf-8"),
    **{
        name: (name, "text/javascript; charset=utf-8")
        for name in ("app.js", "charts.js", "details.js", "dom.js", "list.js")
    },
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_REQUEST: Final = re.compile(r"api/requests/([0-9]{1,15})(?:/(replay|request-body|response-body))?")
_POLICY_CLOSE: Final = 1008  # RFC 6455 §7.4.1


class Inspector:
    """An ASGI app for `/_verser/`; made by `create_inspector`.

    Attributes:
        token: What opens it, the first time.
        recorder: What it has seen.
    """

    def __init__(self, host: VerserHost, broker: VerserBroker, recorder: Recorder, access: Access) -> None:
        self.recorder = recorder
        self._access = access
        self._viewers = Viewers(recorder, host)
        self._replayer = Replayer(recorder, broker)
        self._stop: Callable[[], None] = host.observe(recorder)
        self._files = {
            path: (files(__package__).joinpath("static", name).read_bytes(), content_type)
            for path, (name, content_type) in _FILES.items()
        }

    @property
    def token(self) -> str:
        """The secret in the URL."""
        return self._access.token

    def url(self, base: str) -> str:
        """What to open: `base` is where the server is, such as `http://localhost:8080`."""
        return f"{base.rstrip('/')}{ROOT}?{TOKEN_PARAMETER}={self.token}"

    def close(self) -> None:
        """Stops watching the Host and lets all viewers go; call it before the server stops."""
        self._stop()
        self._viewers.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._access.check_place(scope)
            if scope["type"] == "http":
                await self._serve(scope, receive, send)
                return
            self._access.check_source(scope)
            raise Refused(403, "The inspector has no WebSocket.")
        except Refused as refusal:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": _POLICY_CLOSE})
                return
            await answer_text(send, refusal.status, refusal.reason, head=scope["method"] == "HEAD")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == PREFIX:
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            await answer_text(send, 308, "Here: /_verser/", (b"location", ROOT.encode() + query))
            return
        method: str = scope["method"]
        head = method == "HEAD"
        if path == ROOT and method in ("GET", "HEAD"):
            given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get(TOKEN_PARAMETER)
            if given is not None:
                await self._open(scope, send, given)
                return
        else:
            self._access.check_source(scope)
        self._access.check_cookie(scope)
        name = path.removeprefix(ROOT)
        match = _REQUEST.fullmatch(name)
        if method == "POST":
            if match is not None and match[2] == "replay":
                await self._replay(self._record(match[1]), send)
            elif name == "api/clear":
                self.recorder.clear()
                await answer_json(send, 200, {})
            else:
                raise Refused(405 if match is not None or name in self._files else 404, "Nothing to do here.")
        elif method not in ("GET", "HEAD"):
            raise Refused(405, f"The inspector knows no {method[:20]}.")
        elif name in self._files:
            body, content_type = self._files[name]
            await answer(send, 200, content_type, body, head=head)
        elif name == "api/events" and not head:
            if self._viewers.full:
                raise Refused(503, "Too many pages look already: close one.")
            await self._viewers.serve(receive, send)
        elif match is not None and match[2] is None:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            since = query.get("messages", "0")
            view = details(self._record(match[1]), int(since) if since.isdigit() and len(since) < 16 else 0)
            await answer_json(send, 200, view, head=head)
        elif match is not None and match[2] != "replay":
            await _body(self._record(match[1]), match[2], send, head=head)
        else:
            raise Refused(405 if match is not None else 404, "There is no such page in the inspector.")

    async def _open(self, scope: Scope, send: Send, given: str) -> None:
        """The printed URL: its token becomes a cookie, and leaves the address bar."""
        if not self._access.knows_token(given):
            raise Refused(
                401, "This token is not the one of this run: open the URL that was printed at its start."
            )
        cookie = self._access.cookie(scope, ROOT).encode("ascii")
        await answer_text(
            send,
            303,
            "Welcome.",
            (b"location", ROOT.encode()),
            (b"set-cookie", cookie),
            head=scope["method"] == "HEAD",
        )

    def _record(self, number: str) -> Record:
        record = self.recorder.get(int(number))
        if record is None:
            raise Refused(404, "This request is not kept any more.")
        return record

    async def _replay(self, record: Record, send: Send) -> None:
        try:
            replayed = await self._replayer.replay(record)
        except TooManyReplays:
            await answer_json(send, 429, {"error": "Too many replays are under way: wait for one of them."})
            return
        except VerserError as error:
            await answer_json(send, 409, {"error": error.message})
            return
        await answer_json(send, 200, {"id": replayed.number if replayed is not None else None})


async def _body(record: Record, which: str, send: Send, *, head: bool) -> None:
    """A captured body. Whatever it says it is, it runs nothing: no scripts, no sniffing, a sandbox."""
    if which == "request-body":
        view = shown(record.request, dict(record.start.headers))
    else:
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in record.fields}
        view = shown(record.response, fields)
    disposition = b"inline" if view.kind in ("image", "json", "text") else b'attachment; filename="body.bin"'
    await answer(
        send,
        200,
        view.content_type,
        view.data,
        (b"content-security-policy", BODY_POLICY),
        (b"content-disposition", disposition),
        head=head,
    )


def create_inspector(
    host: VerserHost, broker: VerserBroker, *, recorder: Recorder | None = None, token: str | None = None
) -> Inspector:
    """An inspector that watches `host` from now on, and replays through `broker`.

    Args:
        host: The Host.
        broker: A Broker of that Host, connected by the time something is replayed.
        recorder: What keeps the requests; None makes one with the usual limits.
        token: The secret that opens it; None makes one up.

    Example:
        inspector = create_inspector(host, broker)
        app = with_inspector(inspector, create_gateway(broker))
        print(inspector.url("http://localhost:8080"))
    """
    return Inspector(host, broker, recorder if recorder is not None else Recorder(), Access(token))


def with_inspector(inspector: Inspector, app: ASGIApp) -> ASGIApp:
    """An ASGI app that gives `/_verser` and what is below it to the inspector, and all else to `app`."""

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] in ("http", "websocket") and (path == PREFIX or path.startswith(ROOT)):
            await inspector(scope, receive, send)
        else:
            await app(scope, receive, send)

    return gateway
