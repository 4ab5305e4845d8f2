"""From an import string to an app: `module:attribute`, and every mistake told in one sentence.

Apart because it is the first thing that a new user meets: what goes wrong here is a typing error, a
wrong directory or an error in the app itself, and the three must not look alike.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from verser2_guest_python.asgi.adapters import (
    a_type,
    accepts,
    adapt,
    detect_interface,
    is_async,
    signature_of,
)
from verser2_guest_python.asgi.exceptions import describe
from verser2_guest_python.asgi.places import place_of
from verser2_guest_python.asgi.types import ASGIApp, Interface
from verser2_guest_python.errors import VerserConfigurationError

_EXAMPLE: Final = "write module:attribute, for example main:app"
_MAX_SUGGESTIONS: Final = 3
_USUAL_DIRECTORIES: Final = ("src", "app", "backend")


class AppLoadError(VerserConfigurationError):
    """The app named by an import string cannot be loaded; the message is one sentence.

    `details` is the traceback of what failed inside the app, as text; empty where the app is not to
    blame. The app's own exception is the `__cause__`.
    """

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An app, ready to be called as ASGI 3, and the interface that it speaks by itself."""

    app: ASGIApp
    interface: Interface


def load_app(
    reference: str,
    *,
    app_dir: str | Path | None = ".",
    factory: bool = False,
    interface: str = "auto",
) -> LoadedApp:
    """Import an app by its name.

    `reference` is `module:attribute`; both may have dots (`shop.web:site.app`). `app_dir` is put
    first on `sys.path` and stays there, so that the app can import its neighbours at any time; None
    leaves the path alone. With `factory` the attribute is called without arguments and returns the app.
    `interface` is `auto`, `asgi3`, `asgi2` or `wsgi`.

    Raises `AppLoadError` for whatever stands between the name and the app, and
    `VerserConfigurationError` for an unknown interface or a missing extra.

    Example::

        loaded = load_app("main:create_app", app_dir="src", factory=True)
        await loaded.app(scope, receive, send)
    """
    module_name, attribute = _split(reference)
    directory = None if app_dir is None else _put_first(reference, app_dir)
    module = _import(reference, module_name, directory)
    found = _attribute(reference, module, attribute, directory)
    if factory:
        found = _call_factory(reference, found, directory)
    else:
        _refuse_factory(reference, found)
    if not callable(found):
        raise _failed(reference, f"it is {a_type(found)}, which cannot be called; {_name_an_app(module)}")
    app, spoken = adapt(found, interface, name=reference)
    return LoadedApp(app, spoken)


def _split(reference: str) -> tuple[str, str]:
    module_name, colon, attribute = reference.partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if colon and all(part.isidentifier() for part in parts) and not module_name.endswith(".py"):
        return module_name, attribute
    hint = _EXAMPLE
    path = module_name.strip().replace("\\", "/").removesuffix(".py").removeprefix("./")
    dotted = path.replace("/", ".")
    if dotted and all(part.isidentifier() for part in dotted.split(".")):
        candidate = f"{dotted}:{attribute or 'app'}"
        if candidate != reference:
            hint = f"write module:attribute, for example {candidate}"
    raise AppLoadError(f"{reference!r} does not name an app: {hint}.")


def _put_first(reference: str, app_dir: str | Path) -> Path:
    # Not resolved: an app that is reached through a link sees the path that was given
    directory = Path(app_dir).expanduser().absolute()
    if not directory.is_dir():
        raise _failed(reference, f"the app directory {directory} does not exist; check --app-dir")
    if not sys.path or sys.path[0] != str(directory):
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()  # the directory may have been searched before it was filled
    return directory


def _import(reference: str, module_name: str, directory: Path | None) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Without a frame of the app nothing of it has run: it is the named module that is missing
        if not _frames(exc) and exc.name is not None and f"{module_name}.".startswith(f"{exc.name}."):
            raise _failed(reference, _missing(exc.name, module_name, directory)) from None
        raise _app_failed(reference, f"importing {module_name}", exc, directory) from exc
    except (Exception, SystemExit) as exc:
        raise _app_failed(reference, f"importing {module_name}", exc, directory) from exc


def _missing(missing: str, module_name: str, directory: Path | None) -> str:
    """Say which module is missing, where it was looked for, and what it may have been meant to be."""
    parent, _, last = missing.rpartition(".")
    if parent:
        places = list(getattr(sys.modules.get(parent), "__path__", []))
        if not places:
            return f"{parent} is a module, not a package, so there is no {missing}"
        what = f"the package {parent} has no module {last!r}"
    else:
        places = [] if directory is None else [str(directory)]
        what = f"there is no module {last!r} in {directory or 'sys.path'}"
    names = [module.name for module in pkgutil.iter_modules(places)]
    near = difflib.get_close_matches(last, names, _MAX_SUGGESTIONS)
    if near:
        return f"{what}; did you mean {_either(f'{parent}.{name}'.lstrip('.') for name in near)}?"
    if parent or directory is None:
        return what
    for below in _USUAL_DIRECTORIES:
        if any(module.name == last for module in pkgutil.iter_modules([str(directory / below)])):
            return f"{what}, but in {below}; add --app-dir {below}"
    return f"{what}; --app-dir names the directory that has it"


