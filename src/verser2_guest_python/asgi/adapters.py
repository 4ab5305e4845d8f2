"""Which interface an app speaks, and ASGI 2 as ASGI 3.

Apart because a Guest gets apps from an import string and from a caller's hands alike, and calls each
of them as ASGI 3.

What `interface="auto"` takes an app for:

1. a coroutine function, or an object with `async def __call__`: ASGI 3;
2. a class: ASGI 3 if its instances can be awaited, else as 3 does;
3. anything else by the arguments it takes: three (scope, receive, send) is ASGI 3, one (scope) is
   ASGI 2, two (environ, start_response) is WSGI. Three is tried first, so a wrapper with `*args` is
   ASGI 3, as is what hides its arguments.

So a Flask or Django WSGI app is found out without being asked for; name the interface where a
wrapper makes it look like another.
"""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import Any, Final, cast

from verser2_guest_python.asgi.types import ASGI2App, ASGIApp, Interface, Receive, Scope, Send, WSGIApp
from verser2_guest_python.errors import VerserConfigurationError

INTERFACES: Final = ("auto", "asgi3", "asgi2", "wsgi")
"""What may be asked for."""

_ARGUMENTS: Final = MappingProxyType({"asgi3": 3, "asgi2": 1, "wsgi": 2})
_CALLED_WITH: Final = MappingProxyType(
    {"asgi3": "(scope, receive, send)", "asgi2": "(scope)", "wsgi": "(environ, start_response)"}
)


def adapt(app: object, interface: str = "auto", *, name: str = "the app") -> tuple[ASGIApp, Interface]:
    """Make an ASGI 3 app of `app`, and say what it was.

    `name` is what errors call it, for example `main:app`. Raises `VerserConfigurationError` if it is
    not callable, cannot be called as `interface` asks, or is WSGI and the extra `wsgi` is missing.

    Example::

        app, interface = adapt(flask_app)  # interface == "wsgi"
    """
    if interface not in INTERFACES:
        raise VerserConfigurationError(
            f"There is no app interface {interface!r}; it is one of {', '.join(INTERFACES)}."
        )
    if not callable(app):
        raise VerserConfigurationError(
            f"{name} is {a_type(app)}, which cannot be called; an ASGI app is called with "
            f"{_CALLED_WITH['asgi3']}."
        )
    found = detect_interface(app) if interface == "auto" else cast("Interface", interface)
    if found is None or accepts(app, _ARGUMENTS[found]) is False:
        wanted = found or "asgi3"
        raise VerserConfigurationError(
            f"{name} cannot be called with {_CALLED_WITH[wanted]}, so it is no {wanted} app; "
            f"it takes {_arguments_of(app)}."
        )
    if found == "asgi2":
        return asgi2_to_asgi3(cast("ASGI2App", app)), found
    if found == "wsgi":
        from verser2_guest_python.asgi.wsgi import wsgi_to_asgi3

        return wsgi_to_asgi3(cast("WSGIApp", app)), found
    return cast("ASGIApp", app), found


def detect_interface(app: object) -> Interface | None:
    """Tell what an app speaks by the rules above; None if it fits no interface."""
    if is_async(app) or (inspect.isclass(app) and hasattr(app, "__await__")):
        return "asgi3"
    if not inspect.isclass(app) and accepts(app, _ARGUMENTS["asgi3"]) is not False:
        return "asgi3"
    if accepts(app, _ARGUMENTS["asgi2"]):
        return "asgi2"
    if accepts(app, _ARGUMENTS["wsgi"]):
        return "wsgi"
    return None


def asgi2_to_asgi3(app: ASGI2App) -> ASGIApp:
    """Call an ASGI 2 app, `app(scope)` and then `(receive, send)`, as ASGI 3."""

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        instance = app(scope)
        await instance(receive, send)

    return asgi3


def is_async(app: object) -> bool:
    """Whether calling `app` makes a coroutine: `async def`, as itself or as its `__call__`."""
    if inspect.iscoroutinefunction(app):
        return True
    return not inspect.isclass(app) and inspect.iscoroutinefunction(_call_method(app))


def _call_method(app: object) -> object:
    return getattr(type(app), "__call__", None)  # noqa: B004 - the method itself is wanted


def accepts(app: object, count: int) -> bool | None:
    """Whether `app` can be called with `count` positional arguments; None if it does not show."""
    signature = signature_of(app)
    if signature is None:
        return None
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def signature_of(app: object) -> inspect.Signature | None:
    """Return how `app` is called, or None where that is hidden, as in some compiled code."""
    try:
        return inspect.signature(cast("Any", app))
    except (TypeError, ValueError):
        return None


def a_type(value: object) -> str:
    """Name the kind of a value for a sentence: `a module`, `an int`, `None`."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _arguments_of(app: object) -> str:
    signature = signature_of(app)
    if signature is None or not signature.parameters:
        return "no arguments"
    return f"({', '.join(signature.parameters)})"
