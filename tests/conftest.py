"""How tests run here: `async def` tests on a fresh loop, held to leave nothing behind.

A test fails as well when one of its tasks is left running, when the loop's exception handler was called
(an exception that nobody took), when a coroutine was never awaited or a transport never closed, and when
it takes longer than its limit; then the stacks of all its tasks are shown.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.node_peers import why_no_peers

pytest_plugins = ["pytester"]

LIMIT_SECONDS = 60.0
CANCEL_SECONDS = 5.0
# Turns of the loop in which what a test has ended may finish
LAST_TURNS = 5
ENGINE_VARIABLE = "VERSER_HTTP2_ENGINE"
PROXY_VARIABLES = ("https_proxy", "all_proxy", "no_proxy")
LOOP_ARGUMENT = "event_loop_name"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["asyncio", "uvloop"],
        default="asyncio",
        help="the event loop of async tests that are not marked both_loops",
    )


def pytest_configure(config: pytest.Config) -> None:
    # What the user's shell says is no concern of the tests.
    for name in list(os.environ):
        ours = name.startswith("VERSER_") and name != ENGINE_VARIABLE
        if ours or name == "WEB_CONCURRENCY" or name.lower() in PROXY_VARIABLES:
            del os.environ[name]
    # What starts from here keeps nothing that it compiled: tests write a source twice within a second, with
    # as many bytes, and what was kept of the first would be taken for the second.
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    # A shell that starts them in the background has SIGINT ignored, here and in all that starts from here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    # All that is there before the tests will stay: collecting after each test then takes no time.
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_loops") is not None:
        if LOOP_ARGUMENT not in metafunc.fixturenames:
            metafunc.fixturenames.append(LOOP_ARGUMENT)
        metafunc.parametrize(LOOP_ARGUMENT, ["asyncio", "uvloop"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("interop") is not None and (reason := why_no_peers()) is not None:
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    __tracebackhide__ = True
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}
    callspec = getattr(pyfuncitem, "callspec", None)
    loop_name = (callspec.params if callspec else {}).get(
        LOOP_ARGUMENT, pyfuncitem.config.getoption("--loop")
    )
    marker = pyfuncitem.get_closest_marker("limit")
    _run(pyfuncitem.obj(**arguments), loop_name, marker.args[0] if marker else LIMIT_SECONDS)
    return True


def _run(test: Coroutine[Any, Any, None], loop_name: str, limit: float) -> None:
    __tracebackhide__ = True
    complaints: list[str] = []
    with asyncio.Runner(loop_factory=_loop_factory(loop_name)) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: complaints.append(_describe(context)))
        runner.run(_supervise(test, limit))
        gc.collect()  # an exception that nobody took shows when its task is collected …
    gc.collect()  # … and an open transport when its loop is gone
    if complaints:
        pytest.fail("The loop's exception handler was called:\n" + "\n".join(complaints), pytrace=False)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        return pytest.importorskip("uvloop").new_event_loop
    return asyncio.new_event_loop


async def _supervise(test: Coroutine[Any, Any, None], limit: float) -> None:
    """Run the test as a task of its own, within the limit, and see that it leaves no other task."""
    __tracebackhide__ = True
    task = asyncio.ensure_future(test)
    try:
        await asyncio.wait({task}, timeout=limit)
        stuck = "" if task.done() else _stacks()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    if stuck:
        pytest.fail(f"The test took longer than {limit:g} s. Its tasks then:\n{stuck}", pytrace=False)
    task.result()
    for _ in range(LAST_TURNS):
        await asyncio.sleep(0)
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        stacks = _stacks()
        for other in left:
            other.cancel()
        await asyncio.wait(left, timeout=CANCEL_SECONDS)
        names = ", ".join(sorted(other.get_name() for other in left))
        pytest.fail(f"The test leaves tasks running: {names}\n{stacks}", pytrace=False)


def _stacks() -> str:
    """What each task waits for, down to the innermost coroutine: asyncio itself shows only the outermost."""
    lines = []
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        lines.append(f"{task.get_name()}:")
        waiting: Any = task.get_coro()
        while waiting is not None:
            if frame := getattr(waiting, "cr_frame", None) or getattr(waiting, "ag_frame", None):
                code = frame.f_code
                lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}')
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "ag_await", None)
    return "\n".join(lines)


def _describe(context: dict[str, Any]) -> str:
    details = ", ".join(f"{key}={value!r}" for key, value in context.items() if key != "message")
    return f"- {context.get('message')} ({details})"


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates and keys of all kinds, valid and not; see `tests/support/certificates.py`."""
    return Certificates.make(tmp_path_factory.mktemp("certs"))
