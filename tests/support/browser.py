"""A real browser for tests: headless Chromium, driven through chromedriver by plain WebDriver calls.

Debian has both (packages chromium and chromium-driver). Where one is missing, a test that wants a
browser is skipped and says so; in CI it fails instead.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

START_SECONDS = 30.0
COMMAND_SECONDS = 30.0
WAIT_SECONDS = 20.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver §12.1
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Up": "\ue013", "Down": "\ue015", "Tab": "\ue004"}

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def missing_browser() -> str | None:
    """What is missing for tests in a browser; None when all is there."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if not missing:
        return None
    names = " and ".join(missing)
    return f"{names} not installed: the tests in a browser need Debian's chromium and chromium-driver"


def need_browser() -> None:
    """Skips the test that calls it, or fails it in CI, where there is no browser."""
    reason = missing_browser()
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Browser:
    """One window. Elements are named by CSS selectors."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def _command(self, method: str, path: str, value: Any = None) -> Any:
        response = await self._client.request(method, path, json=value if method == "POST" else None)
        answer = response.json()["value"]
        if response.status_code != 200:
            raise AssertionError(f"{path}: {answer['error']}: {answer['message'].splitlines()[0]}")
        return answer

    async def open(self, url: str) -> None:
        await self._command("POST", "url", {"url": url})

    async def url(self) -> str:
        return str(await self._command("GET", "url"))

    async def run(self, script: str, *arguments: Any) -> Any:
        """Runs JavaScript in the page; the value of its `return`."""
        return await self._command("POST", "execute/sync", {"script": script, "args": list(arguments)})

    async def run_async(self, script: str, *arguments: Any) -> Any:
        """Runs the body of an async function; the value of its `return`."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async function() {{ {script} }})(...arguments)"
            ".then(done, (error) => done(String(error)))"
        )
        return await self._command("POST", "execute/async", {"script": wrapped, "args": list(arguments)})

    async def find(self, selector: str) -> str:
        found = await self._command("POST", "element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    async def click(self, selector: str) -> None:
        await self._command("POST", f"element/{await self.find(selector)}/click", {})

    async def type(self, selector: str, text: str) -> None:
        await self._command("POST", f"element/{await self.find(selector)}/value", {"text": text})

    async def press(self, key: str) -> None:
        """Presses a key wherever the focus is."""
        key = KEYS.get(key, key)
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        await self._command("POST", "actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    async def text(self, selector: str) -> str:
        """What the first such element says, as it is seen; empty where there is none."""
        return str(await self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    async def until(self, script: str, *arguments: Any) -> Any:
        """Waits until the script returns something true, and returns that."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (value := await self.run(script, *arguments)):  # noqa: ASYNC110 - a page has no event
                await asyncio.sleep(0.03)
        return value

    async def until_text(self, selector: str, text: str) -> None:
        """Waits until an element says something."""
        try:
            await self.until(
                "return [...document.querySelectorAll(arguments[0])]"
                ".some((one) => one.innerText.includes(arguments[1]))",
                selector,
                text,
            )
        except TimeoutError:
            said = await self.text(selector)
            raise AssertionError(f"{selector} never said {text!r}; it says {said!r}") from None

    async def has_dialog(self) -> bool:
        """Whether the page has opened an alert, a question or a prompt."""
        response = await self._client.get("alert/text")
        return response.status_code == 200

    async def size(self, width: int, height: int) -> None:
        """The size of what is seen, in CSS pixels."""
        await self._tool(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    async def dark(self, dark: bool = True) -> None:
        """Whether the user prefers a dark page."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._tool("Emulation.setEmulatedMedia", {"features": [feature]})

    async def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(await self._command("GET", "screenshot")))

    async def log(self) -> list[str]:
        """What the page has written to its console since the last call, errors of the browser included."""
        entries = await self._command("POST", "se/log", {"type": "browser"})
        return [str(entry["message"]) for entry in entries]

    async def _tool(self, command: str, parameters: dict[str, Any]) -> Any:
        return await self._command("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})


@contextmanager
def chromium() -> Iterator[str]:
    """A running Chromium; gives the URL of its session, for `window`. It may serve many tests."""
    with ExitStack() as ends:
        profile = ends.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        driver = ends.enter_context(
            subprocess.Popen(
                ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        )
        ends.callback(driver.kill)
        assert driver.stdout is not None
        started = (re.search(r"successfully on port (\d+)", line) for line in driver.stdout)
        port = next((match[1] for match in started if match), None)
        assert port is not None, "chromedriver did not start"
        flags = [*_FLAGS, f"--user-data-dir={profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium has none for root
        wanted = {
            "alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": flags, "binary": shutil.which("chromium")},
                "goog:loggingPrefs": {"browser": "ALL"},
                "unhandledPromptBehavior": "ignore",
            }
        }
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS, trust_env=False
        ) as client:
            answer = client.post("/session", json={"capabilities": wanted}).json()["value"]
            assert "sessionId" in answer, answer
            path = f"/session/{answer['sessionId']}"
            ends.callback(
                httpx2.delete, f"http://127.0.0.1:{port}{path}", timeout=START_SECONDS, trust_env=False
            )
        yield f"http://127.0.0.1:{port}{path}"


@asynccontextmanager
async def window(session: str) -> AsyncIterator[Browser]:
    """The window of a running Chromium, with nothing in it."""
    async with httpx2.AsyncClient(base_url=f"{session}/", timeout=COMMAND_SECONDS, trust_env=False) as client:
        browser = Browser(client)
        await browser.size(1280, 800)
        await browser.dark(False)
        try:
            yield browser
        finally:
            await browser.open("about:blank")
