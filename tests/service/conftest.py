"""A Host as a process, shared by the tests that start Guests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.processes import Running, host_process, start
from tests.support.certificates import Certificates
from tests.support.waiting import until
from verser2_guest_python import VerserBroker, create_verser_broker

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Place:
    """A Host, and what it takes to start Guests of `apps/counting.py` that all write to one journal."""

    url: str
    ca_file: Path
    journal: Path

    @property
    def peer(self) -> tuple[str | Path, ...]:
        return ("--host-url", self.url, "--tls-ca-file", self.ca_file)

    def arguments(self, guest_id: str, *more: str | Path) -> tuple[str | Path, ...]:
        """A Guest for the domain of that name."""
        names = ("--guest-id", guest_id, "--domain", f"{guest_id}.test", "--no-access-log")
        return ("counting:app", *self.peer, "--app-dir", APPS, *names, *more)

    def env(self, **more: str) -> dict[str, str]:
        return {"COUNTING_JOURNAL": str(self.journal), **more}

    def guest(self, guest_id: str, *more: str | Path, **env: str) -> Running:
        return start(*self.arguments(guest_id, *more), env=self.env(**env))

    def count(self, line: str) -> int:
        """How often a line is in the journal."""
        return sum(one.rpartition(" ")[0] == line for one in self.journal.read_text().splitlines())

    @asynccontextmanager
    async def broker(self, broker_id: str | None = None) -> AsyncIterator[VerserBroker]:
        async with create_verser_broker(
            host_url=self.url, broker_id=broker_id, tls_ca_file=self.ca_file
        ) as broker:
            yield broker


async def registered(process: Running, *peer_ids: str, times: int = 1) -> None:
    """Until each of these has registered so often."""
    for peer_id in peer_ids:
        await until(
            lambda peer_id=peer_id: (  # type: ignore[misc]
                process.ended or process.count('"registered"', f'"guest_id":"{peer_id}"') >= times
            )
        )
        assert not process.ended, process.transcript()


@pytest.fixture(scope="session")
def host_url(certs: Certificates) -> Iterator[str]:
    with host_process(certs.host, certs.host_key) as port:
        yield f"https://localhost:{port}"


@pytest.fixture
def place(host_url: str, certs: Certificates, tmp_path: Path) -> Place:
    journal = tmp_path / "journal"
    journal.touch()
    return Place(host_url, certs.ca, journal)
