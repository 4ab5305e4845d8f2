"""Host, two Guests of two workers each and a gateway, as processes that know nothing but a TOML file each.

Apart from the test, which says what is done to them. The certificates of one authority are called after
what they are for; `rotate` replaces all but those of the callers by another authority's.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

from tests.cli.processes import COMMAND, Running
from tests.endtoend.load import PATIENCE_SECONDS
from tests.endtoend.scraper import Scraper
from tests.support.certificates import LOCAL_NAMES, Identity, make_identity

APPS = Path(__file__).parent / "apps"
DOMAIN = "till.test"
WORKERS = 2

HOST = """
[host]
port = 0
client_ca_file = "clients-ca.pem"
server_timing = true

[tls]
cert_file = "host.pem"
key_file = "host-key.pem"
"""
GUEST = """
app = "till:app"
app_dir = {apps!r}
host_url = {url!r}
guest_id = "till-{name}"
routed_domains = ["till.test", "{name}.till.test"]

[tls]
ca_file = "guests-ca.pem"
cert_file = "till.pem"
key_file = "till-key.pem"

[workers]
workers = 2
"""
GATEWAY = """
host_url = {url!r}
broker_id = "door"

[tls]
ca_file = "callers-ca.pem"
cert_file = "door.pem"
key_file = "door-key.pem"

[gateway]
listen = "127.0.0.1:0"
"""
OF_ALL = """
[health]
listen = "127.0.0.1:0"

[log]
format = "json"
access_log = false
"""


class Fleet:
    """The processes; `end` in any case. `directory` holds their files.

    Attributes:
        host_url, gateway_url: where Host and gateway listen.
        guests: the Guests by name, `a` and `b`.
        journal: what their app was asked.
    """

    def __init__(self, directory: Path, scraper: Scraper) -> None:
        self.journal = directory / "journal"
        self.journal.touch()
        self.host_url = self.gateway_url = ""
        self.guests: dict[str, Running] = {}
        self._directory = directory
        self._scraper = scraper
        self._started: list[Running] = []
        self._authority = make_identity("First CA", authority=True)
        for name in ("clients-ca", "guests-ca", "callers-ca"):
            self._write(f"{name}.pem", self._authority.certificate_pem)
        for name in ("host", "till", "door", "caller"):
            self._certify(name, self._authority)

    def file(self, name: str) -> Path:
        return self._directory / name

    def _write(self, name: str, data: bytes) -> None:
        file = self.file(name)
        file.touch(mode=0o600)
        file.write_bytes(data)

    def _certify(self, name: str, authority: Identity) -> bytes:
        """A new certificate, with a key of its own."""
        common_name, names = ("localhost", LOCAL_NAMES) if name == "host" else (name, ())
        identity = make_identity(common_name, authority, names=names)
        self._write(f"{name}.pem", identity.certificate_pem)
        self._write(f"{name}-key.pem", identity.key_pem())
        return identity.certificate_pem

    def _start(self, name: str, text: str, *command: str) -> Running:
        config = self.file(f"{name}.toml")
        config.write_text(text + OF_ALL)
        env = {"TILL_JOURNAL": str(self.journal)}
        process = Running([*COMMAND, *command, "--config", config], env=env, cwd=self._directory)
        self._started.append(process)
        return process

    async def start(self) -> None:
        """All of them, until each is registered."""
        host = self.host = self._start("host", HOST, "host")
        listening = await said(host, '"listening"')
        self.host_url = f"https://localhost:{json.loads(listening)['port']}"
        await self._watch("host", host)
        gateway = self.gateway = self._start("gateway", GATEWAY.format(url=self.host_url), "gateway")
        await asyncio.gather(*(self.start_guest(name) for name in ("a", "b")))
        self.gateway_url = json.loads(await said(gateway, '"listening"'))["url"]
        await said(gateway, '"registered"')
        await self._watch("gateway", gateway)

    async def start_guest(self, name: str) -> None:
        """Starts a Guest, for the first time or again, until its workers are registered."""
        text = GUEST.format(name=name, url=self.host_url, apps=str(APPS))
        process = self.guests[name] = self._start(f"guest-{name}", text)
        await said(process, '"registered"', times=WORKERS)
        await self._watch(name, process)

    async def _watch(self, name: str, process: Running) -> None:
        address = json.loads(await said(process, '"health"'))["address"]
        host, _, port = address.rpartition(":")
        self._scraper.targets[name] = (host, int(port))

    async def roll(self, name: str) -> None:
        """SIGHUP: until each worker has a successor that is registered, and has drained and ended."""
        process = self.guests[name]
        ended, registered = process.count('"worker ended"'), process.count('"registered"')
        process.send(signal.SIGHUP)
        await said(process, '"registered"', times=registered + WORKERS)
        await said(process, '"worker ended"', times=ended + WORKERS)

    async def reload_host(self) -> None:
        """SIGHUP: until new sessions are made with what is in the files now."""
        before = self.host.count('"certificates reloaded"')
        self.host.send(signal.SIGHUP)
        await said(self.host, '"certificates reloaded"', times=before + 1)

    async def rotate(self) -> bytes:
        """New certificates of a new authority for Host and Guests; the Host's."""
        new = make_identity("Second CA", authority=True)
        both = self._authority.certificate_pem + new.certificate_pem
        for name in ("clients-ca", "guests-ca", "callers-ca"):
            self._write(f"{name}.pem", both)
        self._certify("till", new)
        certificate = self._certify("host", new)
        self._authority = new
        await self.reload_host()
        return certificate

    async def distrust_the_old_authority(self) -> None:
        """From now on only Guests come in that have and trust the new certificates."""
        for name in ("clients-ca", "guests-ca"):
            self._write(f"{name}.pem", self._authority.certificate_pem)
        await self.reload_host()

    def transcripts(self) -> str:
        return "\n".join(process.transcript() for process in self._started)

    def complaints(self) -> list[str]:
        """Lines of the logs that are warnings or worse."""
        return [
            line
            for process in self._started
            for line in process.stderr
            if json.loads(line)["level"] not in ("debug", "info")
        ]

    def end(self) -> None:
        for process in reversed(self._started):
            with process:
                pass


async def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    """Waits until something holds of which other processes tell us nothing."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():  # noqa: ASYNC110 - other processes set no events
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what()) from None


async def said(process: Running, *words: str, times: int = 1) -> str:
    """The line that has these words, once they were said so often."""
    await until(lambda: process.ended or process.count(*words) >= times, process.transcript)
    return process.says(*words, times=times)


async def ended(process: Running) -> int:
    """Its exit code."""
    await until(lambda: process.ended, process.transcript)
    return process.wait()
