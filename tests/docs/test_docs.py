"""The documentation is true: links lead somewhere, commands parse, tables are complete."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import verser2_guest_python
from tests.docs import api, reference
from tests.docs.markdown import (
    PAGES,
    ROOT,
    Block,
    anchors_of,
    blocks_in,
    blocks_of,
    commands_in,
    links_of,
    name_of,
    prose_of,
)
from verser2_guest_python.cli.main import PROGRAM_NAME, program
from verser2_guest_python.service.process.exit_codes import ExitCode
from verser2_guest_python.service.settings.config_file import ConfigFile
from verser2_guest_python.service.settings.environment import SECRETS, variables
from verser2_guest_python.service.settings.model import Settings, setting_keys, settings_from
from verser2_guest_python.service.settings.sources import Sources

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
REFERENCE = ROOT / "docs" / "reference"
EXAMPLES = sorted((ROOT / "config").rglob("*.toml"))
# What each kind of block may be marked as
CHECKS = {
    "python": {"file", "run", "start", "inside", "made", "tested"},
    "sh": {"file", "run", "start", "install", "tested"},
    "text": {"file", "output", "made", "tested", "picture"},
    "toml": {"file"},
    "json": {"wire"},
    "ini": {"unit"},
    "dockerfile": {"tested"},
}
MADE = {api.PAGE, reference.CLI_PAGE}
TABLES = {"host.policy"}  # of a file only


def place(value: Block | Path) -> str:
    return value.place if isinstance(value, Block) else name_of(value)


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_a_block_is_checked(block: Block) -> None:
    """Each is run, or read by what it is for; the marker above it says how."""
    assert block.language in CHECKS, f"say which of {', '.join(sorted(CHECKS))} it is"
    assert block.marker in CHECKS[block.language], "say in a marker how this block is checked"
    if block.marker == "made":
        assert block.page in MADE, "only what is made from the program is compared with it"
    elif (
        block.marker == "tested"
    ):  # the examples of docs/reference/api.md are: test_api_examples.py runs each
        assert name_of(block.page) in (ROOT / block.argument).read_text(), "that test does not know the page"
    elif block.marker == "picture":
        assert set(block.text) & set("─│└┌<>"), "this is no drawing"
    elif block.language == "python":
        compile(block.text, block.place, "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    elif block.language == "toml":
        Settings(**tomllib.loads(block.text))


def test_what_is_printed_was_printed_by_something() -> None:
    for page in PAGES:
        last = ""
        for block in blocks_of(page):
            assert block.marker != "output" or last in {"run", "start", "inside"}, block.place
            last = block.marker


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Then:\n\n    pip install x\n", "between fences"),
        ("- a list:\n\n\tpip install x\n", "between fences"),
        ("~~~\npip install x\n~~~\n", "three backticks"),
        ("- a list:\n\n  ```sh\n  pip install x\n  ```\n", "three backticks"),
        ("```sh title=x\npip install x\n```\n", "three backticks"),
        ("<pre>pip install x</pre>\n", "three backticks"),
        ("```sh\npip install x\n", "does not end"),
    ],
)
def test_no_block_escapes(text: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        blocks_in(ROOT / "docs" / "page.md", text)


def test_a_marker_is_for_one_block() -> None:
    marked = {
        text: [block.marker for block in blocks_in(ROOT / "docs" / "page.md", text)]
        for text in (
            "<!-- run -->\n```sh\ntrue\n```\n\n```sh\nfalse\n```\n",
            "<!-- run -->\nWords.\n\n```sh\ntrue\n```\n",
            "<!-- rum -->\n```sh\ntrue\n```\n",
            "```\ntrue\n```\n",
        )
    }
    assert list(marked.values()) == [["run", ""], [""], [""], [""]]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=place)
def test_commands_of_this_program_parse(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in commands_in(block.text):
        words = shlex.split(line, comments=True)
        for command in pieces(words):
            if command[0] == PROGRAM_NAME:
                parse(command[1:])
            elif command[0] == "make":
                assert f"\n{command[1]}:" in makefile, f"{block.place}: there is no target {command[1]}"


def pieces(words: list[str]) -> list[list[str]]:
    """The commands of one line, without variables that are set for one of them."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in {"|", "&&", "||", ";", ">"}:
            commands.append([])
        elif commands[-1] or not re.match(r"[A-Z_]+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def parse(arguments: list[str]) -> None:
    """Parses as the program would, without running anything."""
    command: click.Command = program
    context = program.make_context(PROGRAM_NAME, list(arguments), resilient_parsing="--version" in arguments)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


def test_every_page_is_linked() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links_of(page)}
    assert {page for page in PAGES if page.name != "README.md"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_are_named_exist(page: Path) -> None:
    known = {
        name
        for _, command in reference.commands()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "--version"}
    text = prose_of(page)
    if name_of(page) == "docs/performance.md":
        known |= {"--case"}  # of the benchmarks
    missing = text[text.find("## What it does not do yet") :].partition("\n## And")[0]
    planned = set(re.findall(r"`(--?[a-z-]+)`", missing)) if page.name == "README.md" else set()
    named = set(re.findall(r"`(--[a-z][a-z-]*)", text))
    assert named <= known | planned
    assert page.name != "README.md" or not planned & known, "what is said to be missing is there"


def test_what_is_made_from_the_program_is_the_programs() -> None:
    hint = "run: python -m tests.docs.reference"
    assert reference.CLI_PAGE.read_text() == reference.command_line(), hint
    assert reference.ENVIRONMENT_PAGE.read_text() == reference.environment(), hint
    assert reference.METRICS_PAGE.read_text() == reference.metrics(), hint
    assert api.PAGE.read_text() == api.page(), hint


def test_every_public_name_is_described() -> None:
    described = {name for names in api.GROUPS.values() for name in names}
    assert {
        name
        for name in verser2_guest_python.__all__
        if not name.endswith(("Error", "Failure")) and name.strip("_").islower() | name[0].isupper()
    } - described == {"VERSER2_GUEST_PYTHON_PACKAGE_NAME", "__version__"}


def test_the_site_has_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", nav, re.MULTILINE)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(pages), "name it in the nav of mkdocs.yml"


def test_every_exit_code_is_listed() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    listed = {int(code) for row in rows for code in row.split(",")}
    assert listed == {int(code) for code in ExitCode}
    readme = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {int(code) for row in readme for code in row.split(",")} <= listed


def test_every_error_is_listed() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    listed = {name: re.findall(r"`([\w-]+)`", codes) for name, codes in rows}
    public = {name for name in verser2_guest_python.__all__ if name.endswith("Error")}
    assert public - set(listed) == {"VerserError", "VerserTimeoutError"}
    for name, codes in listed.items():
        assert getattr(verser2_guest_python, name).default_code in codes


def test_every_other_name_of_a_variable_is_told() -> None:
    named = set(re.findall(r"`(VERSER_\w+)", (REFERENCE / "environment.md").read_text()))
    for key in set(setting_keys(Settings)) - TABLES:
        assert set(variables(key)) <= named


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_of_a_configuration_holds_settings_that_fit(path: Path) -> None:
    settings_from(Sources({"config": path}, {}, ROOT))
    ConfigFile(path, "", uncommented(path))


def test_the_examples_of_configurations_name_every_setting() -> None:
    named = {
        f"{name}.{inner}" if inner else name
        for path in EXAMPLES
        for name, value in uncommented(path).items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert named >= set(setting_keys(Settings)) - SECRETS - TABLES


def uncommented(path: Path) -> dict[str, Any]:
    """A file with what it shows in comments."""
    return tomllib.loads(re.sub(r"^# ?(\w+ = )", r"\1", path.read_text(), flags=re.MULTILINE))


def test_every_option_of_uvicorn_is_told() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--help"], capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(
        r"^\| ([^|`]+) \|", (ROOT / "docs" / "moving-from-uvicorn.md").read_text(), re.MULTILINE
    )
    told = {f"--{name.strip()}" for row in rows[1:] for name in row.split(",")}
    pairs = re.findall(r"^  (--[a-z][\w-]*)(?: / (--[\w-]+))?", help_text, re.MULTILINE)
    assert {name for pair in pairs for name in pair if name} - {"--help"} <= told


def test_every_floor_of_the_house_and_every_room_of_service_is_described() -> None:
    shown = [
        set(re.findall(r"\b(\w+)/ ", block.text))
        for block in BLOCKS
        if block.marker == "tested" and name_of(block.page) == "docs/architecture.md"
    ]
    source = ROOT / "src" / "verser2_guest_python"
    floors, rooms = (
        {path.parent.name for path in folder.glob("*/__init__.py")} for folder in (source, source / "service")
    )
    assert shown == [floors, rooms]
