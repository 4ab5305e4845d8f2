"""`dev` as somebody at work meets it: a FastAPI app behind its URL, changed, broken, mended, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from websockets.sync.client import connect

from tests.cli.devs import APPS, Dev, dev
from tests.cli.processes import WAIT_SECONDS, environment, run

SHOP = (APPS / "shop.py").read_text()


class Shop(Dev):
    """One that serves `shop.py` from a directory of its own, whose source can be changed."""

    source: Path

    def save(self, text: str) -> None:
        self.source.write_text(text)

    def saved(self, text: str, *words: str) -> None:
        """Saves, and waits for the next line of the log that says these words."""
        before = self.process.count(*words)
        self.save(text)
        self.process.says(*words, times=before + 1)


def version(name: str) -> str:
    return SHOP.replace('VERSION = "one"', f'VERSION = "{name}"')


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.py").write_text(SHOP)
    state = {"XDG_STATE_HOME": str(directory / ".state")}
    with dev(state, app="shop:app", directory=directory, cwd=directory) as one:
        shop = Shop(one.process, state)
        shop.source = directory / "shop.py"
        assert shop.get().text == "one"
        yield shop
        assert shop.process.stop(signal.SIGINT) == 0
        assert not [line for line in shop.process.stderr if line.startswith("Traceback")]


# --- What a browser sees --------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "shop.localhost", "SHOP.localhost."])
def test_every_name_of_this_machine_leads_to_the_app(shop: Shop, host: str) -> None:
    assert shop.get(headers={"host": f"{host}:{shop.port}"}).status_code == 200


def test_curl_finds_the_url_as_it_is_printed(shop: Shop) -> None:
    printed = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", f"{shop.url}/things/"], capture_output=True, timeout=WAIT_SECONDS
    )
    assert b'"client":' in printed.stdout, printed.stderr


def test_both_loopback_addresses_are_listened_on(shop: Shop) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    assert httpx2.get(f"http://[::1]:{shop.port}/", timeout=WAIT_SECONDS).status_code == 200


def test_a_foreign_name_does_not(shop: Shop) -> None:
    """Else any web page could reach the app by pointing its own name here."""
    assert shop.get(headers={"host": "evil.example"}).status_code == 404


def test_a_redirect_leads_back_to_the_same_place(shop: Shop) -> None:
    answer = shop.get("/things")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{shop.url}/things/")
    assert shop.get("/things/").json() == {"url": f"{shop.url}/things/", "client": "127.0.0.1"}


def test_documentation_pages_work(shop: Shop) -> None:
    page = shop.get("/docs")
    assert page.status_code == 200
    assert "swagger" in page.text
    assert "/things/" in shop.get("/openapi.json").json()["paths"]


def test_a_websocket_goes_through(shop: Shop) -> None:
    with connect(f"ws://127.0.0.1:{shop.port}/echo", proxy=None) as client:
        client.send("hello")
        assert str(client.recv(WAIT_SECONDS)).endswith(": hello")


def test_the_line_for_a_websocket_works(shop: Shop) -> None:
    command = [*shop.command("broker ws")[:-1], "ws://shop.localhost/echo"]
    result = subprocess.run(
        command, input=b"hello\n", capture_output=True, env=environment(**shop.state), timeout=WAIT_SECONDS
    )
    assert result.stdout.endswith(b": hello\n"), result.stderr


def test_the_inspector_opens_with_its_token_only(shop: Shop) -> None:
    line = shop.printed("/_verser/?token=")
    url = line[line.index("http") :].replace("localhost", "127.0.0.1")
    with httpx2.Client(follow_redirects=True, timeout=WAIT_SECONDS) as browser:
        assert browser.get(url.partition("?")[0]).status_code in (401, 403)
        assert "inspector" in browser.get(url).text


def test_each_request_has_a_line(shop: Shop) -> None:
    shop.get("/pid?seen=1")
    shop.process.says('"request"', '"path":"/pid?seen=1"', '"status":200')
    shop.get("/nothing", headers={"host": "nobody.example"})
    shop.process.says('"request"', '"path":"/nothing"', '"status":404')


# --- Changes --------------------------------------------------------------------------------------


def test_the_next_request_after_a_change_gets_the_new_answer(shop: Shop) -> None:
    before = shop.get("/pid").json()
    shop.saved(version("two"), '"reloading"')
    assert shop.get().text == "two"  # it was held
    assert run("broker", "get", "shop.localhost/", env=shop.state).stdout == b"two"
    assert shop.get("/pid").json() != before
    assert not _lives(before)
    shop.process.says('"reloaded"', '"seconds"')


def test_no_request_is_lost_while_the_app_reloads(shop: Shop) -> None:
    asked = ThreadPoolExecutor(4)
    going = True

    def ask() -> set[tuple[int, str]]:
        seen = set()
        while going:
            for path in ("/", "/slow"):
                answer = shop.get(path)
                seen.add((answer.status_code, answer.text))
        return seen

    futures = [asked.submit(ask) for _ in range(4)]
    try:
        for name in ("three", "four"):
            shop.saved(version(name), '"reloaded"')
    finally:
        going = False
    seen = set().union(*(future.result(WAIT_SECONDS) for future in futures))
    assert seen <= {(200, text) for text in ("two", "one", "three", "four", "begun\ndone\n")}
    assert (200, "four") in seen or shop.get().text == "four"


def test_a_broker_waits_as_well(shop: Shop) -> None:
    shop.saved(version("five"), '"reloading"')
    assert run("broker", "get", "shop.localhost/", env=shop.state).stdout == b"five"


def test_an_endless_answer_holds_a_reload_up_for_a_moment_only(shop: Shop) -> None:
    with (
        httpx2.Client(timeout=WAIT_SECONDS) as client,
        client.stream("GET", f"http://127.0.0.1:{shop.port}/endless", headers={"host": shop.name}) as answer,
    ):
        pieces = answer.iter_bytes()
        assert next(pieces).startswith(b"more")
        shop.saved(version("six"), '"reloaded"')
        assert shop.get().text == "six"
        with pytest.raises(httpx2.RemoteProtocolError):
            for _ in pieces:
                pass


def test_a_broken_app_shows_its_own_error_until_it_is_mended(shop: Shop) -> None:
    shop.saved('def broken(: "<b>"\n', '"waiting for a change of the source"')
    assert "shop.py, line 1" in shop.process.says('"app failed"', "SyntaxError")
    plain = shop.get()
    assert (plain.status_code, plain.headers["cache-control"]) == (503, "no-store")
    assert "SyntaxError" in plain.text
    page = shop.get(headers={"accept": "text/html"}).text
    assert "SyntaxError" in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    told = run("broker", "get", "--fail", "shop.localhost/", env=shop.state)
    assert told.returncode == 22
    with pytest.raises(Exception, match=r"403|503"):
        connect(f"ws://127.0.0.1:{shop.port}/echo", proxy=None)

    shop.saved(version("seven"), '"reloading"')
    assert shop.get().text == "seven"


def test_an_app_that_fails_in_its_startup_is_shown_too(shop: Shop) -> None:
    no_start = "def no(_app):\n    raise RuntimeError('no database')\n\n\napp = FastAPI(lifespan=no)"
    failing = version("eight").replace("app = FastAPI()", no_start)
    shop.saved(failing, '"waiting for a change of the source"')
    assert shop.get().status_code == 503
    shop.saved(version("nine"), '"reloaded"')
    assert shop.get().text == "nine"


def test_a_change_while_an_app_loads_for_ever_ends_that(shop: Shop) -> None:
    shop.saved("import time\ntime.sleep(600)\n", '"reloading"')
    shop.saved(version("ten"), '"reloaded"')
    assert shop.get().text == "ten"


def test_an_app_that_is_killed_comes_back_with_a_change(shop: Shop) -> None:
    shop.saved(version("eleven"), '"reloaded"')
    os.kill(shop.get("/pid").json(), signal.SIGKILL)
    shop.process.says('"app failed"', "137")
    shop.saved(version("twelve"), '"reloaded"')
    assert shop.get().text == "twelve"


# --- The end --------------------------------------------------------------------------------------


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="needs Linux to see the children of a process"
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_no_process_of_the_app_is_left_behind(
    state: dict[str, str], number: signal.Signals, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    with dev(state, app="small:app") as one:
        one.printed("Ctrl-C")
        wait_for(lambda: len(_children(one.process.pid)) == 2)  # the app, and the next one
        children, asked = _children(one.process.pid), None
        if number is signal.SIGKILL:  # not even when its loop is blocked
            asked = ThreadPoolExecutor(1).submit(one.get, "/block")
            one.printed("blocking")
        one.process.send(number)
        one.process.wait()
        wait_for(lambda: not any(_lives(child) for child in children))
    if asked is not None:
        assert asked.exception(WAIT_SECONDS) is not None