def _attribute(reference: str, module: ModuleType, attribute: str, directory: Path | None) -> object:
    value: object = module
    path = module.__name__
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as exc:
            names = [name for name in dir(value) if not name.startswith("_")]
            near = difflib.get_close_matches(part, names, _MAX_SUGGESTIONS)
            if near:
                hint = f"did you mean {_either(near)}?"
            else:
                hint = _name_an_app(value) if isinstance(value, ModuleType) else ""
            what = f"{path} has no attribute {part!r}"
            raise _failed(reference, f"{what}; {hint}" if hint else what) from exc
        except (Exception, SystemExit) as exc:  # a property, or a module's __getattr__
            raise _app_failed(reference, f"reading {path}.{part}", exc, directory) from exc
        path = f"{path}.{part}"
    return value


def _name_an_app(module: object) -> str:
    """Say which attributes of a module look like apps, or how to name one."""
    apps = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.isclass(value)
        and callable(value)
        and getattr(value, "__module__", "") != "typing"
        and is_async(value)
        and detect_interface(value) == "asgi3"
        and accepts(value, 3)
    ]
    if apps:
        return f"did you mean {_either(apps[:_MAX_SUGGESTIONS])}?"
    return "name the attribute that holds the app"


def _refuse_factory(reference: str, found: object) -> None:
    """Without `factory`, an attribute that takes no arguments can only be meant as a factory."""
    if not callable(found) or not _needs_nothing(found):
        return
    if is_async(found):
        raise _failed(reference, "it takes no arguments, but an app takes (scope, receive, send)")
    raise _failed(reference, "it takes no arguments, so it looks like a factory of the app; add --factory")


def _call_factory(reference: str, found: object, directory: Path | None) -> object:
    if not callable(found):
        raise _failed(reference, f"it is {a_type(found)}, not a factory; it cannot be called")
    if accepts(found, 0) is False:
        if detect_interface(found) is not None and not inspect.isclass(found):
            raise _failed(reference, "it is an app already, not a factory; leave out --factory")
        needed = ", ".join(_required_arguments(found))
        raise _failed(reference, f"a factory is called without arguments, but this one needs ({needed})")
    if is_async(found):
        raise _failed(reference, "an async function cannot be a factory; make it a plain function")
    try:
        app: object = found()
    except (Exception, SystemExit) as exc:
        raise _app_failed(reference, f"calling {reference.partition(':')[2]}()", exc, directory) from exc
    if inspect.iscoroutine(app):
        app.close()
        raise _failed(reference, "the factory returned a coroutine; make it a plain function")
    if not callable(app):
        raise _failed(reference, f"the factory returned {a_type(app)} instead of an app")
    return app


def _needs_nothing(found: object) -> bool:
    signature = signature_of(found)
    if signature is None or not accepts(found, 0):
        return False
    return all(parameter.kind is not parameter.VAR_POSITIONAL for parameter in signature.parameters.values())


def _required_arguments(found: object) -> list[str]:
    signature = signature_of(found)
    parameters = signature.parameters.values() if signature else ()
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]


def _app_failed(reference: str, doing: str, error: BaseException, directory: Path | None) -> AppLoadError:
    """Show the app's own error and the place in the app where it happened."""
    place = _place(error, directory)
    where = f" ({place})" if place else ""
    report = traceback.TracebackException.from_exception(error)
    report.stack[:] = _frames(error)
    return _failed(reference, f"{doing} failed with {describe(error)}{where}", "".join(report.format()))


def _place(error: BaseException, directory: Path | None) -> str:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return place_of([(error.filename, error.lineno)], directory)
    return place_of([(frame.filename, frame.lineno) for frame in _frames(error)], directory)


def _frames(error: BaseException) -> Sequence[traceback.FrameSummary]:
    """Return the frames of a traceback without this module and the import machinery."""
    ours = {__file__, importlib.__file__}
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ours and not frame.filename.startswith("<frozen importlib")
    ]


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"{name!r}" for name in names)


def _failed(reference: str, why: str, details: str = "") -> AppLoadError:
    end = "" if why.endswith(("?", ".")) else "."
    return AppLoadError(f"Cannot load {reference}: {why}{end}", details=details)
