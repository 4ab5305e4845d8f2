from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import tests.asgi.frameworks  # noqa: F401
from verser2_guest_python.asgi import lifespan as lifespan_module
from verser2_guest_python.asgi.exceptions import AsgiRuleError
from verser2_guest_python.asgi.lifespan import Lifespan, LifespanPhase, LifespanStartupFailed
from verser2_guest_python.asgi.types import ASGIApp, Message, Receive, Scope, Send
from verser2_guest_python.errors import VerserConfigurationError, VerserError

LOGGER = "verser2_guest_python"

Step = Callable[[Receive, Send], Awaitable[None]]


class App:
    """An app that follows the example of the specification, and remembers what it met.

    `before` and `after` run in place of its answers to startup and to shutdown.
    """

    def __init__(self, before: Step | None = None, after: Step | None = None) -> None:
        self.scope: Scope = {}
        self.events: list[str] = []
        self._before = before or answer("lifespan.startup.complete")
        self._after = after or answer("lifespan.shutdown.complete")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        try:
            self.events.append((await receive())["type"])
            await self._before(receive, send)
            self.events.append((await receive())["type"])
            await self._after(receive, send)
        finally:
            self.events.append("returned")


def answer(kind: str, **more: object) -> Step:
    async def step(receive: Receive, send: Send) -> None:
        await send({"type": kind, **more})

    return step


def failing(error: BaseException) -> Step:
    async def step(receive: Receive, send: Send) -> None:
        raise error

    return step


