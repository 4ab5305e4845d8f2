"""Looks through the built documentation: nothing that a browser loads by itself may come from elsewhere.

Links that somebody clicks may. Apart from the build, which knows its pages and not what a theme adds::

    python -m tools.check_site site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
_ELSEWHERE = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
_IN_CSS = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')\s]+)")


class Loads(HTMLParser):
    """What a page has its browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in {"canonical", "next", "prev"}:
            return
        self.found += [value or "" for name, value in attrs if (tag, name) in LOADED]


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """A line for each thing that a page or a style sheet loads from another site."""
    for path in sorted(site.rglob("*.html")):
        loads = Loads()
        loads.feed(path.read_text())
        yield from (f"{path}: loads {one}" for one in loads.found if _ELSEWHERE.match(one))
    for path in sorted(site.rglob("*.css")):
        yield from (f"{path}: loads {one}" for one in _IN_CSS.findall(path.read_text()))


def main(site: Path) -> None:
    """Ends with 1 where there is anything of the kind."""
    if not (site / "index.html").is_file():
        sys.exit(f"{site} has no index.html: run make docs")
    wrong = list(loaded_from_elsewhere(site))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(list(site.rglob('*.html')))} pages in {site}, which load nothing from elsewhere")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
