"""Reads README and the pages of `docs/`: their code blocks, links, headings and tables.

Apart from the tests because all of them look at the same pages. Each code block has a marker above it, a
comment that nobody sees on the rendered page and that says how the block is checked::

    <!-- file: hello.py -->              it is a file of the page; it is written before anything runs
    <!-- run -->                         it is run: sh by bash, python as a program
    <!-- run: exits 6 -->                the same, and it ends with this code
    <!-- run: hello.py -->               a file that is also run
    <!-- start: until "registered" -->   it is started, and goes on until the page ends
    <!-- start: until "…", then stop --> it is started, and stopped before what follows
    <!-- install -->                     it is run in an empty environment
    <!-- inside: broker -->              python with `await`, run beside a real Host, Guest and Broker
    <!-- output -->                      what the block before printed; `…` stands for anything
    <!-- unit: verser2-host -->          a drop-in for a unit of `config/systemd`, read by systemd itself
    <!-- wire: registration -->          JSON of the protocol, read by what reads it from the wire
    <!-- made -->                        made from the program, and compared with it
    <!-- tested: tests/docs/test_x.py -->  that test takes the block from the page; examples of docstrings
                                         are run by test_api_examples.py
    <!-- picture -->                     a drawing

A page may begin with `<!-- needs: certificates, host, guest -->`: what is there before its first block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKERS = (
    "needs",
    "file",
    "run",
    "start",
    "install",
    "inside",
    "output",
    "unit",
    "wire",
    "made",
    "tested",
    "picture",
)

_FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
_MARKER = re.compile(rf"^<!-- ({'|'.join(MARKERS)})(?:: (.*))? -->$")
# What Markdown takes for code as well, or a page may have written instead: nothing may escape the tests
_OTHER_BLOCK = re.compile(r"^\s*(`{3}|~{3}|<pre\b)")
_INDENTED = re.compile(r"^(?: {4}|\t)")
_HEADING = re.compile(r"^#+ (.+)$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NOT_IN_A_SLUG = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """One fenced block: `marker` is the word of its marker, `argument` what stands behind the colon."""

    page: Path
    line: int
    language: str
    text: str
    marker: str = ""
    argument: str = ""

    @property
    def place(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    return blocks_in(page, page.read_text())


def blocks_in(page: Path, text: str) -> list[Block]:
    """The code blocks of what a page says, in order."""
    blocks: list[Block] = []
    marker = ("", "")
    fence = language = ""
    start = 0
    blank = True
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if fence:
            if line == fence:
                blocks.append(Block(page, start, language, "\n".join(body) + "\n", *marker))
                fence, marker = "", ("", "")
            else:
                body.append(line)
        elif found := _FENCE.match(line):
            fence, language = found[1], found[2]
            start, body = number, []
        elif found := _MARKER.match(line):
            marker = (found[1], found[2] or "")
        elif line.strip():
            place = f"{name_of(page)}:{number}"
            assert not _OTHER_BLOCK.match(line), f"{place}: begin a block with three backticks and a language"
            assert not (blank and _INDENTED.match(line)), f"{place}: code is to stand between fences"
            marker = ("", "")
        blank = not line.strip()
    assert not fence, f"{name_of(page)}:{start}: this block does not end"
    return blocks


def needs_of(page: Path) -> set[str]:
    """What has to be there before the first block of the page."""
    for line in page.read_text().splitlines():
        if (found := _MARKER.match(line)) and found[1] == "needs":
            return {word.strip() for word in found[2].split(",")}
    return set()


def prose_of(page: Path) -> str:
    """The page without its code blocks."""
    kept: list[str] = []
    fence = ""
    for line in page.read_text().splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif found := _FENCE.match(line):
            fence = found[1]
        else:
            kept.append(line)
    return "\n".join(kept)


def links_of(page: Path) -> list[str]:
    """Targets of the links of a page."""
    return _LINK.findall(prose_of(page))


def anchors_of(page: Path) -> set[str]:
    """Anchors of its headings, as GitHub and mkdocs make them."""
    headings = (found[1] for line in prose_of(page).splitlines() if (found := _HEADING.match(line)))
    return {_NOT_IN_A_SLUG.sub("", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands_in(text: str) -> list[str]:
    """The command lines of a shell block: continued lines joined, comments and blank lines left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