def hanging(inside: asyncio.Event) -> Step:
    async def step(receive: Receive, send: Send) -> None:
        inside.set()
        await asyncio.Event().wait()

    return step


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Return what was logged at a level."""
    caplog.set_level(logging.DEBUG, LOGGER)

    def at(level: int) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == level]

    return at


Log = Callable[[int], list[str]]


# --- an app that does it right -------------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_an_app_is_started_and_stopped(mode: str, log: Log) -> None:
    app = App()
    lifespan = Lifespan(app, mode)
    phases = [lifespan.phase]
    await lifespan.startup()
    phases.append(lifespan.phase)
    assert app.events == ["lifespan.startup"]
    await lifespan.shutdown()
    phases.append(lifespan.phase)
    assert phases == [LifespanPhase.NEW, LifespanPhase.STARTED, LifespanPhase.STOPPED]
    assert app.events == ["lifespan.startup", "lifespan.shutdown", "returned"]
    assert log(logging.WARNING) == log(logging.ERROR) == []


async def test_the_scope_is_that_of_lifespan_2_0() -> None:
    app = App()
    lifespan = Lifespan(app)
    await lifespan.startup()
    await lifespan.shutdown()
    assert app.scope["type"] == "lifespan"
    assert app.scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert app.scope["state"] is lifespan.state


async def test_what_the_app_puts_into_the_state_is_there_after_startup() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"]["pool"] = "a pool"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    lifespan = Lifespan(app)
    await lifespan.startup()
    assert lifespan.state == {"pool": "a pool"}
    await lifespan.shutdown()


async def test_startup_waits_until_the_app_has_started() -> None:
    go = asyncio.Event()

    async def slow(receive: Receive, send: Send) -> None:
        await go.wait()
        await send({"type": "lifespan.startup.complete"})

    lifespan = Lifespan(App(before=slow))
    starting = asyncio.create_task(lifespan.startup())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not starting.done()
    assert lifespan.phase is LifespanPhase.STARTING
    go.set()
    await starting
    await lifespan.shutdown()


async def test_off_never_calls_the_app() -> None:
    app = App()
    lifespan = Lifespan(app, "off")
    await lifespan.startup()
    await lifespan.shutdown()
    assert app.scope == {}
    assert lifespan.phase is LifespanPhase.UNSUPPORTED


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(VerserConfigurationError, match="auto, on, off"):
        Lifespan(App(), "maybe")


async def test_startup_is_called_once() -> None:
    lifespan = Lifespan(App())
    await lifespan.startup()
    with pytest.raises(RuntimeError, match="only once"):
        await lifespan.startup()
    await lifespan.shutdown()


async def test_shutdown_without_startup_does_nothing() -> None:
    app = App()
    await Lifespan(app).shutdown()
    assert app.events == []


# --- an app that knows no lifespan ---------------------------------------------------------


async def raising_app(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError(f"cannot handle {scope['type']}")


async def returning_app(scope: Scope, receive: Receive, send: Send) -> None:
    return None


async def receiving_app(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise NotImplementedError


@pytest.mark.parametrize("app", [raising_app, returning_app, receiving_app])
async def test_auto_serves_an_app_without_lifespan(app: ASGIApp, log: Log) -> None:
    lifespan = Lifespan(app)
    await lifespan.startup()
    assert lifespan.phase is LifespanPhase.UNSUPPORTED
    await lifespan.shutdown()
    assert any("does not support lifespan" in line for line in log(logging.DEBUG))
    assert log(logging.INFO) == log(logging.WARNING) == log(logging.ERROR) == []


@pytest.mark.parametrize(
    ("app", "why"),
    [
        (raising_app, "ValueError: cannot handle lifespan"),
        (returning_app, "it returned without lifespan.startup.complete"),
        (receiving_app, "NotImplementedError"),
    ],
)
async def test_on_refuses_an_app_without_lifespan(app: ASGIApp, why: str) -> None:
    lifespan = Lifespan(app, "on")
    with pytest.raises(LifespanStartupFailed) as caught:
        await lifespan.startup()
    assert why in caught.value.message
    assert lifespan.phase is LifespanPhase.FAILED
    await lifespan.shutdown()


async def test_the_apps_own_exception_is_the_cause() -> None:
    with pytest.raises(LifespanStartupFailed) as caught:
        await Lifespan(raising_app, "on").startup()
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_an_app_that_exits_in_startup_is_not_served(mode: str) -> None:
    with pytest.raises(LifespanStartupFailed, match="SystemExit: 3"):
        await Lifespan(App(before=failing(SystemExit(3))), mode).startup()


# --- an app that refuses to start ----------------------------------------------------------


@pytest.mark.both_loops
@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_startup_failed_carries_the_apps_message(mode: str) -> None:
    async def refuse(receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ConnectionError("no database")  # frameworks raise it once more

    lifespan = Lifespan(App(before=refuse), mode)
    with pytest.raises(LifespanStartupFailed) as caught:
        await lifespan.startup()
    assert caught.value.message == "The app's lifespan startup failed: no database."
    assert caught.value.app_message == "no database"
    assert isinstance(caught.value, VerserError)
    assert lifespan.phase is LifespanPhase.FAILED
    await lifespan.shutdown()


async def test_startup_failed_without_a_message() -> None:
    with pytest.raises(LifespanStartupFailed, match="it gave no reason"):
        await Lifespan(App(before=answer("lifespan.startup.failed"))).startup()


def group_traceback() -> str:
    try:
        raise ExceptionGroup("two", [KeyError("b"), KeyError("a")])
    except ExceptionGroup:
        return traceback.format_exc()


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        ("Traceback (most recent call last):\n  File x\nValueError: no table\n", "ValueError: no table"),
        (group_traceback(), "KeyError: 'a'"),
        ("Cannot start.\nSee the manual.\n", "Cannot start"),
    ],
)
async def test_a_long_message_is_told_in_one_line_and_kept(text: str, gist: str) -> None:
    with pytest.raises(LifespanStartupFailed) as caught:
        await Lifespan(App(before=answer("lifespan.startup.failed", message=text))).startup()
    assert (
        re.sub(r" \(.*, line \d+\)", "", caught.value.message)
        == f"The app's lifespan startup failed: {gist}."
    )
    assert caught.value.app_message == text


async def test_an_app_that_refuses_to_start_may_clean_up() -> None:
    cleaned: list[str] = []

    async def refuse(receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed"})
        await asyncio.sleep(0)
        cleaned.append("up")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await refuse(receive, send)

    with pytest.raises(LifespanStartupFailed):
        await Lifespan(app).startup()
    assert cleaned == ["up"]


# --- cancelled -----------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_a_cancelled_startup_cancels_the_app() -> None:
    inside = asyncio.Event()
    app = App(before=hanging(inside))
    lifespan = Lifespan(app)
    starting = asyncio.create_task(lifespan.startup())
    await inside.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert app.events == ["lifespan.startup", "returned"]
    assert lifespan.phase is LifespanPhase.FAILED


async def test_a_startup_cancelled_before_the_app_has_run_leaves_nothing() -> None:
    app = App()
    lifespan = Lifespan(app)
    starting = asyncio.create_task(lifespan.startup())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert lifespan.phase is LifespanPhase.FAILED


async def test_a_startup_that_is_cancelled_with_a_timeout() -> None:
    inside = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Lifespan(App(before=hanging(inside))).startup()


async def test_an_app_that_answers_its_cancellation_is_not_heard() -> None:
    inside = asyncio.Event()

    async def stubborn(receive: Receive, send: Send) -> None:
        try:
            await hanging(inside)(receive, send)
        except asyncio.CancelledError:
            await send({"type": "lifespan.startup.failed", "message": "cancelled"})
            raise

    lifespan = Lifespan(App(before=stubborn))
    starting = asyncio.create_task(lifespan.startup())
    await inside.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_shutdown_during_the_startup_ends_both() -> None:
    inside = asyncio.Event()
    lifespan = Lifespan(App(before=hanging(inside)))
    starting = asyncio.create_task(lifespan.startup())
    await inside.wait()
    await lifespan.shutdown()
    with pytest.raises(LifespanStartupFailed, match="it was cancelled"):
        await starting


async def test_a_shutdown_before_the_app_has_run_ends_the_startup() -> None:
    app = App()
    lifespan = Lifespan(app)
    starting = asyncio.create_task(lifespan.startup())
    await asyncio.sleep(0)
    assert app.events == []
    await lifespan.shutdown()
    with contextlib.suppress(LifespanStartupFailed):
        await starting
    assert lifespan.phase is LifespanPhase.FAILED


@pytest.mark.both_loops
async def test_a_cancelled_shutdown_cancels_the_app() -> None:
    inside = asyncio.Event()
    app = App(after=hanging(inside))
    lifespan = Lifespan(app)
    await lifespan.startup()
    stopping = asyncio.create_task(lifespan.shutdown())
    await inside.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert app.events[-1] == "returned"
    assert lifespan.phase is LifespanPhase.STOPPED


async def test_a_shutdown_cancelled_while_the_app_returns_cancels_the_app() -> None:
    inside = asyncio.Event()

    async def lingering(receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.shutdown.complete"})
        await hanging(inside)(receive, send)

    app = App(after=lingering)
    lifespan = Lifespan(app)
    await lifespan.startup()
    stopping = asyncio.create_task(lifespan.shutdown())
    await inside.wait()
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert app.events[-1] == "returned"


# --- shutdown --------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_an_app_that_hangs_in_shutdown_is_cancelled_in_time(log: Log) -> None:
    inside = asyncio.Event()
    app = App(after=hanging(inside))
    lifespan = Lifespan(app)
    await lifespan.startup()
    await lifespan.shutdown(timeout=0.01)
    assert app.events[-1] == "returned"
    assert lifespan.phase is LifespanPhase.STOPPED
    assert log(logging.ERROR) == [
        "The app did not finish its lifespan shutdown within 0.01 s: cancelling it."
    ]


async def test_a_framework_that_reports_its_cancellation_is_logged_once(log: Log) -> None:
    async def reporting(receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except BaseException:
            await send({"type": "lifespan.shutdown.failed", "message": "CancelledError"})
            raise

    lifespan = Lifespan(App(after=reporting))
    await lifespan.startup()
    await lifespan.shutdown(timeout=0.01)
    assert len(log(logging.ERROR)) == 1


async def test_an_app_that_survives_its_cancellation_is_left(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(lifespan_module, "_CANCEL_SECONDS", 0.01)
    enough = asyncio.Event()
    over = asyncio.Event()

    async def deaf(receive: Receive, send: Send) -> None:
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()
        over.set()

    lifespan = Lifespan(App(after=deaf))
    await lifespan.startup()
    await lifespan.shutdown(timeout=0.01)
    assert any("goes on although it was cancelled" in line for line in log(logging.ERROR))
    enough.set()
    await over.wait()


async def test_shutdown_failed_is_logged_with_its_message(log: Log) -> None:
    async def refuse(receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.shutdown.failed", "message": "cannot flush"})
        raise OSError("cannot flush")

    lifespan = Lifespan(App(after=refuse))
    await lifespan.startup()
    await lifespan.shutdown()
    assert log(logging.ERROR) == ["The app's lifespan shutdown failed: cannot flush"]


async def test_an_app_that_raises_in_shutdown_is_logged(log: Log) -> None:
    lifespan = Lifespan(App(after=failing(ValueError("boom"))))
    await lifespan.startup()
    await lifespan.shutdown()
    assert log(logging.ERROR) == ["The app failed in its lifespan shutdown: ValueError: boom"]


async def test_an_app_may_return_without_answering_the_shutdown(log: Log) -> None:
    async def nothing(receive: Receive, send: Send) -> None:
        return None

    lifespan = Lifespan(App(after=nothing))
    await lifespan.startup()
    await lifespan.shutdown()
    assert lifespan.phase is LifespanPhase.STOPPED
    assert log(logging.ERROR) == []


async def test_what_is_around_the_app_may_clean_up_after_its_answer(log: Log) -> None:
    app = App()
    closed: list[str] = []

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        await asyncio.sleep(0)
        closed.append("pool")

    lifespan = Lifespan(middleware)
    await lifespan.startup()
    await lifespan.shutdown()
    assert closed == ["pool"]


async def test_an_app_that_never_returns_after_its_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(lifespan_module, "_RETURN_SECONDS", 0.01)
    inside = asyncio.Event()

    async def lingering(receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.shutdown.complete"})
        await hanging(inside)(receive, send)

    app = App(after=lingering)
    lifespan = Lifespan(app)
    await lifespan.startup()
    await lifespan.shutdown()
    assert app.events[-1] == "returned"


async def test_an_app_that_asks_for_more_after_its_failure_is_told_at_once() -> None:
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})
        try:
            await receive()
        except AsgiRuleError as exc:
            told.append(str(exc))
            raise

    with pytest.raises(LifespanStartupFailed, match="failed: no"):
        await Lifespan(app).startup()
    assert "receive() after lifespan.startup.failed" in told[0]


async def test_an_app_that_asks_for_more_after_the_shutdown_is_ended_quietly(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})

    lifespan = Lifespan(app)
    await lifespan.startup()
    await lifespan.shutdown()
    assert log(logging.WARNING) == log(logging.ERROR) == []


async def test_two_shutdowns_end_together() -> None:
    go = asyncio.Event()
    inside = asyncio.Event()

    async def slow(receive: Receive, send: Send) -> None:
        inside.set()
        await go.wait()

    app = App(after=slow)
    lifespan = Lifespan(app)
    await lifespan.startup()
    first = asyncio.create_task(lifespan.shutdown())
    await inside.wait()
    second = asyncio.create_task(lifespan.shutdown())
    await asyncio.sleep(0)
    assert not second.done()
    go.set()
    await asyncio.gather(first, second)
    await lifespan.shutdown()
    assert app.events.count("lifespan.shutdown") == 1


# --- an app whose lifespan ends too early ----------------------------------------------------


async def ended(lifespan: Lifespan) -> None:
    async with asyncio.timeout(10):
        while lifespan.phase is LifespanPhase.STARTED:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_a_lifespan_that_dies_after_startup_is_noted(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("the heartbeat stopped")

    lifespan = Lifespan(app)
    await lifespan.startup()
    await ended(lifespan)
    [line] = log(logging.ERROR)
    assert "RuntimeError: the heartbeat stopped" in line
    await lifespan.shutdown()


async def test_a_lifespan_that_returns_after_startup_is_noted(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    lifespan = Lifespan(app)
    await lifespan.startup()
    await ended(lifespan)
    assert any("left its lifespan" in line for line in log(logging.INFO))
    assert log(logging.ERROR) == []
    await lifespan.shutdown()


# --- messages out of order -------------------------------------------------------------------


async def broken_rule(*messages: Message, receive_first: bool = True) -> str:
    """Let an app send messages in its startup; return the rule that it is told."""
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if receive_first:
            await receive()
        try:
            for message in messages:
                await send(message)
        except AsgiRuleError as exc:
            told.append(str(exc))
        await receive()

    lifespan = Lifespan(app)
    with contextlib.suppress(LifespanStartupFailed):
        async with asyncio.timeout(30):
            await lifespan.startup()
    await lifespan.shutdown()
    return told[0]


COMPLETE = {"type": "lifespan.startup.complete"}
FAILED = {"type": "lifespan.startup.failed"}


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([COMPLETE, COMPLETE], "lifespan.startup.complete a second time"),
        ([COMPLETE, FAILED], "lifespan.startup.failed a second time"),
        ([COMPLETE, {"type": "lifespan.shutdown.complete"}], "before lifespan.shutdown was received"),
        ([COMPLETE, {"type": "lifespan.shutdown.failed"}], "before lifespan.shutdown was received"),
        ([COMPLETE, {"type": "http.response.start"}], "'http.response.start' is not a message"),
        ([COMPLETE, {}], "None is not a message"),
    ],
)
async def test_a_message_out_of_order_names_the_rule(messages: list[Message], rule: str) -> None:
    told = await broken_rule(*messages)
    assert rule in told
    assert "(ASGI Lifespan 2.0)" in told


async def test_an_answer_before_the_question_names_the_rule(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(COMPLETE)

    lifespan = Lifespan(app)
    await lifespan.startup()
    assert lifespan.phase is LifespanPhase.UNSUPPORTED
    [line] = log(logging.WARNING)  # louder than an app that just knows no lifespan
    assert "lifespan.startup.complete before lifespan.startup was received" in line


async def test_a_message_that_is_no_text_names_the_rule() -> None:
    with pytest.raises(LifespanStartupFailed, match="is a str"):
        await Lifespan(App(before=answer("lifespan.startup.failed", message=b"no")), "on").startup()


async def test_a_second_answer_to_the_shutdown_names_the_rule() -> None:
    told: list[str] = []

    async def twice(receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.shutdown.complete"})
        try:
            await send({"type": "lifespan.shutdown.failed"})
        except AsgiRuleError as exc:
            told.append(str(exc))

    lifespan = Lifespan(App(after=twice))
    await lifespan.startup()
    await lifespan.shutdown()
    assert "lifespan.shutdown.failed a second time" in told[0]


# --- frameworks ------------------------------------------------------------------------------


async def test_starlette() -> None:
    applications = pytest.importorskip("starlette.applications")
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, str]]:
        events.append("start")
        yield {"db": "open"}
        events.append("stop")

    lifespan = Lifespan(applications.Starlette(lifespan=own), "on")
    await lifespan.startup()
    assert lifespan.state == {"db": "open"}
    assert events == ["start"]
    await lifespan.shutdown()
    assert events == ["start", "stop"]


async def test_starlette_that_fails_to_start() -> None:
    applications = pytest.importorskip("starlette.applications")

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[None]:
        if app is not None:
            raise ConnectionError("the database is away")
        yield

    with pytest.raises(LifespanStartupFailed) as caught:
        await Lifespan(applications.Starlette(lifespan=own)).startup()
    said = re.fullmatch(
        r"The app's lifespan startup failed: ConnectionError: the database is away \((.*), line (\d+)\)\.",
        caught.value.message,
    )
    assert said
    assert Path(said[1]).resolve() == Path(__file__).resolve()
    assert "the database is away" in Path(__file__).read_text().splitlines()[int(said[2]) - 1]
    assert "Traceback" in caught.value.app_message


async def test_starlette_that_hangs_in_shutdown(log: Log) -> None:
    applications = pytest.importorskip("starlette.applications")

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    lifespan = Lifespan(applications.Starlette(lifespan=own))
    await lifespan.startup()
    await lifespan.shutdown(timeout=0.01)
    assert len(log(logging.ERROR)) == 1


async def test_fastapi() -> None:
    fastapi = pytest.importorskip("fastapi")

    @contextlib.asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, int]]:
        yield {"answer": 42}

    lifespan = Lifespan(fastapi.FastAPI(lifespan=own), "on")
    await lifespan.startup()
    assert lifespan.state == {"answer": 42}
    await lifespan.shutdown()


async def test_quart() -> None:
    quart = pytest.importorskip("quart")
    events: list[str] = []
    app = quart.Quart(__name__)

    app.before_serving(lambda: events.append("start"))
    app.after_serving(lambda: events.append("stop"))
    lifespan = Lifespan(app, "on")
    await lifespan.startup()
    await lifespan.shutdown()
    assert events == ["start", "stop"]


async def test_litestar() -> None:
    litestar = pytest.importorskip("litestar")
    events: list[str] = []
    app = litestar.Litestar(
        [], on_startup=[lambda: events.append("start")], on_shutdown=[lambda: events.append("stop")]
    )
    lifespan = Lifespan(app, "on")
    await lifespan.startup()
    await lifespan.shutdown()
    assert events == ["start", "stop"]


async def test_django_is_served_without(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = pytest.importorskip("django.core.handlers.asgi")
    conf = pytest.importorskip("django.conf")
    settings = conf.UserSettingsHolder(conf.global_settings)
    # For this test alone; not through monkeypatch.setattr, which would read the settings first
    monkeypatch.setitem(vars(conf.settings), "_wrapped", settings)
    lifespan = Lifespan(handlers.ASGIHandler())
    await lifespan.startup()
    assert lifespan.phase is LifespanPhase.UNSUPPORTED
    await lifespan.shutdown()
