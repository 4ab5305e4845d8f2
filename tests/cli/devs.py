"""A running `verser2-guest dev` for tests: what it printed, and how a browser would ask it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.cli.processes import WAIT_SECONDS, Running, start

APPS = Path(__file__).parent / "apps"
URL = re.compile(r"http://\S+")


class Dev:
    """One that was started; `process` is its own, `state` the environment that finds it."""

    def __init__(self, process: Running, state: Mapping[str, str]) -> None:
        self.process = process
        self.state = dict(state)

    def printed(self, *words: str) -> str:
        """A line of its screen."""
        return self.process.says(*words, where="stdout").strip()

    @property
    def url(self) -> str:
        """What to click, without the slash behind it."""
        self.printed("Ctrl-C")
        found = next(line.strip() for line in self.process.stdout if URL.fullmatch(line.strip()))
        return found.rstrip("/")

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def name(self) -> str:
        return urlsplit(self.url).netloc

    def get(self, path: str = "/", **options: Any) -> httpx2.Response:
        """Asks as a browser does, for whom `*.localhost` is this machine."""
        headers = {"host": self.name, **options.pop("headers", {})}
        return httpx2.get(
            f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=WAIT_SECONDS, **options
        )

    def command(self, word: str) -> list[str]:
        """A command that it printed, such as that with `broker get`."""
        line = self.printed(word)
        return shlex.split(line[line.index("/") :] if line.startswith(("Ask", "Web")) else line)

    def peer(self) -> list[str]:
        """The options that lead to its Host, whatever else runs."""
        directory = Path(self.state["XDG_STATE_HOME"], "verser2-guest", "running")
        runs = [json.loads(path.read_bytes()) for path in directory.glob(f"{self.process.pid}-*.json")]
        run = runs[0]
        files = [(f"--tls-{name}-file", run[f"{name}_file"]) for name in ("ca", "cert", "key")]
        return ["--host-url", run["host_url"], *(word for pair in files for word in pair)]


@contextmanager
def dev(
    state: Mapping[str, str],
    *more: str,
    app: str = "small:app",
    directory: Path = APPS,
    cwd: Path | None = None,
) -> Any:
    """`verser2-guest dev APP`, on a port of its own."""
    arguments = ("dev", app, "--app-dir", str(directory), "--port", "0", *more)
    with start(*arguments, env=state, **({} if cwd is None else {"cwd": cwd})) as process:
        yield Dev(process, state)
