"""A small load run: the same request many times over one session, and what the latencies were.

Apart from a single request because nothing of an answer is shown: it is read, counted and forgotten.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Final

from verser2_guest_python.errors import RequestTimeoutError, VerserError, VerserUsageError
from verser2_guest_python.service.calls.call import check_call, wait_for_route
from verser2_guest_python.service.calls.histogram import Latencies
from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.calls.peer import Peer, connected
from verser2_guest_python.service.calls.request import Call
from verser2_guest_python.service.calls.run import run_until_signal
from verser2_guest_python.service.calls.spans import run_below_parent
from verser2_guest_python.service.output.body_output import Output
from verser2_guest_python.service.output.progress import Progress
from verser2_guest_python.service.output.text import safe, size
from verser2_guest_python.service.process.exit_codes import ExitCode, exit_code

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker

_CHUNK_BYTES: Final = 262_144
_LOWEST_FAILURE: Final = 400
_SHOWN_ERRORS: Final = 10
_MAX_KINDS: Final = 1_000


def run_load(peer: Peer, call: Call, notes: Notes, count: int, concurrency: int, *, fail: bool) -> int:
    """Sends `call` `count` times, `concurrency` at a time, and writes what came of it.

    Returns the exit code: that of the first error, or with `fail` 22 after an answer of 400 or more.
    Raises `VerserError` where there is no session.
    """
    if call.body is not None and not call.body.replayable:
        raise VerserUsageError("A load run needs a body that can be read again: give a file.")
    check_call(call)
    load = _Load(call, count, min(count, concurrency), fail=fail)
    return run_below_parent(
        peer, notes, lambda peer: run_until_signal(lambda: load.run(peer, notes), fast_loop=True)
    )


class _Load:
    """One run, and what has been counted."""

    def __init__(self, call: Call, count: int, concurrency: int, *, fail: bool) -> None:
        self._call = call
        self._left = count
        self._concurrency = concurrency
        self._fail = fail
        self._latencies = Latencies()
        self._lease_waits = Latencies()
        self._statuses: Counter[int] = Counter()
        self._errors: Counter[str] = Counter()
        self._first_error: VerserError | None = None
        self._received = 0
        self._started = 0.0

    async def run(self, peer: Peer, notes: Notes) -> int:
        output = Output()
        timeout = self._call.timeout
        with notes.of_library(warnings=True):
            try:
                async with asyncio.timeout(timeout), connected(peer, notes, reconnect=True) as broker:
                    await wait_for_route(broker, peer, self._call)
                    with Progress("load", self._left, on=not notes.silent, unit="requests") as progress:
                        self._started = perf_counter()
                        try:
                            await self._send_all(broker, progress)
                        finally:  # also when time is up, or a signal came: what was measured counts
                            seconds = perf_counter() - self._started
                            progress.stop()
                            await output.write(
                                "".join(f"{line}\n" for line in self._report(seconds)).encode()
                            )
            except TimeoutError:
                raise RequestTimeoutError(f"The load run was not over within {timeout:g} s.") from None
        if self._first_error is not None:
            return exit_code(self._first_error)
        failed = self._fail and any(status >= _LOWEST_FAILURE for status in self._statuses)
        return ExitCode.HTTP_ERROR if failed else ExitCode.DONE

    async def _send_all(self, broker: VerserBroker, progress: Progress) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._work(broker, progress))
        except* VerserError as failures:  # those that are worth no further request
            raise failures.exceptions[0] from None

    async def _work(self, broker: VerserBroker, progress: Progress) -> None:
        while self._left > 0:
            self._left -= 1
            await self._send(broker)
            progress.add(1)

    async def _send(self, broker: VerserBroker) -> None:
        call = self._call
        body, headers = call.body, call.headers
        content = None if body is None else body.open(_ignore)
        if body is not None and not isinstance(content, bytes):
            headers = (*headers, ("content-length", str(body.length)))
        begun = perf_counter()
        try:
            response = await broker.request(
                call.method,
                call.url,
                headers=headers,
                body=content,
                route_domain=call.route_domain,
                lease_timeout=call.lease_timeout,
                retries=0,
                max_redirects=0,
            )
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                self._received += len(chunk)
        except VerserUsageError:
            raise  # it would be the same for all
        except VerserError as error:
            self._first_error = self._first_error or error
            if len(self._errors) < _MAX_KINDS or error.code in self._errors:
                self._errors[error.code] += 1
            return
        self._latencies.add((perf_counter() - begun) * 1000)
        self._statuses[response.status] += 1
        if response.lease_wait is not None:
            self._lease_waits.add(response.lease_wait * 1000)

    def _report(self, seconds: float) -> list[str]:
        answers, errors = len(self._latencies), self._errors.total()
        rate = answers / seconds if seconds > 0 else 0.0
        at_a_time = f", {self._concurrency} at a time" if self._concurrency > 1 else ""
        bodies = f"{size(self._received)} of bodies ({size(int(self._received / max(seconds, 1e-9)))}/s)"
        requests = f"{answers + errors:,} requests in {seconds:.2f} s{at_a_time}"
        lines = [f"{requests}: {rate:,.0f} answers/s, {bodies}", ""]
        lines += [f"  {status:<14} {count:>9,}" for status, count in sorted(self._statuses.items())]
        lines += [
            f"  {safe(code):<14} {count:>9,}" for code, count in self._errors.most_common(_SHOWN_ERRORS)
        ]
        if self._first_error is not None:
            lines += ["", f"  First error: {safe(self._first_error.message)}"]
        if answers:
            lines += ["", "Latency, to the last byte", ""]
            lines += [f"  {name:<14} {value:>9}" for name, value in self._latencies.summary()]
            lines += ["", *self._latencies.histogram()]
        if self._lease_waits:
            lines += ["", "Waiting for a lease, as the Host says", ""]
            lines += [f"  {name:<14} {value:>9}" for name, value in self._lease_waits.summary()]
        return lines


def _ignore(_count: int) -> None:
    return None
