"""The Node.js peers of `tests/interop/peer` as processes that a test starts, asks and stops.

    async with node_host(certs, strict=True) as host:
        async with node_guest(host, certs, domain="a.local.test") as guest:
            await host.event("registered", peer="guest-a")
            result = await node_load(host, certs, domain="a.local.test", path="/plain", seconds=1)
        assert host.violations == []

Every wait has an end. Leaving the block stops the process, also when the test failed; then what the
process said is added to the failure.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.certificates import Certificates

PEERS = Path(__file__).resolve().parents[1] / "interop" / "peer"

_NODE_VERSION = (20, 19, 4)  # older ones keep a session whose connection is gone
EVENT_SECONDS = 10.0
STOP_SECONDS = 5.0
# How much longer than its own measuring a load run may take
LOAD_GRACE_SECONDS = 30.0
MAX_LINE_BYTES = 16 * 1024 * 1024
KEPT_STDERR_LINES = 200

Event = dict[str, Any]


@cache
def why_no_peers() -> str | None:
    """Why the peers cannot run on this machine, in one sentence; None where they can."""
    needed = f"the tests against the Node.js peers need {'.'.join(map(str, _NODE_VERSION))} or newer"
    if (node := shutil.which("node")) is None:
        return f"Node.js is not installed: {needed}"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, said.lstrip("v").split("."))) < _NODE_VERSION:
        return f"Node.js {said} is too old: {needed}"
    return None


class PeerFailed(AssertionError):
    """A peer did not say what was waited for, or ended before it did."""


class NodePeer:
    """A running peer: its events so far, and a way to send it commands."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.events: list[Event] = []
        self._process = process
        self._handed_out: set[int] = set()
        self._news = asyncio.Condition()
        self._ended = False
        self._stderr: deque[str] = deque(maxlen=KEPT_STDERR_LINES)
        self._readers = [
            asyncio.create_task(self._read_events(), name=f"{name}: events"),
            asyncio.create_task(self._read_stderr(), name=f"{name}: stderr"),
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def violations(self) -> list[Event]:
        """What a strict Host found wrong with its Guests."""
        return [event for event in self.events if event.get("event") == "violation"]

    def all(self, name: str, **fields: Any) -> list[Event]:
        """All events so far that have this name and these fields."""
        return [event for event in self.events if _matches(event, name, fields)]

    async def event(self, name: str, *, timeout: float = EVENT_SECONDS, **fields: Any) -> Event:
        """The next event with this name and these fields, past or to come; each is handed out once."""
        try:
            async with asyncio.timeout(timeout), self._news:
                seen = 0
                while True:
                    for index in range(seen, len(self.events)):
                        if index not in self._handed_out and _matches(self.events[index], name, fields):
                            self._handed_out.add(index)
                            return self.events[index]
                    seen = len(self.events)
                    if self._ended:
                        raise PeerFailed(f"{self.name} ended without {name!r} {fields}\n{self.transcript()}")
                    await self._news.wait()
        except TimeoutError:
            message = f"{self.name} did not say {name!r} {fields} within {timeout:g} s\n{self.transcript()}"
            raise PeerFailed(message) from None

    async def command(self, cmd: str, **fields: Any) -> None:
        """Send one command, for example `command("drop", peer="guest-a")`."""
        await self.write_line(json.dumps({"cmd": cmd, **fields}))

    async def ask(self, cmd: str, *, timeout: float = EVENT_SECONDS) -> Event:
        """Send a command that is answered by an event of the same name (`routes`, `stats`)."""
        await self.command(cmd)
        return await self.event(cmd, timeout=timeout)

    async def write_line(self, line: str) -> None:
        """Write one line to the standard input of the peer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    def close_input(self) -> None:
        """End the standard input of the peer; a Broker with a WebSocket then closes it and ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def failure(self, timeout: float = EVENT_SECONDS) -> dict[str, Any]:
        """The error that it ended with: `code` and `message`."""
        await self.wait(timeout)
        await asyncio.wait(self._readers, timeout=timeout)
        for line in self._stderr:
            said = _parse(line.encode())
            if "error" in said:
                error: dict[str, Any] = said["error"]
                return error
        raise PeerFailed(f"{self.name} ended without an error")

    async def wait(self, timeout: float = EVENT_SECONDS) -> int:
        """The exit code, once the peer has ended by itself."""
        try:
            async with asyncio.timeout(timeout):
                return await self._process.wait()
        except TimeoutError:
            message = f"{self.name} did not end within {timeout:g} s\n{self.transcript()}"
            raise PeerFailed(message) from None

    def kill(self) -> None:
        """End it at once, without a goodbye to anyone."""
        if self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough; returns when the process is gone and all is read."""
        try:
            if self._process.returncode is None:
                self._process.terminate()
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process.wait()
        except TimeoutError:
            pass  # it is killed below
        finally:
            self.kill()
            self.close_input()
            await self._process.wait()
            await asyncio.gather(*self._readers)

    def transcript(self) -> str:
        """The last events and lines of stderr, for people."""
        events = "\n".join(json.dumps(event) for event in self.events[-20:])
        return f"--- {self.name}, last events ---\n{events}\n--- stderr ---\n{''.join(self._stderr)}"

    async def _read_events(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                async with self._news:
                    self.events.append(_parse(line))
                    self._news.notify_all()
        finally:
            async with self._news:
                self._ended = True
                self._news.notify_all()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._stderr.append(line.decode(errors="replace"))


class NodeHost(NodePeer):
    """A running Host."""

    port: int = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


def _matches(event: Event, name: str, fields: dict[str, Any]) -> bool:
    return event.get("event") == name and all(event.get(key) == value for key, value in fields.items())


def _parse(line: bytes) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else {"event": "not JSON", "line": line.decode(errors="replace")}


async def _spawn(script: str, flags: Sequence[object], **pipes: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "node",
        str(PEERS / script),
        *map(str, flags),
        stdin=pipes.get("stdin", asyncio.subprocess.PIPE),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
    )


@asynccontextmanager
async def _running(peer: NodePeer) -> AsyncIterator[None]:
    try:
        yield
    except Exception as error:
        if not isinstance(error, PeerFailed):
            error.add_note(peer.transcript())
        raise
    finally:
        await peer.stop()


@asynccontextmanager
async def node_host(
    certs: Certificates,
    *,
    strict: bool = False,
    quiet: bool = False,
    port: int = 0,
    address: str = "127.0.0.1",
    client_ca: Path | None = None,
    initial_window: int | None = None,
    max_concurrent_streams: int | None = None,
    degraded_timeout_ms: int | None = None,
    keep_header_arrays: bool = False,
) -> AsyncIterator[NodeHost]:
    """A Host that listens; `host.url`, `host.port`."""
    flags: list[object] = [
        "--cert",
        certs.host,
        "--key",
        certs.host_key,
        "--port",
        port,
        "--address",
        address,
    ]
    switches = {"--strict": strict, "--quiet": quiet, "--keep-header-arrays": keep_header_arrays}
    flags += [flag for flag, on in switches.items() if on]
    flags += _options(
        {
            "--client-ca": client_ca,
            "--initial-window": initial_window,
            "--max-concurrent-streams": max_concurrent_streams,
            "--degraded-timeout-ms": degraded_timeout_ms,
        }
    )
    host = NodeHost("node host", await _spawn("host.mjs", flags))
    async with _running(host):
        host.port = (await host.event("listening"))["port"]
        yield host


@asynccontextmanager
async def node_guest(
    host_url: str,
    certs: Certificates,
    *,
    guest_id: str = "guest-a",
    domain: str | Sequence[str] = "a.local.test",
    idle_leases: int | None = None,
    max_leases: int | None = None,
    reconnect: bool = False,
    identity: bool = False,
    ready: bool = True,
) -> AsyncIterator[NodePeer]:
    """A Guest that serves the app of `guest-app.mjs`; with `identity` it presents `certs.guest`."""
    domains = [domain] if isinstance(domain, str) else domain
    flags: list[object] = ["--host-url", host_url, "--ca", certs.ca, "--guest-id", guest_id]
    for name in domains:
        flags += ["--domain", name]
    if identity:
        flags += ["--cert", certs.guest, "--key", certs.guest_key]
    flags += ["--reconnect"] if reconnect else []
    flags += _options({"--idle-leases": idle_leases, "--max-leases": max_leases})
    guest = NodePeer(f"node guest {guest_id}", await _spawn("guest.mjs", flags))
    async with _running(guest):
        if ready:
            await guest.event("ready")
        yield guest


@asynccontextmanager
async def node_websocket(
    host_url: str, certs: Certificates, url: str, *, protocol: str | None = None
) -> AsyncIterator[NodePeer]:
    """A Broker with one WebSocket: `write_line` sends a text; events `open`, `message`, `close`."""
    flags = ["--host-url", host_url, "--ca", certs.ca, *_options({"--protocol": protocol}), "ws", url]
    peer = NodePeer("node broker", await _spawn("broker.mjs", flags))
    async with _running(peer):
        yield peer


@dataclass(frozen=True)
class NodeAnswer:
    """What `broker.mjs` printed: an answer, or the error that it raised."""

    body: bytes
    status: int | None = None
    headers: dict[str, Any] | None = None
    error_code: str | None = None
    error_message: str | None = None


async def node_request(
    host_url: str,
    certs: Certificates,
    url: str,
    *,
    data: str | None = None,
    broker_id: str | None = None,
    timeout: float = EVENT_SECONDS,
) -> NodeAnswer:
    """One request of a Broker: GET, or POST when there is `data`."""
    flags = ["--host-url", host_url, "--ca", certs.ca, *_options({"--id": broker_id, "--data": data})]
    flags += ["get" if data is None else "post", url]
    body, stderr, _ = await _output("node broker", "broker.mjs", flags, timeout)
    said = _parse(stderr.strip() or b"{}")
    if "status" in said:
        return NodeAnswer(body, said["status"], said["headers"])
    if "error" not in said:
        raise PeerFailed(f"node broker failed:\n{stderr.decode(errors='replace')}")
    return NodeAnswer(body, error_code=said["error"].get("code"), error_message=said["error"].get("message"))


async def node_routes(host_url: str, certs: Certificates) -> list[Event]:
    """The route table that a Broker sees when it has just registered."""
    flags = ["--host-url", host_url, "--ca", certs.ca, "routes"]
    stdout, stderr, _ = await _output("node broker", "broker.mjs", flags, EVENT_SECONDS)
    said = _parse(stdout)
    if said.get("event") != "routes":
        raise PeerFailed(f"node broker failed:\n{stderr.decode(errors='replace')}")
    routes: list[Event] = said["routes"]
    return routes


async def node_load(
    host_url: str,
    certs: Certificates,
    *,
    domain: str = "a.local.test",
    path: str = "/plain",
    concurrency: int = 16,
    seconds: float = 1,
    warmup: float = 0,
    body_bytes: int = 0,
    body_chunks: int | None = None,
    pid: int | None = None,
) -> Event:
    """The figures of one run of the load generator; `errors` and `unfinished` are what a test looks at."""
    flags: list[object] = ["--host-url", host_url, "--ca", certs.ca, "--domain", domain, "--path", path]
    flags += ["--concurrency", concurrency, "--seconds", seconds, "--warmup", warmup]
    flags += ["--body-bytes", body_bytes, *_options({"--body-chunks": body_chunks, "--pid": pid})]
    timeout = seconds + warmup + LOAD_GRACE_SECONDS
    stdout, stderr, code = await _output("node load", "load.mjs", flags, timeout)
    if not stdout:
        raise PeerFailed(f"node load ended with {code}:\n{stderr.decode(errors='replace')}")
    return _parse(stdout)


def _options(values: dict[str, object]) -> list[object]:
    return [item for flag, value in values.items() if value is not None for item in (flag, value)]


async def _output(
    name: str, script: str, flags: Sequence[object], timeout: float
) -> tuple[bytes, bytes, int]:
    """Standard output, standard error and exit code of a peer that ends by itself."""
    process = await _spawn(script, flags, stdin=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        raise PeerFailed(f"{name} did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return stdout, stderr, await process.wait()
