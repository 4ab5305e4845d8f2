"""A day in the life of a whole installation: load, deployments, new certificates, and not a request is lost.

Host, two Guests of two workers each and a gateway are processes of their own, configured by TOML alone. While
clients ask by two ways, certificates change, SIGHUP replaces the workers of one Guest and then of the other,
and both Guests are ended and started anew in turn. In the end everybody has counted the same.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from tests.endtoend.fleet import DOMAIN, WORKERS, Fleet, ended, said, until
from tests.endtoend.load import METHODS, PATIENCE_SECONDS, Account, Load, through_broker, through_gateway
from tests.endtoend.scraper import Samples, Scraper, total
from verser2_guest_python import VerserBroker, create_verser_broker

HELD = b"hold 0"


@pytest.mark.slow
@pytest.mark.limit(400)
async def test_new_certificates_and_new_processes_lose_nothing_and_all_counts_agree(tmp_path: Path) -> None:
    scraper = Scraper()
    fleet = Fleet(tmp_path, scraper)
    try:
        await a_day(fleet, scraper)
    except BaseException:
        print(fleet.transcripts())
        raise
    finally:
        fleet.end()


async def a_day(fleet: Fleet, scraper: Scraper) -> None:
    await fleet.start()
    caller = create_verser_broker(
        host_url=fleet.host_url,
        broker_id="caller",
        tls_ca_file=fleet.file("callers-ca.pem"),
        tls_cert_file=fleet.file("caller.pem"),
        tls_key_file=fleet.file("caller-key.pem"),
    )
    outside = httpx2.AsyncClient(base_url=fleet.gateway_url, trust_env=False, timeout=PATIENCE_SECONDS)
    held = Account()
    counted = Samples()
    async with scraper, caller, outside:
        await caller.wait_for_route(DOMAIN)
        load = Load(gateway=through_gateway(outside, DOMAIN), broker=through_broker(caller, DOMAIN))
        async with load:
            await load.more()
            certificate = await fleet.rotate()
            assert await shown_by(fleet.host_url) == certificate.decode()
            for name in fleet.guests:
                await fleet.roll(name)
                await load.more()
            await fleet.distrust_the_old_authority()
            await load.more()

            for name in fleet.guests:
                last = await restart(fleet, scraper, caller, name, held)
                counted = {key: counted.get(key, 0.0) + last.get(key, 0.0) for key in {**counted, **last}}
                await load.more()
        load.check()
        await agree(fleet, scraper, load, held, counted)
    assert scraper.wrong == []
    for process in (fleet.gateway, *fleet.guests.values(), fleet.host):
        process.send(signal.SIGTERM)
        assert await ended(process) == 0
    assert fleet.complaints() == []


async def restart(fleet: Fleet, scraper: Scraper, caller: VerserBroker, name: str, held: Account) -> Samples:
    """SIGTERM and a new start, while the Guest works on something; its last samples, without that.

    Whatever a process counts between the last question and its end nobody learns. One request that goes on
    keeps it there until all others are counted.
    """
    process = fleet.guests[name]
    gate = fleet.file(f"gate-{name}")
    lines = fleet.journal.read_text().count("GET hold\n")
    request = asyncio.create_task(caller.get(f"http://{name}.{DOMAIN}/hold?{gate}"), name="held")
    await until(lambda: fleet.journal.read_text().count("GET hold\n") > lines, fleet.transcripts)
    before = process.count('"worker ended"')
    process.send(signal.SIGTERM)
    await said(process, '"worker ended"', times=before + WORKERS - 1)
    last = await scraper.until(name, works_on_one_alone)
    await scraper.forget(name)
    gate.touch()
    response = await request
    assert (response.status, await response.read()) == (200, HELD)
    held.add("GET", b"", HELD)
    assert await ended(process) == 0
    await fleet.start_guest(name)
    return last


def works_on_one_alone(samples: Samples) -> bool:
    """It has taken leave: no lease waits for another request."""
    return (
        total(samples, "draining") >= 1
        and total(samples, "leases", "idle") == 0
        and total(samples, "requests_in_flight") == 1
    )


async def shown_by(url: str) -> str:
    """The certificate that a Host shows in a new handshake."""
    return await asyncio.to_thread(
        ssl.get_server_certificate, ("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE_SECONDS
    )


async def agree(fleet: Fleet, scraper: Scraper, load: Load, held: Account, counted: Samples) -> None:
    """What clients have counted is what app, Guests, Host and gateway say; `counted` of Guests that are gone.

    A client has its answer a moment before that is counted, so all are asked until they agree.
    """
    everything = load.account + held
    asked = Counter(fleet.journal.read_text().splitlines())
    assert asked.pop("GET hold") == held.requests.total()
    assert set(asked.values()) == {1}, "an app was asked twice"
    assert len(asked) == load.account.requests.total()

    gateway = await scraper.until("gateway", lambda found: account_of(found) == load.accounts["gateway"])
    assert total(gateway, "lease_wait_seconds_count") == load.accounts["gateway"].requests.total()
    assert total(gateway, "requests_queued") == 0
    # An error here is one that the Broker has put right: where a Guest has just left, it asks another one
    host = await scraper.until("host", lambda found: account_of(found).requests == everything.requests)
    errors = total(host, "errors_total")
    assert total(host, "requests_total") == everything.requests.total() + errors
    guests = [counted]
    for name in fleet.guests:
        guests.append(await scraper.until(name, lambda found: total(found, "requests_in_flight") == 0))
    assert sum(map(account_of, guests), held) == everything
    assert sum(total(one, "requests_total") for one in guests) == load.account.requests.total()
    assert sum(total(one, "app_errors_total") for one in guests) == 0
    starts = sum(total(one, "worker_starts_total") for one in guests)
    assert starts == len(fleet.guests) * WORKERS * 3, "at first, after SIGHUP, after the new start"


def account_of(samples: Samples) -> Account:
    """What a process says of requests that were answered as they should be."""
    return Account(
        Counter({method: int(total(samples, "requests_total", method, "2xx")) for method in METHODS}),
        int(total(samples, "request_bytes_total")),
        int(total(samples, "response_bytes_total")),
    )
