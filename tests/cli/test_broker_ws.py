"""`broker ws`: lines out, messages in, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.cli.conftest import Stage
from tests.cli.processes import COMMAND, ROOT, environment, fails, run, start


def talk(kit: Stage, data: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return run("broker", "ws", *arguments, *kit.peer, data=data)


def test_lines_go_out_and_come_back(kit: Stage) -> None:
    result = talk(kit, "one\n\ntwo ü\r\nthree".encode(), "ws://kit.test/echo")
    assert (result.returncode, result.stdout, result.stderr) == (0, "one\n\ntwo ü\nthree\n".encode(), b"")


def test_the_url_may_be_written_in_many_ways(kit: Stage) -> None:
    for url in ("wss://kit.test/echo", "http://kit.test/echo", "kit.test/echo"):
        assert talk(kit, b"x\n", url, "--linger", "0.2").stdout == b"x\n"


def test_bytes_pass_as_they_are(kit: Stage, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    result = talk(kit, data, "kit.test/echo", "--binary")
    assert (result.returncode, result.stdout) == (0, data)


def test_a_subprotocol_is_offered_and_the_choice_told(kit: Stage) -> None:
    result = talk(kit, b"", "kit.test/echo", "--protocol", "chat.v1", "-v", "--linger", "0")
    assert b"* Open with kit, subprotocol chat.v1\n" in result.stderr
    assert b"* Closed with 1000\n" in result.stderr


def test_it_is_ready_while_it_waits_for_input(kit: Stage) -> None:
    """Messages are written as they come, though standard input says nothing."""
    arguments = [*COMMAND, "broker", "ws", "kit.test/greet?3", *map(str, kit.peer)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, **pipes, env=environment(), cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        expected = b"hello 0\nhello 1\nhello 2\n\x00\x01\xff\n"
        assert process.stdout.read(len(expected)) == expected
        process.stdin.close()
        assert process.wait(30) == 0


def test_the_app_may_end_it(kit: Stage) -> None:
    for code in ("1000", "1001"):
        result = talk(kit, b"", f"kit.test/end?{code}:done", "--linger", "20")
        assert (result.returncode, result.stdout, result.stderr) == (0, b"bye\n", b"")
    result = talk(kit, b"", "kit.test/end?4001:no \x1b[31mmore", "--linger", "20")
    assert (result.returncode, result.stdout) == (1, b"bye\n")
    assert b"closed with 4001 (no \\x1b[31mmore)" in result.stderr


def test_what_does_not_open_says_why(kit: Stage) -> None:
    fails(6, "No Guest serves nobody.test", arguments=("broker", "ws", "nobody.test/", *kit.peer))
    fails(6, "0.1 s", arguments=("broker", "ws", "nobody.test/", "--wait", "0.1", *kit.peer))
    fails(1, "not accepted", arguments=("broker", "ws", "kit.test/refuse", *kit.peer))
    fails(2, "ftp://", arguments=("broker", "ws", "ftp://kit.test/", *kit.peer))
    fails(7, arguments=("broker", "ws", "kit.test/", "--host-url", "https://host.invalid"))
    fails(2, "--tls-ca-file", arguments=("broker", "ws", "kit.test/", "-k", *kit.peer))


def test_input_that_is_no_text_is_refused(kit: Stage) -> None:
    result = talk(kit, b"ok\n\xff\n", "kit.test/echo")
    assert result.returncode == 2
    assert b"--binary" in result.stderr
    result = talk(kit, b"x" * 1_200_000, "kit.test/echo")
    assert (result.returncode, b"1 MiB" in result.stderr) == (2, True)


def test_pings_are_answered(kit: Stage) -> None:
    with start(
        "broker", "ws", "--ping", "0.1", "kit.test/echo", "-v", "--linger", "inf", *kit.peer
    ) as socket:
        socket.says("Pong after")
        assert socket.stop(signal.SIGINT) == 130
    with start("broker", "ws", "--ping", "kit.test/echo", "-v", "--linger", "inf", *kit.peer) as socket:
        socket.says("Pong after")
        assert socket.stop() == 143


def test_a_session_that_is_lost_ends_it(kit: Stage) -> None:
    """The app of the Guest that is killed never said goodbye."""
    names = ("--guest-id", "mortal", "--domain", "mortal.test")
    apps = ("answers:app", "--app-dir", ROOT / "tests" / "cli" / "apps")
    with (
        start(*apps, *kit.peer, *names) as guest,
        start(
            "broker", "ws", "mortal.test/echo", "--wait", "20", "-v", "--linger", "inf", *kit.peer
        ) as socket,
    ):
        socket.says("Open with mortal")
        guest.send(signal.SIGKILL)
        assert socket.wait() == 1
        assert any("closed with" in line for line in socket.stderr)


def test_a_closed_pipe_ends_it_quietly(kit: Stage) -> None:
    arguments = " ".join(
        map(str, [*COMMAND, "broker", "ws", "kit.test/greet?500", *kit.peer, "--linger", "5"])
    )
    result = subprocess.run(
        ["sh", "-c", f"{{ {arguments}; echo $? >&2; }} < /dev/null | head -n 1"],
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=30,
    )
    assert (result.stdout, result.stderr) == (b"hello 0\n", b"0\n")
