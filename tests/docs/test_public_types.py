"""Whatever a public signature, attribute or error names is public itself: importable, and on the page."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from typing import Any, ForwardRef

import pytest

import verser2_guest_python
from tests.docs import api

PUBLIC = api.public()
PLAIN_TEXTS = {"VERSER2_GUEST_PYTHON_PACKAGE_NAME", "__version__"}
OTHERS = dict.fromkeys(["T", "httpx2", "TracerProvider"])  # a variable, and what other packages have


def names_in(annotation: str) -> Iterator[str]:
    """The names in an annotation, also in one that is in quotes within it."""
    for node in ast.walk(ast.parse(annotation, mode="eval")):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.istitle():
            yield node.value


def is_pythons(name: str, value: Any) -> bool:
    """Whether it is what everybody knows by that name; an alias of it is not."""
    if hasattr(builtins, name) or inspect.ismodule(value):
        return True
    module = str(getattr(value, "__module__", "")).partition(".")[0]
    known = {getattr(value, "__name__", None), getattr(value, "_name", None)}
    return name in known and module in sys.stdlib_module_names


def annotations_of(value: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Where, what, and the names of the module that it is in: of a function, or a class and its members."""
    if not inspect.isclass(value):
        yield from of_function("", value)
        return
    if not dataclasses.is_dataclass(value) and api.is_made_by_users(value, inspect.getdoc(value) or ""):
        yield from of_function("__init__", value.__init__)
    for base in value.__mro__:
        module = sys.modules[base.__module__]
        if not base.__module__.startswith(api.PACKAGE) or issubclass(base, Enum):
            continue
        for name, kind in inspect.get_annotations(base).items():
            if not name.startswith("_"):
                yield name, kind, vars(module)
    for name, member in api.members(value):
        found = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        yield from of_function(name, found)


def of_function(where: str, function: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    known = inspect.signature(function)
    for parameter in known.parameters.values():
        yield f"{where}({parameter.name})", parameter.annotation, function.__globals__
    yield f"{where} ->", known.return_annotation, function.__globals__


def of_alias(name: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    module = next((door for door, names in api.DOORS.items() if name in names), api.PACKAGE)
    said, told = api.alias(module, name)
    assert told, "it says nothing of itself"
    yield "", said.partition(" = ")[2], {}


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - PLAIN_TEXTS))
def test_all_that_is_named_is_public(name: str) -> None:
    value = PUBLIC[name]
    is_alias = not (inspect.isclass(value) or inspect.isfunction(value))
    unknown = set()
    for where, annotation, scope in of_alias(name) if is_alias else annotations_of(value):
        if annotation is None or annotation is inspect.Parameter.empty:
            continue
        said = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
        for one in names_in(said):
            known = scope.get(one) or getattr(typing, one, None) or getattr(collections.abc, one, None)
            if one not in PUBLIC | OTHERS and not is_pythons(one, known):
                unknown.add(f"{where}: {one}")
    assert unknown == set(), "export them, and put them on the page: tests/docs/api.py"


@pytest.mark.parametrize("name", sorted(name for name, value in PUBLIC.items() if inspect.isclass(value)))
def test_public_attributes_say_their_type(name: str) -> None:
    """So that type checkers need not guess."""
    for base in PUBLIC[name].__mro__:
        if not base.__module__.startswith(api.PACKAGE) or "__init__" not in vars(base):
            continue
        if not inspect.isfunction(base.__init__) or dataclasses.is_dataclass(base):
            continue
        declared = inspect.get_annotations(base)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base.__init__)))):
            for target in node.targets if isinstance(node, ast.Assign) else ():
                for one in ast.walk(target):
                    if isinstance(one, ast.Attribute) and not one.attr.startswith("_"):
                        assert one.attr in declared, f"{base.__name__}.{one.attr}"


def test_every_name_has_one_meaning() -> None:
    """Of what a door exports, nothing is called as something else is at the front."""
    for module, names in api.DOORS.items():
        for name in names:
            front = getattr(verser2_guest_python, name, None)
            assert front is None or front is getattr(import_module(module), name)
            assert name in import_module(module).__all__
