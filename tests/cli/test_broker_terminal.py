"""`broker` on a terminal: colours and indents for eyes, a bar for long transfers, a table in place."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from tests.cli.conftest import APPS, Stage
from tests.cli.processes import start
from tests.cli.terminals import AtTerminal


def at_terminal(kit: Stage, *arguments: str | Path) -> AtTerminal:
    return AtTerminal("broker", *arguments, *kit.peer)


def test_json_is_indented_and_coloured(kit: Stage) -> None:
    with at_terminal(kit, "get", "kit.test/json") as terminal:
        assert terminal.wait() == 0
    assert terminal.plain == '{\n  "name": "café",\n  "list": [\n    1,\n    2.50\n  ],\n  "none": null\n}\n'
    assert '\x1b[34;1m"name"\x1b[0m: \x1b[32m"café"\x1b[0m' in terminal.text
    with AtTerminal("broker", "get", "kit.test/json", *kit.peer, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
    assert terminal.text == terminal.plain.replace("\n", "\r\n")
    with at_terminal(kit, "get", "kit.test/json", "--raw") as terminal:
        assert terminal.wait() == 0
    assert terminal.plain == '{"name":"café","list":[1,2.50],"none":null}'


def test_a_pipe_gets_the_bytes_though_errors_go_to_a_terminal(kit: Stage) -> None:
    reading, writing = os.pipe()
    with AtTerminal("broker", "get", "kit.test/json", *kit.peer, stdout=writing) as terminal:
        os.close(writing)
        assert terminal.wait() == 0
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b'{"name":"caf\xc3\xa9","list":[1,2.50],"none":null}'
    assert terminal.text == ""


def test_text_ends_its_last_line_and_the_head_has_colours(kit: Stage) -> None:
    with at_terminal(kit, "get", "-i", "kit.test/text") as terminal:
        assert terminal.wait() == 0
    assert terminal.plain.startswith("HTTP/1.1 200 OK\n")
    assert terminal.plain.endswith("\n\nno line end\n")
    assert "\x1b[32mHTTP/1.1 200 OK\x1b[0m" in terminal.text


def test_bytes_are_kept_from_a_terminal(kit: Stage) -> None:
    with at_terminal(kit, "get", "kit.test/binary") as terminal:
        assert terminal.wait() == 23
    assert "-o FILE" in terminal.plain
    assert "\0" not in terminal.text
    with at_terminal(kit, "get", "kit.test/binary", "-o", "-") as terminal:
        assert terminal.wait() == 0
    assert "\0" in terminal.text


def test_a_password_is_asked_for_and_not_shown(kit: Stage) -> None:
    with at_terminal(kit, "get", "kit.test/say", "-u", "me") as terminal:
        terminal.shows("Password of me")
        terminal.types("sésame\n")
        assert terminal.wait() == 0
    assert "sésame" not in terminal.text
    assert "Basic bWU6c8Opc2FtZQ==" in terminal.plain


# --- Long transfers -----------------------------------------------------------------------------


def test_a_long_download_shows_how_it_goes(kit: Stage, tmp_path: Path) -> None:
    with at_terminal(kit, "get", "kit.test/drip?15000000", "-o", tmp_path / "out") as terminal:
        assert terminal.wait() == 0
    assert (tmp_path / "out").stat().st_size == 15_000_000
    lines = terminal.plain.split("\r")
    assert re.fullmatch(
        r"download +\d+% [█░]+  [\d.]+ .?i?B of 14\.3 MiB  [\d.]+ .?i?B/s  \d+ s( left)?", lines[1]
    )
    assert re.fullmatch(r"download 100% █+  14\.3 MiB of 14\.3 MiB  [\d.]+ MiB/s  \d s\n", lines[-1])


def test_a_bar_is_not_shown_where_it_would_be_in_the_way(kit: Stage, tmp_path: Path) -> None:
    """Not for what is short, or silent, or goes to the same terminal, or where nothing can be drawn over."""
    slow, out = "kit.test/drip?15000", ("-o", tmp_path / "out")
    with (
        at_terminal(kit, "get", "kit.test/text", *out) as short,
        at_terminal(kit, "get", slow, "-s", *out) as silent,
        at_terminal(kit, "get", "kit.test/drip?15", "-o", "-") as same,
        AtTerminal("broker", "get", slow, *out, *kit.peer, env={"TERM": "dumb"}) as dumb,
    ):
        assert [terminal.wait() for terminal in (short, silent, same, dumb)] == [0, 0, 0, 0]
        assert [terminal.text for terminal in (short, silent, same, dumb)] == ["", "", "\0" * 15, ""]


def test_a_long_upload_shows_how_it_goes(kit: Stage, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(6_000_000)
    with at_terminal(kit, "post", "kit.test/gulp", "-d", f"@{tmp_path}/large") as terminal:
        assert terminal.wait() == 0
    assert re.search(r"\rupload +\d+% [█░]+  [\d.]+ .?i?B of 5\.7 MiB", terminal.plain)
    assert terminal.plain.endswith("\n6000000\n")


# --- A load run, routes, WebSockets ---------------------------------------------------------------


def test_a_load_run_that_is_interrupted_tells_what_was_measured(kit: Stage) -> None:
    arguments = ("get", "kit.test/text", "--repeat", "1000000", "--concurrency", "4")
    with at_terminal(kit, *arguments) as terminal:
        terminal.shows("of 1,000,000 requests")
        terminal.send(signal.SIGINT)
        assert terminal.wait() == 130
    assert re.search(r"requests in [\d.]+ s, 4 at a time", terminal.plain)
    assert "Latency" in terminal.plain


def test_routes_are_watched_in_place(kit: Stage) -> None:
    with at_terminal(kit, "routes", "--watch") as terminal:
        terminal.shows("kit.test")
        names = ("--guest-id", "passing", "--domain", "passing.test")
        with start("small:app", "--app-dir", APPS, *kit.peer, *names) as guest:
            guest.says("registered")
            terminal.shows("passing.test")
            guest.stop()
        terminal.shows("Ctrl-C ends", times=3)
        terminal.send(signal.SIGINT)
        assert terminal.wait() == 130
    frames = re.split(r"(?:\x1b\[\d+A)?\r\x1b\[J", terminal.text)[1:]
    moves = [int(up) for up in re.findall(r"\x1b\[(\d+)A", terminal.text)]
    assert moves == [frame.count("\n") for frame in frames[: len(moves)]]
    assert "passing.test" not in frames[-1]
    assert re.search(r"kit\.test +kit +active +\d\d:\d\d:\d\d \(\d+ s\)", frames[-1])


def test_a_small_terminal_gets_as_many_routes_as_it_has_lines_for(kit: Stage) -> None:
    with AtTerminal("broker", "routes", "--watch", *kit.peer, lines=4) as terminal:
        terminal.shows("more")
        terminal.send(signal.SIGTERM)
        assert terminal.wait() == 143
    assert re.search(r"DOMAIN.*\n… and \d+ more\nhttps://", terminal.plain)


def test_one_types_into_a_websocket_and_sees_what_comes(kit: Stage) -> None:
    with at_terminal(kit, "ws", "kit.test/echo") as terminal:
        terminal.shows("Ctrl-D closes")
        terminal.types("hello\n")
        terminal.shows("< hello")
        terminal.types("\x1b]0;evil\x07\n")
        terminal.shows("< \\x1b]0;evil\\x07")
        terminal.types("\x04")
        assert terminal.wait() == 0


def test_bytes_of_a_websocket_are_shown_as_such(kit: Stage) -> None:
    with at_terminal(kit, "ws", "kit.test/greet") as terminal:
        terminal.shows("< hello 0")
        terminal.shows("< 3 bytes: 00 01 ff")
        terminal.send(signal.SIGINT)
        assert terminal.wait() == 130
