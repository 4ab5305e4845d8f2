"""Writes `docs/reference/api.md` from the docstrings of what is public; a test holds them together.

Apart from `reference.py`, which asks the command line, and which writes this page too.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import GenericAlias
from typing import Any, ForwardRef, get_origin

import verser2_guest_python
from tests.docs.markdown import ROOT
from verser2_guest_python import Authorization

PAGE = ROOT / "docs" / "reference" / "api.md"
PACKAGE = "verser2_guest_python"
GROUPS = {
    "Guest": [
        "create_verser_guest",
        "VerserGuest",
        "GuestState",
        "GuestEvent",
        "LifecycleType",
        "GuestFacts",
        "SessionFacts",
        "DispatchedResponse",
        "ASGIApp",
    ],
    "Broker": [
        "create_verser_broker",
        "VerserBroker",
        "RequestOptions",
        "RequestHeaders",
        "Body",
        "Readable",
        "VerserBrokerResponse",
        "ResponseHeaders",
        "VerserBrokerWebSocket",
        "WebSocketMessage",
        "WebSocketText",
        "WebSocketBinary",
        "WebSocketPong",
        "WebSocketClose",
        "BrokerRoute",
        "RouteChange",
        "Generation",
        "RouteListener",
        "RouteChanges",
        "BrokerFacts",
    ],
    "Host": [
        "create_verser_host",
        "VerserHost",
        "HostLimits",
        "FloodLimits",
        "Pace",
        "Route",
        "HostStats",
        "GuestStats",
        "HostEvent",
        "RequestRecord",
        "Identity",
        "Applicant",
        "Authorization",
        "Grant",
        "Permissions",
        "PolicyEntry",
        "PolicyFunction",
    ],
    "All three": ["SessionOptions"],
    "What is raised": [
        "VerserError",
        *(name for name in verser2_guest_python.__all__ if name.endswith("Error") and name != "VerserError"),
        "LifespanStartupFailed",
        "ConnectFailure",
    ],
}
SYNC = f"{PACKAGE}.integrations.sync"
DOORS = {
    SYNC: [
        "SyncVerserBroker",
        "SyncVerserResponse",
        "SyncVerserStatusError",
        "SyncVerserWebSocket",
        "SyncRouteChanges",
    ],
    f"{PACKAGE}.integrations.httpx": ["VerserTransport", "SyncVerserTransport"],
    f"{PACKAGE}.integrations.gateway": ["create_gateway", "Gateway", "GatewayLimits", "GatewayRecord"],
    f"{PACKAGE}.integrations.otel": ["traced_app", "trace_broker", "trace_host"],
    f"{PACKAGE}.integrations.background_host": ["BackgroundHost", "BackgroundGuest"],
    f"{PACKAGE}.host": [
        "HostObserver",
        "ExchangeObserver",
        "ExchangeStart",
        "ExchangeEnd",
        "Side",
        "Message",
        "Open",
        "Accept",
        "Text",
        "Binary",
        "Ping",
        "Pong",
        "Close",
        "Error",
    ],
}

HEAD = """\
# Library

