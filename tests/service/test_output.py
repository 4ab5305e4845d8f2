"""Standard output while an answer arrives: at the reader's pace, without holding up the loop."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import pytest

from verser2_guest_python.service.output.body_output import Output
from verser2_guest_python.service.output.errors import OutputClosed, OutputError

PIPE_BYTES = 65_536


@pytest.mark.both_loops
async def test_a_slow_reader_holds_up_the_writer_and_not_the_loop() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    data = os.urandom(1_000_000)
    task = asyncio.ensure_future(Output(writing).write(data))
    got = b""
    while len(got) < len(data):
        await asyncio.sleep(0)  # the loop goes round although the pipe is full
        assert task.done() is False or len(data) - len(got) <= PIPE_BYTES
        with suppress(BlockingIOError):
            got += os.read(reading, 50_000)
    await task
    assert got == data
    os.close(reading)
    os.close(writing)


async def test_a_write_that_waits_can_be_given_up() -> None:
    reading, writing = os.pipe()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await Output(writing).write(bytes(1_000_000))
    os.close(reading)
    os.close(writing)


async def test_a_reader_that_has_left_is_told_apart() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OutputClosed):
        await Output(writing).write(b"x")
    os.close(writing)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
async def test_a_full_disk_is_an_error_with_its_reason() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputError, match="No space left on device"):
        await Output(descriptor).write(b"x")
    os.close(descriptor)
