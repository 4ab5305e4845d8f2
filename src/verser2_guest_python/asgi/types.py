"""Names of the ASGI types.

Apart because everything that touches an app shares them; they depend on nothing. They are as loose
as those of asgiref and Starlette, so that any framework's app fits without a cast.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""An ASGI 3 app: it is called with scope, receive and send, whose types are those of Starlette."""

ASGI2Instance: TypeAlias = Callable[[Receive, Send], Awaitable[None]]
ASGI2App: TypeAlias = Callable[[Scope], ASGI2Instance]
WSGIApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

Interface: TypeAlias = Literal["asgi3", "asgi2", "wsgi"]
"""What an app speaks by itself; whatever it is, it is called as ASGI 3."""

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields in the order in which the app gave them."""
