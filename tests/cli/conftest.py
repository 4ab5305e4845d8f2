"""A Host and a Guest as processes, shared by the tests of the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.processes import WAIT_SECONDS, Running, host_process, start
from tests.support.certificates import Certificates

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Stage:
    """A Host, and a Guest that serves `examples/bench_app.py` for a.test and b.test behind it."""

    port: str
    certs: Certificates
    guest: Running

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def peer(self) -> tuple[str | Path, ...]:
        """The options that lead to it."""
        return ("--host-url", self.url, "--tls-ca-file", self.certs.ca)


@pytest.fixture(scope="session")
def stage(certs: Certificates) -> Iterator[Stage]:
    with host_process(certs.host, certs.host_key) as port:
        url = f"https://localhost:{port}"
        names = ("--guest-id", "stage", "--domain", "a.test", "--domain", "b.test")
        arguments = ("examples.bench_app:app", "--host-url", url, *names, "--tls-ca-file", certs.ca)
        with start(*arguments, "--log-format", "json") as guest:
            guest.says('"registered"')
            yield Stage(port, certs, guest)


@pytest.fixture(scope="session")
def kit(stage: Stage) -> Iterator[Stage]:
    """The same Host, and a Guest that serves `apps/answers.py` for kit.test and two.test."""
    names = ("--guest-id", "kit", "--domain", "kit.test", "--domain", "two.test")
    arguments = ("answers:app", "--app-dir", APPS, *stage.peer, *names)
    with start(*arguments, "--log-format", "json") as guest:
        guest.says('"registered"')
        yield Stage(stage.port, stage.certs, guest)


@pytest.fixture
def state(tmp_path: Path) -> dict[str, str]:
    """An environment with a state directory of its own."""
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds that no event tells of."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.02)

    return wait
