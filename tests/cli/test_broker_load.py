"""`broker get --repeat`: a load run, its figures and its exit codes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import Stage
from tests.cli.processes import fails, run


def test_a_load_run_shows_how_long_requests_took(kit: Stage) -> None:
    result = run("broker", "get", "kit.test/text", "--repeat", "200", "--concurrency", "8", *kit.peer)
    assert (result.returncode, result.stderr) == (0, b"")
    lines = result.stdout.decode().splitlines()
    assert re.fullmatch(
        r"200 requests in [\d.]+ s, 8 at a time: [\d,]+ answers/s, 2\.1 KiB of bodies \([\d.]+ .?i?B/s\)",
        lines[0],
    )
    assert lines[2].split() == ["200", "200"]
    names = [line[:16].strip() for line in lines[6:14]]
    assert names == ["fastest", "mean", "50 %", "75 %", "90 %", "95 %", "99 %", "slowest"]
    buckets = [re.fullmatch(r" *up to ([\d.]+ m?s)  ([ \d,]+?)(?:  (█+))?", line) for line in lines[15:]]
    assert sum(int(bucket[2].strip().replace(",", "")) for bucket in buckets if bucket) == 200
    assert all(buckets)
    assert max(len(bucket[3] or "") for bucket in buckets if bucket) == 40


def test_a_body_is_sent_each_time(kit: Stage, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1_200_000)
    post = ("broker", "post", "--repeat", "3", *kit.peer)
    result = run(*post, "kit.test/form", "-F", f"file=@{tmp_path}/large")
    assert re.match(rb"3 requests in", result.stdout)
    result = run(*post, "kit.test/say", "-d", "x")
    assert b"\n  200                    3\n" in result.stdout


def test_statuses_count_as_failures_if_asked_for(kit: Stage) -> None:
    get = ("broker", "get", "kit.test/status?500", "--repeat", "5", *kit.peer)
    result = run(*get)
    assert (result.returncode, b"  500                    5\n" in result.stdout) == (0, True)
    assert run(*get, "--fail").returncode == 22


def test_errors_are_counted_and_the_first_is_told(kit: Stage, stage: Stage) -> None:
    result = run("broker", "get", "nobody.test/", "--repeat", "7", *kit.peer)
    assert result.returncode == 6
    assert b"  missing-guest          7\n" in result.stdout
    assert b"First error: No Guest serves nobody.test." in result.stdout
    result = run("broker", "get", "a.test/cut", "--repeat", "2", *stage.peer)
    assert result.returncode == 56


def test_when_time_is_up_what_was_measured_is_shown(kit: Stage) -> None:
    arguments = ("kit.test/text", "--repeat", "100000000", "--timeout", "0.5", *kit.peer)
    result = run("broker", "get", *arguments)
    assert result.returncode == 28
    assert b"answers/s" in result.stdout
    assert b"0.5 s" in result.stderr


def test_what_shows_answers_does_not_go_with_it(kit: Stage) -> None:
    get = ("broker", "get", "kit.test/text", "--repeat", "2", *kit.peer)
    for flags in (("-o", "out"), ("-i",), ("-L",), ("--retry", "1"), ("--raw",)):
        fails(2, flags[0], "--repeat", arguments=(*get, *flags))
    fails(2, "--repeat", arguments=("broker", "get", "kit.test/text", "--repeat", "0", *kit.peer))
    fails(2, "ftp://", arguments=("broker", "get", "ftp://kit.test/", "--repeat", "2", *kit.peer))
