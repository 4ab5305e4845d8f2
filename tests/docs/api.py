"""Writes `docs/reference/api.md` from the docstrings of what is public; a test holds them together.

Apart from `reference.py`, which asks the command line, and which writes this page too.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from textwrap import dedent
from typing import Any

import verser2_guest_python
from tests.docs.markdown import ROOT
from verser2_guest_python.integrations import httpx as transports
from verser2_guest_python.integrations import sync

PAGE = ROOT / "docs" / "reference" / "api.md"
PACKAGE = "verser2_guest_python"
GROUPS = {
    "Guest": ["create_verser_guest", "VerserGuest", "GuestEvent", "DispatchedResponse"],
    "Broker": [
        "create_verser_broker",
        "VerserBroker",
        "VerserBrokerResponse",
        "ResponseHeaders",
        "VerserBrokerWebSocket",
        "BrokerRoute",
        "RouteChange",
    ],
    "Host": [
        "create_verser_host",
        "VerserHost",
        "HostLimits",
        "HostEvent",
        "Identity",
        "Applicant",
        "Authorization",
        "Permissions",
        "PolicyEntry",
    ],
    "What is raised": ["VerserError"],
}
DOORS = {
    f"{PACKAGE}.integrations.sync": [sync.SyncVerserBroker],
    f"{PACKAGE}.integrations.httpx": [transports.VerserTransport, transports.SyncVerserTransport],
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
        parts.extend(described(getattr(verser2_guest_python, name)) for name in names)
    parts.append("## Other doors\n")
    for module, values in DOORS.items():
        parts.append(f"From `{module}`, with [its extra](../calling.md#through-httpx) where it has one:\n")
        parts.extend(described(value) for value in values)
    return "\n".join(parts)


def described(value: Any) -> str:
    """A function or a class, with its public methods."""
    name = value.__name__
    parts = [f"### {name}\n"]
    if inspect.isclass(value):
        if dataclasses.is_dataclass(value):
            parts.append(code(signature(name, value)))
        parts.append(markdown(inspect.getdoc(value) or ""))
        parts.extend(member_of(name, *member) for member in members(value))
    else:
        parts.append(code(signature(name, value)))
        parts.append(markdown(inspect.getdoc(value) or ""))
    return "\n".join(part for part in parts if part.strip())


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
