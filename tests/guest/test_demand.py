"""How many leases are idle: load curves on a clock of their own.

A small Host is simulated: requests come, take the lease that has been idle longest, or queue; what the
Guest opens arrives there after half a round trip, and requests reach the Guest after the other half.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from verser2_guest_python.guest.demand import BURST, WINDOW_SECONDS, Calls, LeaseDemand

ROUND_TRIP_SECONDS = 0.01
MINUTE = WINDOW_SECONDS


@dataclass(order=True)
class Step:
    at: float
    number: int
    work: Callable[[], None] = field(compare=False)


@dataclass
class Request:
    came: float
    seconds: float
    served: float = -1.0  # when the Host had a lease for it


class Simulation:
    """A Guest that opens leases by the rule, and the Host that uses them up."""

    def __init__(self, minimum: int = 8, limit: int = 1_000, calls: Calls | None = None) -> None:
        self.now = 0.0
        self.calls = calls if calls is not None else Calls()
        self.demand = LeaseDemand(minimum, limit, self.calls, 0.0)
        self.ready = 0  # accepted by the Host, as far as the Guest knows
        self.host_idle = 0
        self.queue: deque[Request] = deque()
        self.requests: list[Request] = []
        self.most_running = 0
        self.most_leases = 0
        self._steps: list[Step] = []
        self._count = 0
        self.calls.join(self.fill)
        self.fill()
        self.run_until(1.0)

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._steps, Step(self.now + seconds, self._count, work))

    def run_until(self, time: float) -> None:
        while self._steps and self._steps[0].at <= time:
            step = heapq.heappop(self._steps)
            self.now = step.at
            step.work()
        self.now = time

    # --- The Guest ------------------------------------------------------------------------

    def fill(self) -> None:
        for _ in range(self.demand.missing()):
            self.demand.opened()
            self.later(ROUND_TRIP_SECONDS / 2, self.lease_at_host)
        self.most_leases = max(self.most_leases, self.calls.idle + self.calls.running)

    def request_at_guest(self, request: Request, was_ready: bool) -> None:
        if was_ready:
            self.ready -= 1
        self.demand.turned_active(self.now, self.ready > 0)
        self.most_running = max(self.most_running, self.calls.running)
        self.fill()
        self.later(request.seconds, self.calls.finished)

    # --- The Host -------------------------------------------------------------------------

    def lease_at_host(self) -> None:
        if self.queue:
            self.hand_over(self.queue.popleft(), was_ready=False)
        else:
            self.host_idle += 1
            self.later(ROUND_TRIP_SECONDS / 2, self.accepted)

    def accepted(self) -> None:
        self.ready += 1

    def request_at_host(self, seconds: float) -> None:
        request = Request(self.now, seconds)
        self.requests.append(request)
        if self.host_idle:
            self.host_idle -= 1
            self.hand_over(request, was_ready=True)
        else:
            self.queue.append(request)

    def hand_over(self, request: Request, *, was_ready: bool) -> None:
        request.served = self.now
        self.later(ROUND_TRIP_SECONDS / 2, lambda: self.request_at_guest(request, was_ready))

    # --- Load -----------------------------------------------------------------------------

    def arrive(self, times: Iterable[float], seconds: float) -> list[Request]:
        """Requests at these times from now, each of which keeps its app busy for so long."""
        before = len(self.requests)
        end = self.now
        for time in times:
            self.later(time, lambda: self.request_at_host(seconds))
            end = max(end, self.now + time)
        self.run_until(end + seconds + 10 * ROUND_TRIP_SECONDS)
        return self.requests[before:]

    def longest_wait(self, requests: list[Request]) -> float:
        assert all(request.served >= 0 for request in requests), "some were never served"
        return max(request.served - request.came for request in requests)


@pytest.mark.parametrize("minimum", [1, 2, 8, 64])
def test_a_burst_of_200_on_an_idle_guest_waits_one_round_trip_at_most(minimum: int) -> None:
    simulation = Simulation(minimum)
    burst = simulation.arrive([0.0] * 200, seconds=5.0)
    assert simulation.longest_wait(burst) <= ROUND_TRIP_SECONDS * 1.001


def test_at_rest_the_minimum_is_idle() -> None:
    simulation = Simulation(8)
    assert (simulation.host_idle, simulation.calls.idle) == (8, 8)


def test_a_slow_stream_of_requests_keeps_the_pool_small_and_never_waits() -> None:
    simulation = Simulation(8)
    requests = simulation.arrive([number * 0.02 for number in range(30_000)], seconds=0.05)
    assert simulation.longest_wait(requests) == 0.0
    assert simulation.demand.target == 8
    assert simulation.host_idle == 8


def test_after_a_burst_the_next_one_finds_leases() -> None:
    simulation = Simulation(8)
    simulation.arrive([0.0] * 200, seconds=0.1)
    again = simulation.arrive([0.0] * 200, seconds=0.1)
    assert simulation.longest_wait(again) == 0.0


def test_a_steady_crowd_never_waits_once_it_is_known() -> None:
    """100 requests at a time, each followed by the next."""
    simulation = Simulation(8)
    simulation.arrive([0.0] * 100, seconds=0.1)
    steady = simulation.arrive([wave * 0.1 for wave in range(50) for _ in range(100)], seconds=0.1)
    assert simulation.longest_wait(steady) == 0.0


def test_a_quiet_minute_shrinks_the_pool_as_its_leases_are_used() -> None:
    simulation = Simulation(8)
    simulation.arrive([0.0] * 200, seconds=0.1)
    assert simulation.host_idle == BURST
    simulation.arrive([number * 1.0 for number in range(int(2 * MINUTE) + 2)], seconds=0.1)  # one a second
    assert simulation.demand.target == 8
    assert simulation.host_idle > 8  # none was given up: a request may have been on its way to it
    simulation.arrive([number * 0.1 for number in range(BURST + 10)], seconds=0.05)
    assert simulation.host_idle == 8


def test_a_silent_hour_counts_as_quiet_as_well() -> None:
    simulation = Simulation(8)
    simulation.arrive([0.0] * 200, seconds=0.1)
    simulation.run_until(simulation.now + 60 * MINUTE)
    simulation.arrive([0.0], seconds=0.1)
    assert simulation.demand.target == 8


def test_the_pool_follows_a_load_that_falls_step_by_step() -> None:
    simulation = Simulation(8)
    targets = []
    for crowd in (200, 100, 40, 20, 8, 4):
        end = simulation.now + 3 * MINUTE
        requests = []
        while simulation.now < end:
            requests += simulation.arrive([0.0] * crowd, seconds=0.5)
        targets.append(simulation.demand.target)
        assert simulation.longest_wait(requests[200:]) == 0.0
    assert targets == [208, 108, 48, 28, 16, 8]


@pytest.mark.parametrize(("minimum", "limit"), [(8, 8), (8, 20), (1, 1), (8, 1_000), (300, 400)])
def test_no_more_runs_than_the_limit(minimum: int, limit: int) -> None:
    simulation = Simulation(minimum, limit)
    requests = simulation.arrive([0.0] * (limit * 2), seconds=1.0)
    simulation.run_until(simulation.now + 5.0)
    assert simulation.most_running <= limit
    assert simulation.most_leases <= limit
    assert simulation.longest_wait(requests) < 1.0 + 5 * ROUND_TRIP_SECONDS


def test_calls_that_never_end_count_for_ever() -> None:
    simulation = Simulation(8, 10)
    for _ in range(7):
        simulation.later(0.0, lambda: simulation.request_at_host(1_000_000.0))
    simulation.run_until(simulation.now + 1.0)
    assert simulation.calls.running == 7
    assert simulation.host_idle == 3


def test_the_minimum_may_be_larger_than_a_burst() -> None:
    simulation = Simulation(300, 2_000)
    simulation.arrive([0.0] * 600, seconds=0.1)
    assert simulation.demand.target == 300


def test_two_sessions_share_the_limit() -> None:
    """During a handover, or at several Hosts: none of them takes all of it."""
    calls = Calls()
    one, other = Simulation(8, 20, calls), Simulation(8, 20, calls)
    one.arrive([0.0] * 30, seconds=1.0)
    one.run_until(one.now + 5.0)
    assert one.most_running <= 20
    assert calls.running == 0
    assert calls.idle <= 20
    waited = other.arrive([0.0] * 5, seconds=0.1)
    assert other.longest_wait(waited) <= 2 * ROUND_TRIP_SECONDS
    assert max(one.most_leases, other.most_leases) <= 20


def test_a_session_that_leaves_gives_its_share_to_the_others() -> None:
    calls = Calls()
    one = Simulation(8, 8, calls)
    other = Simulation(8, 8, calls)
    assert (one.demand.idle, other.demand.idle) == (8, 0)
    one.demand.lost(one.demand.idle)
    calls.leave(one.fill)
    assert other.demand.idle == 8
