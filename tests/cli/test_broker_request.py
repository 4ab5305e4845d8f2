"""What `broker` commands send and how the answer comes out, option by option."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import APPS, Stage
from tests.cli.processes import COMMAND, ROOT, environment, fails, run, start

Said = dict[str, Any]


def get(kit: Stage, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return run("broker", "get", *arguments, *kit.peer, **options)


def said(kit: Stage, *arguments: str | Path, **options: Any) -> Said:
    """What the app was asked for by `broker …`."""
    result = run("broker", *arguments, *kit.peer, **options)
    assert result.returncode == 0, result.stderr
    seen: Said = json.loads(result.stdout)
    return seen


def piped(data: bytes, *arguments: str | Path) -> bytes:
    """What a command writes that reads `data` from a pipe."""
    result = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=data,
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- What is sent -------------------------------------------------------------------------------


def test_any_method_by_its_name_or_as_a_word(kit: Stage) -> None:
    assert said(kit, "request", "REPORT", "kit.test/say")["method"] == "REPORT"
    assert said(kit, "request", "put", "kit.test/say", "-d", "x")["method"] == "PUT"
    assert said(kit, "DELETE", "kit.test/say")["method"] == "DELETE"


def test_headers_of_ours_give_way_to_those_given(kit: Stage) -> None:
    plain = said(kit, "get", "kit.test/say")
    assert plain["headers"] == {"host": "kit.test", "accept": "*/*", "user-agent": "verser2-guest"}
    given = (
        "-H",
        "Accept: text/x",
        "-H",
        "user-agent:",
        "-H",
        "x-empty:",
        "-H",
        "x-two: 1",
        "-H",
        "X-Two: 2",
    )
    assert said(kit, "get", "kit.test/say", *given)["headers"] == {
        "host": "kit.test",
        "accept": "text/x",
        "x-empty": "",
        "x-two": "1,2",
    }


def test_headers_beyond_ascii_go_out_as_utf_8(kit: Stage) -> None:
    result = run("broker", "get", "kit.test/say", "-v", "-H", "x-name: café €", *kit.peer)
    headers = json.loads(result.stdout)["headers"]
    assert headers["x-name"].encode("latin-1").decode() == "café €"
    assert "> x-name: café €" in result.stderr.decode().splitlines()


def test_data_is_joined_as_a_form_has_it(kit: Stage, tmp_path: Path) -> None:
    (tmp_path / "two").write_text("b=2")
    seen = said(kit, "post", "kit.test/say", "-d", "a=1", "-d", f"@{tmp_path}/two", "-d", "@-", data=b"c=3")
    assert seen["body"] == "a=1&b=2&c=3"
    assert seen["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert seen["headers"]["content-length"] == "11"


def test_json_says_that_it_is_json(kit: Stage, tmp_path: Path) -> None:
    seen = said(kit, "post", "kit.test/say", "--json", '{"a": [1, "ü"]}')
    assert json.loads(seen["body"]) == {"a": [1, "ü"]}
    assert seen["headers"]["content-type"] == seen["headers"]["accept"] == "application/json"
    (tmp_path / "value.json").write_text("[1]")
    assert said(kit, "put", "kit.test/say", "--json", f"@{tmp_path}/value.json")["body"] == "[1]"


def test_what_is_no_body_is_refused(kit: Stage) -> None:
    post = ("broker", "post", "kit.test/say")
    fails(2, "--json", "not JSON", arguments=(*post, "--json", "{a: 1}", *kit.peer))
    fails(2, "Only one", arguments=(*post, "-d", "a", "--json", "1", *kit.peer))
    fails(2, "name=value", arguments=(*post, "-F", "nothing", *kit.peer))
    fails(78, "no-file", arguments=(*post, "-F", "a=@no-file", *kit.peer))
    fails(78, "no-file", arguments=(*post, "--json", "@no-file", *kit.peer))


def test_a_form_has_fields_and_files(kit: Stage, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text")
    (tmp_path / "data").write_bytes(bytes(range(256)))
    fields = ("a=one", 'b"=<' + str(tmp_path / "text.txt"), f"c=@{tmp_path}/text.txt")
    more = (f'd=@{tmp_path}/data;type=image/x;filename=a"b.png', "e=@-", "f=<x>;type=text/html")
    form = [word for field in (*fields, *more[:2]) for word in ("-F", field)]
    seen = said(kit, "post", "kit.test/form", *form, data=b"piped")
    assert int(seen["declared"]) == seen["got"]
    first, second, third, fourth, fifth = seen["fields"]
    assert first == {"name": "a", "file": None, "type": None, "size": 3, "text": "one"}
    assert (second["name"], second["file"], second["text"]) == ("b%22", None, "some text")
    assert (third["file"], third["type"], third["text"]) == ("text.txt", "text/plain", "some text")
    assert (fourth["file"], fourth["type"], fourth["size"]) == ("a%22b.png", "image/x", 256)
    assert (fifth["file"], fifth["type"], fifth["text"]) == ("-", "application/octet-stream", "piped")


def test_a_large_form_goes_out_in_pieces(kit: Stage, tmp_path: Path) -> None:
    """Files that are larger than what is held, with a length all the same; a pipe has none."""
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(5_000_000)
    seen = said(kit, "put", "kit.test/form", "-F", "a=1", "-F", f"file=@{tmp_path}/large.bin")
    assert [field["size"] for field in seen["fields"]] == [1, 5_000_000]
    assert int(seen["declared"]) == seen["got"]
    put = ("broker", "put", "kit.test/form", "-F", "file=@-;filename=x", *kit.peer)
    seen = json.loads(piped(bytes(3_000_000), *put))
    assert (seen["declared"], seen["fields"][0]["size"]) == ("", 3_000_000)


def test_a_large_body_comes_from_file_and_standard_input(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(3_000_000)
    assert run("broker", "post", "a.test/sink", "-d", f"@{path}", *stage.peer).stdout == b"3000000"
    post = ("broker", "post", "-d", "@-", *stage.peer)
    assert piped(bytes(3_000_001), *post, "a.test/sink") == b"3000001"
    assert json.loads(piped(b"small", *post, "a.test/headers"))["content-length"] == "5"
    with path.open("rb") as file:  # `< large` has a length, though it is not read at once
        result = run(*post, "a.test/headers", data=file.read())
    assert json.loads(result.stdout)["content-length"] == "3000000"


def test_credentials_are_basic_ones(kit: Stage) -> None:
    seen = said(kit, "get", "kit.test/say", "-u", "me:sésame")
    assert seen["headers"]["authorization"] == "Basic bWU6c8Opc2FtZQ=="
    seen = said(kit, "get", "http://me:s%C3%A9same@kit.test/say?a@b")
    assert (seen["headers"]["authorization"], seen["query"]) == ("Basic bWU6c8Opc2FtZQ==", "a@b")
    assert said(kit, "get", "http://me@kit.test/say")["headers"]["authorization"] == "Basic bWU6"
    fails(2, "user:password", arguments=("broker", "get", "kit.test/say", "-u", "me", *kit.peer))


def test_the_route_may_be_another_than_the_urls(kit: Stage) -> None:
    seen = said(kit, "get", "http://public.example/say?x", "--route-domain", "kit.test")
    assert seen["query"] == "x"


def test_curls_words_for_other_things_are_explained(kit: Stage) -> None:
    fails(2, "broker request POST URL", arguments=("broker", "get", "kit.test/", "-X", "POST", *kit.peer))
    fails(2, "broker get http://kit.test/", arguments=("broker", "http://kit.test/"))
    fails(2, "-I", arguments=("broker", "post", "-I", "kit.test/", *kit.peer))
    fails(2, "--repeat", arguments=("broker", "get", "--concurrency", "2", "kit.test/", *kit.peer))


def test_a_mistake_is_told_before_anything_is_connected() -> None:
    nowhere = ("--host-url", "https://host.invalid")
    fails(2, "ftp://", arguments=("broker", "get", "ftp://kit.test/", *nowhere))
    fails(2, "names no domain", arguments=("broker", "get", "/path", *nowhere))


# --- What comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip,deflate"])
def test_a_coded_body_is_decoded(kit: Stage, encoding: str) -> None:
    result = get(kit, f"kit.test/encoded?{encoding}")
    assert (result.stdout, result.stderr) == (b"a line, and another one\n" * 100, b"")


def test_raw_leaves_it_as_it_came(kit: Stage) -> None:
    result = get(kit, "kit.test/encoded?gzip", "--raw")
    assert result.stdout[:2] == b"\x1f\x8b"
    asked = said(kit, "get", "kit.test/say", "--compressed")["headers"]["accept-encoding"]
    assert asked.startswith("gzip, deflate")


def test_an_encoding_that_is_unknown_is_told_and_left(kit: Stage) -> None:
    result = get(kit, "kit.test/encoded?quark")
    assert (result.returncode, len(result.stdout)) == (0, 2400)
    assert b"'quark'" in result.stderr


def test_a_body_that_is_not_what_it_says(kit: Stage) -> None:
    result = get(kit, "kit.test/torn")
    assert result.returncode == 56
    assert b"too early" in result.stderr
    assert get(kit, "kit.test/torn", "--raw").returncode == 0


def test_json_is_left_as_it_is_in_a_pipe(kit: Stage) -> None:
    assert get(kit, "kit.test/json").stdout == b'{"name":"caf\xc3\xa9","list":[1,2.50],"none":null}'
    assert get(kit, "kit.test/text").stdout == b"no line end"
    assert get(kit, "kit.test/binary").stdout == bytes(range(256))


def test_the_answer_goes_to_a_file(kit: Stage, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("what was there before, and is longer than what comes")
    result = get(kit, "kit.test/text", "-o", path)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert path.read_bytes() == b"no line end"
    assert get(kit, "kit.test/text", "-i", "-o", path).returncode == 0
    assert path.read_bytes().startswith(b"HTTP/1.1 200 OK\r\n")
    assert get(kit, "kit.test/text", "-o", "-").stdout == b"no line end"


def test_a_file_is_left_alone_when_there_is_no_answer(kit: Stage, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    fails(6, arguments=("broker", "get", "nobody.test/", "-o", path, *kit.peer))
    assert path.read_text() == "precious"
    fails(23, "Is a directory", arguments=("broker", "get", "kit.test/text", "-o", tmp_path, *kit.peer))


def test_the_head_alone(kit: Stage) -> None:
    result = get(kit, "-I", "kit.test/text")
    assert result.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    assert result.stdout.endswith(b"\r\n\r\n")
    assert '"method":"HEAD"' in kit.guest.says('"HEAD"')


# --- How it ends --------------------------------------------------------------------------------


def test_fail_ends_with_22_and_without_the_body(kit: Stage) -> None:
    for status in ("404", "500"):
        result = get(kit, f"kit.test/status?{status}", "--fail")
        assert (result.returncode, result.stdout) == (22, b"")
        assert f"answered {status}".encode() in result.stderr
    result = get(kit, "kit.test/status?404", "--fail-with-body")
    assert (result.returncode, result.stdout) == (22, b"so it is\n")
    assert get(kit, "kit.test/status?399", "-f").returncode == 0


def test_silence_leaves_the_exit_code_alone(kit: Stage) -> None:
    result = get(kit, "-s", "nobody.test/")
    assert (result.returncode, result.stdout, result.stderr) == (6, b"", b"")
    result = get(kit, "-sf", "kit.test/status?404")
    assert (result.returncode, result.stdout, result.stderr) == (22, b"", b"")
    result = get(kit, "-sS", "nobody.test/")
    assert (result.returncode, result.stderr.count(b"\n")) == (6, 1)
    assert get(kit, "-s", "kit.test/text", "-o", "/nowhere/out").returncode == 23


def test_waiting_for_a_route(kit: Stage) -> None:
    said_so = fails(
        6, "within 0.3 s", "kit.test", arguments=("broker", "get", "late.test/", "--wait", "0.3", *kit.peer)
    )
    assert said_so.count("\n") == 1
    with start("broker", "get", "late.test/", "--wait", "20", "-v", *kit.peer) as waiting:
        waiting.says("Routes:")
        names = ("--guest-id", "late", "--domain", "late.test")
        with start("small:app", "--app-dir", APPS, *kit.peer, *names):
            assert waiting.wait() == 0
        assert waiting.stdout == ["small"]


# --- Again, and elsewhere -----------------------------------------------------------------------


def test_what_passes_is_tried_again(kit: Stage) -> None:
    result = get(kit, "kit.test/flaky?one:2:503", "--retry", "2")
    assert (result.returncode, result.stdout) == (0, b"GET 3 ")
    notes = result.stderr.decode().splitlines()
    assert len(notes) == 2
    assert "503" in notes[0]
    assert "(1 of 2)" in notes[0]
    assert "(2 of 2)" in notes[1]
    result = get(kit, "kit.test/flaky?two:5:500", "--retry", "1", "--fail")
    assert result.returncode == 22


def test_what_may_have_been_done_is_not_done_twice(kit: Stage) -> None:
    post = ("broker", "post", "-d", "x")
    result = run(*post, "kit.test/flaky?three:1:500", "--retry", "3", *kit.peer)
    assert (result.stdout, result.stderr) == (b"not yet\n", b"")
    result = run(*post, "kit.test/flaky?four:1:429", "--retry", "3", *kit.peer)
    assert result.stdout == b"POST 2 x"
    result = run("broker", "put", "-d", "x", "kit.test/flaky?five:1:502", "-s", "--retry", "3", *kit.peer)
    assert (result.stdout, result.stderr) == (b"PUT 2 x", b"")


def test_a_host_that_cannot_be_reached_is_tried_again() -> None:
    arguments = ("broker", "get", "a.test/", "--host-url", "https://host.invalid", "--retry", "1")
    assert "(1 of 1)" in fails(7, "host.invalid", arguments=arguments)


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "post", ("GET", "")),
        (302, "put", ("PUT", "x")),
        (303, "put", ("GET", "")),
        (307, "post", ("POST", "x")),
        (308, "post", ("POST", "x")),
    ],
)
def test_redirects_are_followed_if_asked_for(
    kit: Stage, status: int, method: str, expected: tuple[str, str]
) -> None:
    seen = said(kit, method, f"kit.test/go?{status}:/say?there", "-L", "-d", "x")
    assert ((seen["method"], seen["body"]), seen["query"]) == (expected, "there")
    assert ("content-type" in seen["headers"]) == bool(expected[1])


def test_a_redirect_is_an_answer_unless_it_is_to_be_followed(kit: Stage) -> None:
    assert get(kit, "kit.test/go?308:/say").stdout == b"elsewhere\n"
    result = get(kit, "-L", "kit.test/go?308:http://elsewhere.example/")
    assert (result.returncode, result.stdout) == (0, b"elsewhere\n")
    assert b"not followed" in result.stderr


def test_another_domain_learns_no_secrets(kit: Stage) -> None:
    secrets = ("-u", "me:secret", "-H", "cookie: a=b", "-H", "x-plain: yes")
    seen = said(kit, "get", "-L", "kit.test/go?302:http://two.test/say", *secrets)["headers"]
    assert (seen["host"], seen["x-plain"]) == ("two.test", "yes")
    assert "cookie" not in seen
    assert "authorization" not in seen
    seen = said(kit, "get", "-L", "kit.test/go?302:http://KIT.test/say", *secrets)["headers"]
    assert seen["cookie"] == "a=b"


def test_redirects_have_an_end_and_each_head_is_shown(kit: Stage) -> None:
    fails(1, "10 redirects", arguments=("broker", "get", "-L", "kit.test/loop", *kit.peer))
    shown = get(kit, "-Li", "kit.test/go?302:/text").stdout
    assert re.findall(rb"HTTP/1.1 (\d+)", shown) == [b"302", b"200"]
    assert b"elsewhere" not in shown


# --- -v -----------------------------------------------------------------------------------------


def test_verbose_tells_what_goes_and_comes_and_how_long_it_takes(kit: Stage) -> None:
    result = run("broker", "post", "-v", "kit.test/say?page=1", "-d", "abc", "-H", "X-One: 1", *kit.peer)
    assert json.loads(result.stdout)["body"] == "abc"
    lines = result.stderr.decode().splitlines()
    patterns = [
        rf"\* Connecting to https://localhost:{kit.port} as broker-[0-9a-f]{{8}}",
        r"\* Connected in \d+\.\d ms, registered in \d+\.\d ms",
        r"\* Routes: a\.test, .*kit\.test.*",
        r"> POST /say\?page=1",
        r"> host: kit\.test",
        r"> accept: \*/\*",
        r"> user-agent: verser2-guest",
        r"> content-type: application/x-www-form-urlencoded",
        r"> x-one: 1",
        r"> content-length: 3",
        r">",
        r"\* Answered by kit in [\d.]+ m?s, waiting for a lease included \(request broker-[0-9a-f]+-1\)",
        r"< 200 OK",
        r"< content-type: application/json",
        r"< content-length: \d+",
        r"< date: .+ GMT",
        r"<",
        r"\* Body of \d+ B in [\d.]+ m?s; [\d.]+ m?s in all",
    ]
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_verbose_tells_no_secret(kit: Stage, stage: Stage) -> None:
    secrets = (
        "-u",
        "me:hush-1",
        "-H",
        "Cookie: id=hush-2",
        "-H",
        "X-Api-Key: hush-3",
        "-H",
        "x-auth-token: hush-4",
    )
    url = "kit.test/say?access_token=hush-5&q=seen&sig=hush-6"
    result = get(kit, "-v", url, *secrets, "-H", "Authorization: Bearer hush-7")
    told = result.stderr.decode()
    assert "hush" not in told
    assert "> authorization: Bearer ***" in told
    assert "> cookie: ***" in told
    assert "> GET /say?access_token=***&q=seen&sig=***" in told
    told = run("broker", "get", "-v", "a.test/cookies", *stage.peer).stderr.decode()
    assert "< set-cookie: a=***; Path=/" in told


# --- The output, live -----------------------------------------------------------------------------


def test_a_body_is_sent_while_it_is_read(stage: Stage) -> None:
    """More than is held of a pipe goes out, and comes back, before the pipe ends."""
    arguments = [*COMMAND, "broker", "post", "a.test/echo", "-d", "@-", *map(str, stage.peer)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, **pipes, env=environment(), cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=process.stdin.write, args=(b"x" * 2_000_000,))
        feeder.start()
        assert process.stdout.read(1_900_000) == b"x" * 1_900_000
        feeder.join(30)
        process.stdin.close()
        assert process.stdout.read() == b"x" * 100_000
        assert process.wait(30) == 0


def test_a_pipe_that_says_nothing_can_be_given_up(stage: Stage) -> None:
    reading, writing = os.pipe()
    arguments = [*COMMAND, "broker", "post", "a.test/echo", "-v", "-d", "@-", *map(str, stage.peer)]
    process = subprocess.Popen(arguments, stdin=reading, stderr=subprocess.PIPE, env=environment(), cwd=ROOT)
    os.close(reading)
    os.write(writing, b"x" * 60_000)
    feeder = threading.Thread(target=os.write, args=(writing, b"x" * 1_000_000))
    feeder.start()
    assert process.stderr is not None
    while b"> POST" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stderr.close()
    feeder.join(30)
    os.close(writing)


def test_a_pipe_that_is_read_at_first_can_be_given_up_too(stage: Stage) -> None:
    reading, writing = os.pipe()
    arguments = [*COMMAND, "broker", "post", "a.test/echo", "-d", "@-", *map(str, stage.peer)]
    process = subprocess.Popen(arguments, stdin=reading, stderr=subprocess.PIPE, env=environment(), cwd=ROOT)
    os.write(writing, b"a line")
    while struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, bytes(4))) != (0,):
        assert process.poll() is None  # it has not read the line yet
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1].strip() == b""
    assert process.returncode == 130
    os.close(reading)
    os.close(writing)


def in_shell(command: str, kit: Stage) -> subprocess.CompletedProcess[bytes]:
    """Runs a command written for sh, in which $BROKER is the program and $PEER what leads to the Host."""
    env = environment(BROKER=" ".join([*COMMAND, "broker"]), PEER=" ".join(map(str, kit.peer)))
    return subprocess.run(["sh", "-c", command], capture_output=True, env=env, cwd=ROOT, timeout=30)


def test_what_is_closed_is_left_alone(kit: Stage) -> None:
    """The numbers of closed descriptors go to sockets of ours: nothing may be said there, or read."""
    result = in_shell("$BROKER get -v kit.test/text $PEER 2>&- <&-", kit)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"no line end", b"")
    result = in_shell("$BROKER post kit.test/say -d @- $PEER <&-", kit)
    assert (result.returncode, b"it is closed" in result.stderr) == (78, True)
    result = in_shell("$BROKER ws kit.test/end?1000: $PEER --linger 20 <&-", kit)
    assert (result.returncode, result.stdout) == (0, b"bye\n")
    assert in_shell("$BROKER routes $PEER >&-", kit).returncode == 23


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(kit: Stage) -> None:
    fails(23, "No space left", arguments=("broker", "get", "kit.test/text", "-o", "/dev/full", *kit.peer))
    for command in ("routes", "get kit.test/text --repeat 2", "ws kit.test/greet"):
        result = in_shell(f"$BROKER {command} $PEER > /dev/full", kit)
        assert (result.returncode, b"No space left" in result.stderr) == (23, True), command


def test_it_starts_without_what_it_does_not_need() -> None:
    """`--help` loads neither the event loop nor HTTP/2, a request neither the settings model nor the log."""
    code = (
        "import sys; from verser2_guest_python.cli.main import run; run(sys.argv[1:]); "
        "names = ('asyncio', 'h2', 'jh2', 'pydantic', 'structlog', 'cryptography'); "
        "print([name for name in names if name in sys.modules])"
    )

    def loaded(*arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=30
        )
        return result.stdout.splitlines()[-1]

    assert loaded("broker", "get", "--help") == "[]"
    assert loaded("broker", "--help") == "[]"
    request = loaded("broker", "get", "a.test/", "--host-url", "https://host.invalid")
    assert request in ("['asyncio', 'h2']", "['asyncio', 'jh2']")  # whichever engine is installed
