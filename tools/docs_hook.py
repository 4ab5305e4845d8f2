"""For mkdocs: links that leave `docs/` lead somewhere in the site too.

Pages are read in a checkout as well, where such links lead to files beside `docs/`. Examples become
part of the site; of a link to anything else its text is left.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ICON = ROOT / "src" / "verser2_guest_python" / "service" / "inspector" / "static" / "icon.svg"
TAKEN_ALONG = ("config", "examples")
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(((?:\.\./)[^)\s]*)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the examples, as they are, and the icon."""
    for path in taken_along():
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    files.append(File.generated(config, "images/favicon.svg", abs_src_path=str(ICON)))
    return files


def taken_along() -> list[Path]:
    return [
        path
        for folder in TAKEN_ALONG
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix not in {".md", ".pyc"}
    ]


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Has links that leave `docs/` lead to the same file in the site, where it is there."""
    here = posixpath.dirname(page.file.src_uri)
    known = {path.relative_to(ROOT).as_posix() for path in taken_along()}

    def mended(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        place = posixpath.normpath(posixpath.join("docs", here, target))
        if place == "docs" or place.startswith("docs/"):
            return link[0]
        if place in known:
            return f"[{text}]({posixpath.relpath(place, here or '.')})"
        return text

    return _OUTSIDE.sub(mended, markdown)
