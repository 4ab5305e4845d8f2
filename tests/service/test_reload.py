"""`--reload`: what counts as a change, and an app that is replaced while it serves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.processes import Running, fails, start
from tests.service.conftest import Place, registered
from tests.support.waiting import until
from verser2_guest_python import VerserBroker
from verser2_guest_python.service.process.reload import SourceFilter

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": {text!r}.encode()}})
"""


# --- What counts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "includes", "excludes", "matters"),
    [
        ("app.py", (), (), True),
        ("deep/er/app.py", (), (), True),
        ("page.html", (), (), False),
        ("page.html", ("*.html",), (), True),
        ("app.py", ("*.html",), (), True),
        ("app.pyc", (), (), False),
        (".hidden.py", (), (), False),
        (".venv/lib/module.py", (), (), False),
        ("__pycache__/app.py", (), (), False),
        ("~app.py", (), (), False),
        ("tests/test_app.py", (), ("tests",), False),
        ("app_test.py", (), ("*_test.py",), False),
        (".env", (".env",), (), False),
        (".env", (".env", ".*"), (), True),
    ],
)
def test_what_counts_as_a_change(
    tmp_path: Path, path: str, includes: Sequence[str], excludes: Sequence[str], matters: bool
) -> None:
    source = SourceFilter([tmp_path], includes, excludes)
    assert source.matters(tmp_path / path) is matters


def test_a_pattern_may_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build-tools").mkdir()
    source = SourceFilter([tmp_path], (), [str(tmp_path / "build")])
    assert not source.matters(tmp_path / "build" / "deep" / "app.py")
    assert source.matters(tmp_path / "build-tools" / "app.py")


def test_a_directory_within_another_is_watched_once(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    source = SourceFilter([tmp_path, tmp_path / "src", tmp_path], (), ())
    assert source.directories == (tmp_path.resolve(),)


# --- A Guest that reloads -----------------------------------------------------------------------


def edited(place: Place, directory: Path, *more: str | Path, app: str = "site_app:app") -> Running:
    """A Guest for edited.test whose app lies in `directory`."""
    names = ("--guest-id", "edited", "--domain", "edited.test")
    return start(app, *place.peer, *names, "--app-dir", directory, "--reload", *more, cwd=directory)


async def shows(broker: VerserBroker, text: str) -> bytes:
    """Asks until the app answers so: the old one may still serve for a moment."""
    while True:
        answer = await (await broker.get("http://edited.test/")).read()
        if answer == text.encode():
            return answer
        await asyncio.sleep(0.01)  # or the two of us leave the new one no time to start


async def test_a_change_replaces_the_app_and_a_broken_one_does_not(place: Place, tmp_path: Path) -> None:
    directory = tmp_path / "source"
    directory.mkdir()
    source = directory / "site_app.py"
    source.write_text(APP.format(text="one"))
    (directory / "notes.txt").write_text("a")
    with edited(place, directory) as process:
        await registered(process, "edited")
        async with place.broker() as broker:
            await broker.wait_for_route("edited.test")
            await shows(broker, "one")

            source.write_text(APP.format(text="two"))
            await registered(process, "edited~2")
            assert "site_app.py" in process.says('"source changed"')
            await shows(broker, "two")
            await until(lambda: process.count('"worker ended"', '"edited"', '"exit_code":0') == 1)

            source.write_text("def broken(:")
            await until(lambda: process.count('"worker not replaced"', "SyntaxError", "site_app.py") == 1)
            await until(lambda: process.count('"worker ended"', '"exit_code":78') == 1)
            await shows(broker, "two")

            (directory / "notes.txt").write_text("b")  # no source
            source.write_text(APP.format(text="three"))
            await registered(process, "edited", times=2)
            await shows(broker, "three")
        assert process.count('"source changed"') == 3
        process.send(signal.SIGTERM)
        assert process.wait() == 0


async def test_an_app_that_is_broken_from_the_start_waits_for_its_repair(
    place: Place, tmp_path: Path
) -> None:
    directory = tmp_path / "source"
    directory.mkdir()
    source = directory / "site_app.py"
    source.write_text("import nothing_of_that_name")
    with edited(place, directory) as process:
        await until(lambda: process.count('"worker died"', "nothing_of_that_name") == 1)
        await until(lambda: process.count('"waiting for a change of the source"') == 1)
        source.write_text(APP.format(text="repaired"))
        await registered(process, "edited")
        process.send(signal.SIGINT)
        assert process.wait() == 0


async def test_a_change_gives_up_a_successor_that_does_not_start(place: Place, tmp_path: Path) -> None:
    directory = tmp_path / "source"
    directory.mkdir()
    source = directory / "site_app.py"
    source.write_text(APP.format(text="one"))
    with edited(place, directory) as process:
        await registered(process, "edited")
        source.write_text("import time\ntime.sleep(600)")
        await until(lambda: process.count('"worker started"', '"edited~2"') == 1)
        source.write_text(APP.format(text="two"))
        # As ~2, or ~3 while the one that was given up is not quite gone
        await until(lambda: process.count('"registered"', '"guest_id":"edited~') == 1)
        process.send(signal.SIGTERM)
        assert process.wait() == 0


def test_a_directory_that_is_not_there(place: Place, tmp_path: Path) -> None:
    arguments = place.arguments("edited", "--reload", "--reload-dir", tmp_path / "nowhere")
    fails(78, "nowhere", "cannot be watched", arguments=arguments)
