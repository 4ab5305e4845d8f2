"""The floors of the house hold: who imports whom, and what every module keeps to.

Read from the source with `ast`, without importing anything, so that a module that does not work yet is
judged as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

PACKAGE = "verser2_guest_python"
ROOT = Path(__file__).resolve().parents[1] / "src" / PACKAGE
MAX_LINES = 400  # past that a file is two ideas

# What each floor may import, beside itself. Bottom up.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "http2": set(),
    "wire": {"errors"},
    "asgi": {"errors"},
    "peer": {"errors", "wire", "http2"},
    "guest": {"errors", "wire", "http2", "asgi", "peer"},
    "broker": {"errors", "wire", "http2", "asgi", "peer"},
    "host": {"errors", "wire", "http2", "asgi", "peer"},
}
ROLES = {"guest", "broker", "host"}
BELOW["integrations"] = BELOW["guest"] | ROLES
BELOW["service"] = BELOW["integrations"] | {"integrations"}
BELOW["cli"] = BELOW["service"] | {"service"}
BELOW["__main__"] = {"cli"}

# The rooms of service/, bottom up: each may import those that stand before it.
ROOMS = (
    "process",
    "output",
    "settings",
    "metrics",
    "logs",
    "certificates",
    "health",
    "calls",
    "inspector",
    "gateway_server",
    "daemons",
    "config",
    "dev",
)

# Only http2/ knows these
ENGINES = {"h2", "hpack", "hyperframe", "jh2"}
# What pure code has no use for
OUTSIDE_WORLD = {"asyncio", "logging", "os", "pathlib", "socket", "ssl", "subprocess", "threading", "time"}


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path
    source: str
    tree: ast.Module

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def floor(self) -> str:
        """`wire` for `verser2_guest_python.wire.vws`; "" for the package itself, the door to all floors."""
        return floor_of(self.name)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and full name of each import, also of those inside functions and for type checkers."""
        package = self.name.split(".")
        if self.path.name != "__init__.py":
            package = package[:-1]
        found: list[tuple[int, str]] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*base, node.module] if node.module else base)
                # `from verser2_guest_python import guest` imports a floor, or a name through the door.
                names = [f"{source}.{alias.name}" for alias in node.names] if source == PACKAGE else [source]
                found += [(node.lineno, name) for name in names]
        return found

    def at(self, line: int, complaint: str) -> str:
        return f"{self.path.relative_to(ROOT.parent)}:{line}: {complaint}"


def floor_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


@cache
def modules() -> list[Module]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text()
        found.append(Module(path, source, ast.parse(source, str(path))))
    return found


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """All those trees would be looked through by the collector after every later test."""
    yield
    modules.cache_clear()


def test_a_floor_imports_only_from_below() -> None:
    wrong = []
    for module in modules():
        if not module.floor:
            continue  # the door offers names of all floors, and loads them on first use
        assert module.floor in BELOW, f"{module.name} is on no floor: {sorted(BELOW)}"
        for line, name in module.imports:
            if name.split(".")[0] != PACKAGE or (floor := floor_of(name)) == module.floor:
                continue
            if floor not in BELOW and BELOW[module.floor] & ROLES:
                continue  # a name through the door, for the floors above all roles
            if floor not in BELOW[module.floor]:
                wrong.append(module.at(line, f"{module.floor}/ imports {name}"))
    assert not wrong, "\n".join(wrong)


def test_a_room_of_service_imports_only_from_rooms_below() -> None:
    wrong = []
    for module in modules():
        if module.floor != "service" or (room := room_of(module.name)) is None:
            continue
        assert room in ROOMS, f"{module.name} is in no room: {ROOMS}"
        for line, name in module.imports:
            if floor_of(name) != "service" or (other := room_of(name)) is None:
                continue
            if other not in ROOMS[: ROOMS.index(room) + 1]:
                wrong.append(module.at(line, f"{room}/ imports {name}"))
    assert not wrong, "\n".join(wrong)


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[2] if len(parts) > 2 else None


def test_h2_stays_on_its_floor() -> None:
    wrong = [
        module.at(line, f"imports {name}")
        for module in modules()
        if module.floor != "http2"
        for line, name in module.imports
        if name.split(".")[0] in ENGINES
    ]
    assert not wrong, "\n".join(wrong)


def test_wire_does_no_input_or_output() -> None:
    wrong = [
        module.at(line, f"imports {name}")
        for module in modules()
        if module.floor == "wire"
        for line, name in module.imports
        if name.split(".")[0] in OUTSIDE_WORLD
    ]
    assert not wrong, "\n".join(wrong)


def test_a_module_says_what_it_is() -> None:
    wrong = [module.at(1, "no docstring") for module in modules() if not ast.get_docstring(module.tree)]
    assert not wrong, "\n".join(wrong)


def test_a_file_that_is_named_is_there() -> None:
    paths = [f"/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*.py")]
    wrong = [
        module.at(1, f"there is no {name}")
        for module in modules()
        for name in re.findall(r"`([\w/]+\.py)`", module.source)
        if not any(path.endswith(f"/{name}") for path in paths)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_file_is_one_idea() -> None:
    lengths = [(module, len(module.source.splitlines())) for module in modules()]
    wrong = [module.at(1, f"{lines} lines: split it") for module, lines in lengths if lines > MAX_LINES]
    assert not wrong, "\n".join(wrong)


def test_no_mutable_state_in_modules() -> None:
    """A list, dict or set at module level is a constant, and has the name of one (or a dunder name)."""
    wrong = []
    for module in modules():
        for node in module.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    pass
                case _:
                    continue
            constant = name.lstrip("_").isupper() or (name.startswith("__") and name.endswith("__"))
            if is_mutable(value) and not constant:
                wrong.append(module.at(node.lineno, f"{name} is mutable and not named as a constant"))
    assert not wrong, "\n".join(wrong)


def is_mutable(value: ast.expr) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=("list" | "dict" | "set" | "deque" | "defaultdict" | "bytearray"))):
            return True
    return False


def test_no_global_statement_and_no_bare_except() -> None:
    wrong = [
        module.at(node.lineno, type(node).__name__)
        for module in modules()
        for node in module.nodes
        if isinstance(node, ast.Global) or (isinstance(node, ast.ExceptHandler) and node.type is None)
    ]
    assert not wrong, "\n".join(wrong)