Made from the docstrings (`python -m tests.docs.reference`). All of it is imported from
`verser2_guest_python`, but for the [doors to other libraries](#other-doors). How to use it:
[serving](../serving.md#from-python), [calling](../calling.md#from-python),
[embedding a Host](../embedding-a-host.md). What is raised: [errors](errors.md). Nothing else is public: it
may change without a word.
"""
_RUN = "tested: tests/docs/test_api_examples.py"  # each example, beside a real Host
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Example|Attributes)::?$")
_EXAMPLE = re.compile(r"^(?: {4}.*\n(?:\n(?= {4}))*)+", re.MULTILINE)
_ENTRY = re.compile(r"^    (\*{0,2}\w[\w, …*]*): (.+)$")


def page() -> str:
    """The page, as it should be."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts.extend(described(PACKAGE, name) for name in names)
    parts.append("## Other doors\n")
    for module, names in DOORS.items():
        parts.append(f"From `{module}`, with [its extra](../calling.md#through-httpx) where it has one:\n")
        parts.extend(described(module, name) for name in names)
    return "\n".join(parts)


def public() -> dict[str, Any]:
    """Everything public, by its name."""
    doors = [(PACKAGE, name) for name in verser2_guest_python.__all__]
    doors += [(module, name) for module, names in DOORS.items() for name in names]
    return {name: getattr(import_module(module), name) for module, name in doors}


def described(module: str, name: str) -> str:
    """A function, or a class with its public methods, or what a name stands for."""
    value = getattr(import_module(module), name)
    parts = [f"### {name}\n"]
    if not callable(value) or isinstance(value, GenericAlias) or get_origin(value) is not None:
        said, told = alias(module, name)
        parts += [code(said), markdown(told)]
    elif not inspect.isclass(value):
        parts += [code(signature(name, value)), markdown(inspect.getdoc(value) or "")]
    else:
        told = inspect.getdoc(value) or ""
        if dataclasses.is_dataclass(value) or is_made_by_users(value, told):
            parts.append(code(signature(name, value)))
        parts += [markdown(told), "".join(attributes(value))]
        parts.extend(member_of(name, *member) for member in members(value))
    return "\n".join(part for part in parts if part.strip())


def is_made_by_users(value: type, told: str) -> bool:
    """Whether its arguments are anybody's business; what `create_…` makes says so."""
    base = Exception, Enum, dict, Authorization
    return not (issubclass(value, base) or getattr(value, "_is_protocol", False) or "made by" in told.lower())


def attributes(value: type) -> Iterator[str]:
    """What stands beside the fields of a dataclass, the keys of a TypedDict, the members of an Enum."""
    if issubclass(value, Enum):
        told = docs_of_fields(value)
        yield from (f"- `{name}`: {told.get(name) or one.value}\n" for name, one in value.__members__.items())
    elif issubclass(value, dict):
        yield from (f"- `{name}`: `{plain(kind)}`\n" for name, kind in inspect.get_annotations(value).items())
    elif dataclasses.is_dataclass(value):
        yield from (f"- `{name}`: {told}\n" for name, told in docs_of_fields(value).items())


def docs_of_fields(value: type) -> dict[str, str]:
    """The strings below the fields of a class."""
    (body,) = ast.parse(dedent(inspect.getsource(value))).body
    assert isinstance(body, ast.ClassDef)
    told: dict[str, str] = {}
    for field, text in pairwise(body.body):
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            target = field.targets[0] if isinstance(field, ast.Assign) else getattr(field, "target", None)
            if isinstance(target, ast.Name):
                told[target.id] = " ".join(str(text.value.value).split())
    return told


def alias(module: str, name: str) -> tuple[str, str]:
    """The line that makes an alias, and the string below it, from where it is made."""
    path = Path(import_module(module).__file__ or "")
    tree = ast.parse(path.read_text())
    for statement, following in pairwise([*tree.body, ast.Pass()]):
        made = statement.target if isinstance(statement, ast.AnnAssign) else None
        made = statement.targets[0] if isinstance(statement, ast.Assign) else made
        if isinstance(made, ast.Name) and made.id == name:
            said = wrapped(f"{name} = ", ast.unparse(statement.value))  # type: ignore[union-attr]
            told = following.value if isinstance(following, ast.Expr) else None
            return said, inspect.cleandoc(str(told.value)) if isinstance(told, ast.Constant) else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(one.name == name for one in node.names):
            return alias(f"{'.' * node.level}{node.module}".lstrip("."), name)
    raise AssertionError(f"{module} has no {name}")


def wrapped(start: str, said: str) -> str:
    """A union that is too long for a line, a kind a line; a list of words, a few a line."""
    if len(start) + len(said) <= 100:
        return start + said
    kinds = said.split(" | ")
    if len(kinds) > 1:
        return f"{start}(\n    " + "\n    | ".join(kinds) + "\n)"
    (made,) = ast.parse(said).body
    assert isinstance(made, ast.Expr)
    assert isinstance(made.value, ast.Subscript)
    assert isinstance(made.value.slice, ast.Tuple)
    items = "".join(f"    {ast.unparse(item)},\n" for item in made.value.slice.elts)
    return f"{start}{ast.unparse(made.value.value)}[\n{items}]"


def members(value: type) -> Iterator[tuple[str, Any]]:
    """Public properties, then methods, in the order of the source; those of a base come after its own."""
    found = list(_members(value))
    yield from (member for member in found if isinstance(member[1], property))
    yield from (member for member in found if not isinstance(member[1], property))


def _members(value: type) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for base in value.__mro__:
        if not base.__module__.startswith(PACKAGE):
            continue
        for name, found in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            if isinstance(found, property | classmethod | staticmethod) or inspect.isfunction(found):
                seen.add(name)
                yield name, found


def member_of(owner: str, name: str, found: Any) -> str:
    if isinstance(found, property):
        assert found.fget is not None
        returned = inspect.signature(found.fget).return_annotation
        told = " ".join((inspect.getdoc(found) or "").split())
        return f"- `{owner}.{name}`: `{plain(returned)}`" + (f". {told}" if told else "") + "\n"
    function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
    return (
        f"#### {owner}.{name}\n\n"
        + code(signature(name, function, method=not isinstance(found, staticmethod)))
        + "\n"
        + markdown(inspect.getdoc(function) or "")
    )


def code(text: str) -> str:
    return f"<!-- made -->\n```python\n{text}\n```\n"


def signature(name: str, value: Callable[..., Any], *, method: bool = False) -> str:
    """How it is called, a parameter a line where it does not fit into one."""
    known = inspect.signature(value)
    parameters = list(known.parameters.values())[1 if method else 0 :]
    words: list[str] = []
    keywords = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            keywords = True
            words.append("*")
        words.append(said(parameter))
        keywords = keywords or parameter.kind is parameter.VAR_POSITIONAL
    returned = (
        ""
        if known.return_annotation is known.empty or inspect.isclass(value)
        else plain(known.return_annotation)
    )
    arrow = f" -> {returned}" if returned else ""
    prefix = "async " if inspect.iscoroutinefunction(value) else ""
    line = f"{prefix}{name}({', '.join(words)}){arrow}"
    if len(line) <= 100:
        return line
    return f"{prefix}{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){arrow}"


def said(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = stars + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {plain(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {value_of(parameter.default)}"
    return text


def plain(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):  # as a TypedDict keeps it
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def value_of(default: Any) -> str:
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    if isinstance(default, int) and not isinstance(default, bool) and default >= 1024 and default % 1024 == 0:
        return f"{default // 1024**2} * 1024**2" if default % 1024**2 == 0 else f"{default // 1024} * 1024"
    text = repr(default)
    return "…" if text.startswith("<") else text


def markdown(docstring: str) -> str:
    """A docstring in Markdown: its sections become lists, its examples blocks."""
    out: list[str] = []
    section = ""
    for line in docstring.splitlines():
        if found := _SECTION.match(line):
            section = found[1]
            out += ["", f"{'Arguments' if section == 'Args' else section}:", ""]
        elif section == "Example" or not section:
            out.append(line.replace("::", ":") if line.endswith("::") else line)
        elif entry := _ENTRY.match(line):
            names = ", ".join(f"`{word}`" if word != "…" else word for word in entry[1].split(", "))
            out.append(f"- {names}: {entry[2]}")
        else:
            out.append(f"  {line.strip()}" if line.strip() else "")
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip() + "\n"
    return _EXAMPLE.sub(lambda found: f"<!-- {_RUN} -->\n```python\n{dedent(found[0])}```\n", text)
