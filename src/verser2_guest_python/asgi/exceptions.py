"""What an app sees when it breaks a rule of ASGI, or when the other end has gone.

Apart because both cycles and the lifespan raise them into the app, and whoever runs a cycle has to
tell them from the app's own errors.
"""

from __future__ import annotations

import traceback
from typing import Final

_MAX_DESCRIPTION_CHARACTERS: Final = 300


class AsgiRuleError(RuntimeError):
    """The app sent a message that the ASGI specification does not allow; the text names the rule.

    Example::

        websocket.send before websocket.accept: only websocket.accept, websocket.close or
        websocket.http.response.start may come first (ASGI WebSocket 2.5).
    """


class ClientDisconnected(OSError):
    """The app sent to a connection that is closed (ASGI HTTP and WebSocket 2.4).

    An app may catch it to clean up, then raise it again or return. It is no error of the app and is
    not logged as one.
    """


def only_disconnected(error: BaseException) -> bool:
    """Whether an app ended with `ClientDisconnected` and nothing else, in a task group or not."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(ClientDisconnected)[1] is None
    return isinstance(error, ClientDisconnected)


def describe(error: BaseException) -> str:
    """Tell an exception in one line, for example `ValueError: no such table`; long texts are cut."""
    if isinstance(error, SyntaxError):
        text = f"{type(error).__name__}: {error.msg}"
    else:
        text = next(traceback.TracebackException.from_exception(error, limit=0).format_exception_only())
    text = " ".join(text.split())
    if len(text) > _MAX_DESCRIPTION_CHARACTERS:
        return text[: _MAX_DESCRIPTION_CHARACTERS - 1].rstrip() + "…"
    return text
