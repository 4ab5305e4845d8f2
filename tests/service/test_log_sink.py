"""Lines through a thread: in order, all of them, and never at the expense of who writes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from verser2_guest_python.service.logs.sink import MAX_WAITING_LINES, QueuedSink


@dataclass
class Pipe:
    """A pipe that a sink writes to, and its other end."""

    sink: QueuedSink
    reader: int
    writer: int

    def read_all(self) -> list[str]:
        """All lines, once the sink is closed; read by another thread, since a pipe holds only so much."""
        os.set_blocking(self.reader, True)
        data = bytearray()

        def read() -> None:
            while piece := os.read(self.reader, 65_536):
                data.extend(piece)

        thread = threading.Thread(target=read)
        thread.start()
        self.sink.flush(30.0)
        self.sink.close()
        os.close(self.writer)
        thread.join()
        return data.decode().splitlines()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    reader, writer = os.pipe()
    with (tmp_path / "stream").open("w", encoding="utf-8") as stream:
        sink = QueuedSink(stream, writer, lambda count: f"dropped {count}")
        yield Pipe(sink, reader, writer)
        sink.close()
    os.close(reader)


def test_lines_come_in_order_and_none_is_missing(pipe: Pipe) -> None:
    for number in range(5_000):
        pipe.sink.write(f"line {number} ä")
    assert pipe.read_all() == [f"line {number} ä" for number in range(5_000)]
    assert pipe.sink.dropped == 0


def test_lines_of_several_threads_are_whole(pipe: Pipe) -> None:
    def write(name: str) -> None:
        for number in range(500):
            pipe.sink.write(f"{name} {number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = pipe.read_all()
    assert len(lines) == 1_500
    for name in "abc":
        assert [line for line in lines if line[0] == name] == [f"{name} {number}" for number in range(500)]


def test_a_reader_that_stands_still_costs_lines_and_no_time(pipe: Pipe) -> None:
    written = MAX_WAITING_LINES + 20_000
    for number in range(written):  # the pipe is full long before; this would never end if anything waited
        pipe.sink.write(f"{number:08d} {'x' * 40}")
    dropped = pipe.sink.dropped
    assert dropped > 0
    lines = pipe.read_all()
    told = [int(line.split()[1]) for line in lines if line.startswith("dropped")]
    numbers = [int(line.split()[0]) for line in lines if not line.startswith("dropped")]
    assert sum(told) == dropped
    assert len(numbers) == written - dropped
    assert numbers == sorted(numbers)


def test_long_lines_take_their_room(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.sink.write("x" * 1_000_000)
    assert pipe.sink.dropped >= 20
    assert {len(line) for line in pipe.read_all() if line.startswith("x")} == {1_000_000}


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    for number in range(5_000):
        pipe.sink.write(f"{number} {'x' * 100}")
    assert len(pipe.read_all()) == 5_000


def test_a_reader_that_is_gone_costs_lines_only(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with (tmp_path / "stream").open("w") as stream:
        sink = QueuedSink(stream, writer, lambda count: f"dropped {count}")
        sink.write("lost")
        sink.flush(30.0)
        sink.close()
    os.close(writer)
    assert sink.dropped >= 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_writes_what_it_says_itself(pipe: Pipe) -> None:
    pipe.sink.write("parent")
    pipe.sink.flush(30.0)
    child = os.fork()
    if child == 0:
        try:
            pipe.sink.write("child")
            pipe.sink.flush(30.0)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert pipe.read_all() == ["parent", "child"]
