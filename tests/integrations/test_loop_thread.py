"""A loop in a thread: every call comes back, whatever ends first, and the thread always ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from verser2_guest_python import DisconnectedTargetError, VerserUsageError
from verser2_guest_python.integrations import loop_thread
from verser2_guest_python.integrations.caller_body import CallerBody
from verser2_guest_python.integrations.loop_thread import LoopThread

NAME = "a loop for tests"
END_SECONDS = 10.0


@contextmanager
def loop_in_thread() -> Iterator[LoopThread]:
    thread = LoopThread(NAME)
    try:
        yield thread
    finally:
        thread.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


async def forever(begun: threading.Event, ended: list[str]) -> None:
    begun.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


def test_a_coroutine_runs_in_the_other_thread_and_its_result_comes_back() -> None:
    async def who() -> int:
        return threading.get_ident()

    with loop_in_thread() as thread:
        assert thread.run(who()) not in (0, threading.get_ident())
        assert thread.alive
    assert not thread.alive
    assert threads() == []


def test_what_it_raises_comes_back_too() -> None:
    async def fail() -> None:
        raise LookupError("not there")

    with loop_in_thread() as thread, pytest.raises(LookupError, match="not there"):
        thread.run(fail())


def test_context_variables_of_the_caller_are_seen() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def who() -> str:
        return user.get()

    with loop_in_thread() as thread:
        user.set("alice")
        assert thread.run(who()) == "alice"


def test_many_threads_call_at_a_time() -> None:
    results: list[int] = []

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    with loop_in_thread() as thread:
        callers = [
            threading.Thread(target=lambda number=number: results.append(thread.run(double(number))))
            for number in range(50)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(END_SECONDS)
    assert sorted(results) == list(range(0, 100, 2))


def test_a_loop_that_cannot_be_made_is_told_at_once() -> None:
    def broken() -> asyncio.AbstractEventLoop:
        raise OSError("no more file descriptors")

    with pytest.raises(OSError, match="no more file descriptors"):
        LoopThread(NAME, loop_factory=broken)
    assert threads() == []


def test_waiting_for_itself_is_refused() -> None:
    async def nothing() -> None: ...

    with loop_in_thread() as thread:

        async def wait_for_itself() -> None:
            thread.run(nothing())

        async def end_itself() -> None:
            thread.close()

        with pytest.raises(VerserUsageError, match="must not wait"):
            thread.run(wait_for_itself())
        with pytest.raises(VerserUsageError, match="cannot end itself"):
            thread.run(end_itself())


def test_a_closed_loop_refuses() -> None:
    async def nothing() -> None: ...

    with loop_in_thread() as thread:
        pass
    thread.close()
    with pytest.raises(VerserUsageError, match="closed"):
        thread.run(nothing())


def test_calls_under_way_end_with_the_loop() -> None:
    begun, ended, told = threading.Event(), list[str](), list[BaseException]()

    def call() -> None:
        try:
            thread.run(forever(begun, ended))
        except DisconnectedTargetError as error:
            told.append(error)

    with loop_in_thread() as thread:
        caller = threading.Thread(target=call)
        caller.start()
        assert begun.wait(END_SECONDS)
    caller.join(END_SECONDS)
    assert ended == ["cancelled"]
    assert len(told) == 1


def test_calls_that_come_while_it_ends_all_return() -> None:
    refused: list[BaseException] = []

    async def brief() -> None:
        await asyncio.sleep(0)

    def call_on() -> None:
        try:
            while True:
                thread.run(brief())
        except (DisconnectedTargetError, VerserUsageError) as error:
            refused.append(error)

    for _ in range(10):
        with loop_in_thread() as thread:
            callers = [threading.Thread(target=call_on) for _ in range(4)]
            for caller in callers:
                caller.start()
            thread.run(brief())
        for caller in callers:
            caller.join(END_SECONDS)
            assert not caller.is_alive()
    assert len(refused) == 40


def test_a_task_that_will_not_end_does_not_keep_the_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop_thread, "LAST_SECONDS", 0.1)
    begun, told = threading.Event(), list[BaseException]()

    async def stubborn() -> None:
        begun.set()
        for _ in range(3):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue

    def call() -> None:
        try:
            thread.run(stubborn())
        except DisconnectedTargetError as error:
            told.append(error)

    with loop_in_thread() as thread:
        caller = threading.Thread(target=call)
        caller.start()
        assert begun.wait(END_SECONDS)
    caller.join(END_SECONDS)
    assert len(told) == 1
    assert threads() == []
    told.clear()
    caller = None
    gc.collect()
    assert "Task was destroyed but it is pending" in caplog.text


def test_the_farewell_comes_before_tasks_are_cancelled() -> None:
    order: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    async def farewell() -> None:
        order.append("farewell")

    thread = LoopThread(NAME, farewell=farewell)
    thread.run(begin())
    thread.close()
    assert order == ["farewell", "cancelled"]


def test_a_loop_that_is_blocked_does_not_keep_who_closes_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop_thread, "LAST_SECONDS", 0.05)
    begun, release = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        release.wait(END_SECONDS)

    thread = LoopThread(NAME)
    caller = threading.Thread(target=lambda: thread.run(block()))
    caller.start()
    assert begun.wait(END_SECONDS)
    thread.close()
    assert "something that was called in its loop blocks it" in caplog.text
    release.set()
    caller.join(END_SECONDS)
    for ending in threads():
        ending.join(END_SECONDS)
    assert threads() == []


def test_another_farewell_may_take_its_place() -> None:
    said: list[str] = []

    async def first() -> None:
        said.append("first")

    async def second() -> None:
        said.append("second")

    LoopThread(NAME, farewell=first).close(second)
    assert said == ["second"]


def test_a_farewell_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def farewell() -> None:
        raise RuntimeError("lost for words")

    LoopThread(NAME, farewell=farewell).close()
    assert threads() == []
    assert "lost for words" in caplog.text


def test_generators_that_were_left_are_closed_with_the_loop() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("closed")

    generator = numbers()

    async def first() -> int:
        return await anext(generator)

    with loop_in_thread() as thread:
        assert thread.run(first()) == 1
    assert ended == ["closed"]


def test_one_that_is_forgotten_ends_by_itself() -> None:
    thread = LoopThread(NAME)
    (running,) = threads()
    del thread
    gc.collect()
    running.join(END_SECONDS)
    assert not running.is_alive()


def test_one_that_is_never_closed_says_farewell_when_the_program_ends() -> None:
    program = textwrap.dedent("""
        from verser2_guest_python.integrations.loop_thread import LoopThread

        async def farewell():
            print("farewell", flush=True)

        kept = LoopThread("kept", farewell=farewell)
        print("done", flush=True)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=END_SECONDS, check=True
    )
    assert done.stdout.split() == ["done", "farewell"]
    assert done.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_told_that_there_is_no_thread() -> None:
    program = textwrap.dedent("""
        import os
        from verser2_guest_python import VerserUsageError
        from verser2_guest_python.integrations.loop_thread import LoopThread

        async def answer():
            return 42

        thread = LoopThread("parent")
        child = os.fork()
        if child == 0:
            try:
                thread.run(answer())
            except VerserUsageError as error:
                print(error, flush=True)
            thread.close()
        else:
            os.waitpid(child, 0)
            print(thread.run(answer()), flush=True)
            thread.close()
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=END_SECONDS, check=True
    )
    assert done.stdout.splitlines() == ["'parent' is closed: its thread has ended.", "42"]


@pytest.mark.skipif(os.name == "nt", reason="signals to a thread")
def test_an_interrupt_cancels_the_coroutine_and_waits_for_its_end() -> None:
    begun, ended = threading.Event(), list[str]()
    main = threading.get_ident()

    def interrupt() -> None:
        begun.wait(END_SECONDS)
        signal.pthread_kill(main, signal.SIGINT)

    with loop_in_thread() as thread:
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            thread.run(forever(begun, ended))
        assert ended == ["cancelled"]
        interrupter.join(END_SECONDS)


# --- Bodies that the caller's thread reads ------------------------------------------------------


async def collect(body: CallerBody) -> list[object]:
    return [piece async for piece in body]


def test_pieces_are_fetched_in_the_thread_that_waits() -> None:
    seen: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            seen.append(threading.get_ident())
            yield b"%d" % number

    with loop_in_thread() as thread:
        body = CallerBody(pieces())
        assert thread.run(collect(body), body) == [b"0", b"1", b"2"]
    assert set(seen) == {threading.get_ident()}


def test_a_failing_body_fails_where_it_is_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise LookupError("no second piece")

    with loop_in_thread() as thread:
        body = CallerBody(pieces())
        with pytest.raises(LookupError, match="no second piece"):
            thread.run(collect(body), body)


def test_nothing_is_fetched_while_nobody_waits() -> None:
    fetched: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"one", b"two"):
            fetched.append(piece)
            yield piece

    body = CallerBody(pieces())
    reading: list[asyncio.Task[list[object]]] = []

    async def begin() -> None:
        reading.append(asyncio.create_task(collect(body)))
        await asyncio.sleep(0)

    async def end() -> list[object]:
        return await reading[0]

    with loop_in_thread() as thread:
        thread.run(begin())
        assert fetched == []
        assert thread.run(end(), body) == [b"one", b"two"]


def test_a_closed_body_closes_its_generator() -> None:
    ended: list[str] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        finally:
            ended.append("closed")

    body = CallerBody(pieces())

    async def first() -> object:
        return await anext(body)

    with loop_in_thread() as thread:
        assert thread.run(first(), body) == b"one"
        body.close()
        assert ended == ["closed"]


def test_a_body_that_is_closed_while_it_runs_ends_afterwards() -> None:
    running, go_on, ended = threading.Event(), threading.Event(), list[str]()

    def pieces() -> Iterator[bytes]:
        try:
            running.set()
            go_on.wait(END_SECONDS)
            yield b"one"
        finally:
            ended.append("closed")

    body = CallerBody(pieces())

    async def first() -> object:
        return await anext(body)

    with loop_in_thread() as thread:
        caller = threading.Thread(target=lambda: thread.run(first(), body))
        caller.start()
        assert running.wait(END_SECONDS)
        body.close()
        assert ended == []
        go_on.set()
        caller.join(END_SECONDS)
        assert ended == ["closed"]


@pytest.mark.skipif(os.name == "nt", reason="signals to a thread")
def test_an_interrupt_while_the_body_is_read_is_the_callers() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        signal.raise_signal(signal.SIGINT)
        yield b"two"

    with loop_in_thread() as thread:
        body = CallerBody(pieces())
        with pytest.raises(KeyboardInterrupt):
            thread.run(collect(body), body)


# --- What needs no loop any more ----------------------------------------------------------------


async def at_once() -> str:
    return "here"


def test_what_waits_for_nothing_is_done_after_the_end_where_that_is_asked_for() -> None:
    with loop_in_thread() as thread:
        pass
    assert thread.run(at_once(), settled=lambda: True) == "here"
    with pytest.raises(VerserUsageError, match="closed"):
        thread.run(at_once(), settled=lambda: False)
    with pytest.raises(DisconnectedTargetError, match="cannot come"):
        thread.run(asyncio.sleep(0), settled=lambda: True)


def test_what_was_taken_just_before_the_end_is_done_if_it_waits_for_nothing() -> None:
    taken = threading.Event()

    class TellingLoop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:
            handle = super().call_soon_threadsafe(*args, **options)
            taken.set()
            return handle

    results: SimpleQueue[str] = SimpleQueue()

    async def farewell() -> None:
        """Blocks the loop until the call has been taken, so that nothing of it is done before the end."""
        taken.clear()
        caller.start()
        taken.wait(END_SECONDS)

    thread = LoopThread(NAME, loop_factory=TellingLoop, farewell=farewell)
    caller = threading.Thread(target=lambda: results.put(thread.run(at_once())))
    thread.close()
    assert results.get(timeout=END_SECONDS) == "here"
    caller.join(END_SECONDS)
