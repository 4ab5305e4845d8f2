"""One request through a Broker from the command line: connect, send, write the answer as it comes.

Apart from the command because it is the part that runs in an event loop, and apart from the daemon
because it must start fast: no settings model, no log.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from verser2_guest_python.errors import (
    ConnectFailure,
    RequestTimeoutError,
    VerserConfigurationError,
    VerserConnectionError,
    VerserUsageError,
)
from verser2_guest_python.service.environment import look_up, split_list
from verser2_guest_python.service.exit_codes import exit_code_of_signal
from verser2_guest_python.service.options import OPTIONS
from verser2_guest_python.service.output import Output, OutputClosed

if TYPE_CHECKING:
    from verser2_guest_python.broker.broker import VerserBroker
    from verser2_guest_python.broker.response import VerserBrokerResponse

_CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a Broker connects to (the first Host that answers), and as whom; no password in `repr`."""

    host_urls: tuple[str, ...]
    broker_id: str
    connect_timeout: float
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    pfx_file: str | None = None
    pfx_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for, and how the answer is shown."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    timeout: float | None = None
    show_head: bool = False
    show_body: bool = True


def resolve_peer(given: Mapping[str, Any], environ: Mapping[str, str]) -> Peer:
    """The peer that options (`given`, by key) and environment describe, or else a running `dev` Host.

    Raises `VerserUsageError` when nothing names a Host.
    """

    def value(key: str) -> str | None:
        if key in given:
            return str(given[key])
        found = look_up(key, environ)
        return found.value if found else None

    hosts: tuple[str, ...] = given.get("host_url") or split_list(value("host_url") or "")
    files = {name: value(f"tls.{name}") for name in ("ca_file", "cert_file", "key_file", "pfx_file")}
    if not hosts:
        host, files = _running_dev(files)
        hosts = (host,)
    return Peer(
        host_urls=hosts,
        broker_id=value("broker_id") or _unique_id(),
        connect_timeout=_seconds(value("session.connect_timeout"), "session.connect_timeout"),
        key_password=value("tls.key_password"),
        pfx_password=value("tls.pfx_password"),
        **files,
    )


def run_call(peer: Peer, call: Call) -> int:
    """Makes the call and writes the answer to standard output; returns the exit code."""
    with asyncio.Runner() as runner:
        return runner.run(_call_until_signal(peer, call))


async def _call_until_signal(peer: Peer, call: Call) -> int:
    """The call; SIGINT and SIGTERM end it in good order: request cancelled, session closed."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(_call(peer, call))
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # not on Windows
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return exit_code_of_signal(received[0])


async def _call(peer: Peer, call: Call) -> int:
    output = Output()
    brokers = [_broker(peer, host_url) for host_url in peer.host_urls]
    try:
        async with asyncio.timeout(call.timeout):
            await _converse(await _first_that_connects(brokers), call, output)
    except TimeoutError:
        raise RequestTimeoutError(f"The answer was not complete within {call.timeout:g} s.") from None
    except OutputClosed:
        return 0  # `| head` has what it wanted
    finally:
        for broker in brokers:
            await broker.close()
    return 0


async def _first_that_connects(brokers: list[VerserBroker]) -> VerserBroker:
    *others, last = brokers
    for broker in others:
        try:
            await broker.connect()
        except VerserConnectionError as error:
            if error.reason not in (ConnectFailure.UNREACHABLE, ConnectFailure.TIMEOUT):
                raise
        else:
            return broker
    await last.connect()
    return last


def _broker(peer: Peer, host_url: str) -> VerserBroker:
    from verser2_guest_python.broker.broker import create_verser_broker

    return create_verser_broker(
        host_url=host_url,
        broker_id=peer.broker_id,
        connect_timeout=peer.connect_timeout,
        tls_ca_file=peer.ca_file,
        tls_cert_file=peer.cert_file,
        tls_key_file=peer.key_file,
        tls_key_password=peer.key_password,
        tls_pfx_file=peer.pfx_file,
        tls_pfx_password=peer.pfx_password,
    )


async def _converse(broker: VerserBroker, call: Call, output: Output) -> None:
    response = await broker.request(call.method, call.url, headers=call.headers, body=call.body)
    if call.show_head:
        await output.write(_head_of(response))
    async for chunk in response.aiter_bytes(_CHUNK_BYTES):
        if call.show_body:
            await output.write(chunk)


def _head_of(response: VerserBrokerResponse) -> bytes:
    """Status line and headers as `curl -i` shows them."""
    lines = [f"HTTP/1.1 {response.status} {response.reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in response.headers.multi_items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _running_dev(files: dict[str, str | None]) -> tuple[str, dict[str, str | None]]:
    from verser2_guest_python.service.dev_runs import newest_run

    run = newest_run()
    if run is None:
        raise VerserUsageError(
            "No Host is named and no `verser2-guest dev` is running: give --host-url, or set VERSER_HOST_URL."
        )
    if files["cert_file"] is None and files["pfx_file"] is None:
        files = {**files, "cert_file": run.cert_file, "key_file": run.key_file}
    return run.host_url, {**files, "ca_file": files["ca_file"] or run.ca_file}


def _unique_id() -> str:
    return f"broker-{secrets.token_hex(4)}"


def _seconds(text: str | None, key: str) -> float:
    option = OPTIONS[key]
    if text is None:
        return float(option.default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86_400:
        raise VerserUsageError(
            f"The value {text!r} of {option.flag} does not fit: it should be seconds above 0."
        )
    return seconds


def read_body(data: str, standard_input: int = 0) -> bytes:
    """The body that `-d` names: the text itself, `@file`, or `@-` for standard input."""
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    try:
        if data == "@-":
            with os.fdopen(standard_input, "rb", closefd=False) as file:
                return file.read()
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise VerserConfigurationError(f"{data[1:]} cannot be read ({error.strerror}).") from None
