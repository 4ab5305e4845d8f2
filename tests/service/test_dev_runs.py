"""Which `dev` is found: the newest that runs; what a crash left behind is noticed and removed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from verser2_guest_python.service.process.dev_runs import DevRun, announce, newest_run, withdraw


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    yield sockets
    for one in sockets:
        one.close()


def run_at(port: int, started_at: float = 1.0, pid: int | None = None) -> DevRun:
    return DevRun(
        pid=os.getpid() if pid is None else pid,
        started_at=started_at,
        port=port,
        host_url=f"https://localhost:{port}",
        ca_file="/ca.pem",
        cert_file="/broker.pem",
        key_file="/broker-key.pem",
        domains=("app.localhost",),
    )


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_without_any_there_is_none(state: Path) -> None:
    assert newest_run() is None
    assert list(state.iterdir()) == []


def test_the_newest_is_found_and_the_older_one_once_it_has_ended(listeners: list[socket.socket]) -> None:
    older, newer = (run_at(port_of(listener), at) for listener, at in zip(listeners, (1.0, 2.0), strict=True))
    paths = [announce(newer), announce(older)]
    assert newest_run() == newer
    withdraw(paths[0])
    assert newest_run() == older
    withdraw(paths[1])
    withdraw(paths[1])
    assert newest_run() is None


def test_a_process_that_crashed_is_noticed(listeners: list[socket.socket]) -> None:
    crashed = subprocess.Popen([sys.executable, "-c", ""])
    crashed.wait()
    path = announce(run_at(port_of(listeners[0]), pid=crashed.pid))
    assert newest_run() is None
    assert not path.exists()


def test_a_port_that_nobody_listens_on_is_noticed(listeners: list[socket.socket]) -> None:
    port = port_of(listeners[0])
    listeners[0].close()
    path = announce(run_at(port))
    assert newest_run() is None
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff", b'{"pid": "x"}'])
def test_a_file_that_makes_no_sense_is_skipped(content: bytes, listeners: list[socket.socket]) -> None:
    good = announce(run_at(port_of(listeners[0])))
    (good.parent / "1-1.json").write_bytes(content)
    assert newest_run() == run_at(port_of(listeners[0]))
