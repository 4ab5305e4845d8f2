"""The line of a long transfer: what it says, and that it fits."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verser2_guest_python.service.output.progress import Progress, clock, progress_line

MIB = 1 << 20


def test_it_says_how_much_of_what_how_fast_and_how_long_still() -> None:
    line = progress_line("download", 30 * MIB, 120 * MIB, 10.0 * MIB, 3.0, width=110)
    assert line == f"download  25% {'█' * 10}{'░' * 30}  30.0 MiB of 120.0 MiB  10.0 MiB/s  9 s left"


def test_without_a_length_it_says_for_how_long_already() -> None:
    line = progress_line("download", 30 * MIB, None, 10.0 * MIB, 62.0)
    assert line == "download  30.0 MiB  10.0 MiB/s  1:02"


def test_things_can_be_counted_too() -> None:
    line = progress_line("load", 1500, 6000, 500.0, 3.0, width=40, unit="requests")
    assert line == "load  25%  1,500 of 6,000 requests  500"


def test_a_transfer_that_stands_still_promises_nothing() -> None:
    assert progress_line("x", 1, 2, 0.0, 75.0).endswith("0 B/s  1:15")
    assert progress_line("x", 0, 0, 0.0, 1.0).startswith("x 100%")


@given(
    done=st.integers(0, 10**15),
    total=st.none() | st.integers(0, 10**15),
    rate=st.floats(0, 1e12),
    width=st.integers(1, 300),
)
def test_it_never_wraps(done: int, total: int | None, rate: float, width: int) -> None:
    assert len(progress_line("upload", done, total, rate, 5.0, width=width)) < width


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")]
)
def test_times_are_short(seconds: float, said: str) -> None:
    assert clock(seconds) == said


async def test_no_terminal_no_line() -> None:
    reading, writing = os.pipe()
    with Progress("download", 10, descriptor=writing) as progress:
        progress.add(5)
        await asyncio.sleep(0)
    os.close(writing)
    assert os.read(reading, 100) == b""
    os.close(reading)
