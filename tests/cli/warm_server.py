"""Starts commands quickly: a process that has imported everything, and forks for each of them.

`warm_server.py SOCKET`. A client sends one JSON object (arguments, environment, directory) and the
descriptors of standard input, output and error; it gets the process id and, at the end, the exit code, a
line each. The server ends with its standard input. The command itself is as real as any: its own
process, environment, signals and exit code. What it does not show is a cold start, which other tests see to.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

MODULES = (
    "uvloop",
    *(
        f"verser2_guest_python.{name}"
        for name in (
            "broker.broker",
            "cli.broker",
            "cli.dev",
            "cli.main",
            "cli.serve",
            "guest.guest",
            "host.host",
            "http2.inspection",
            "service.calls.call",
            "service.dev.stack",
            "service.daemons.run",
            "service.dev.run",
            "service.daemons.guest",
            "service.daemons.workers",
        )
    ),
)
MAX_REQUEST_BYTES = 1 << 20


def serve(path: str) -> dict[str, Any]:
    """Returns in every process that is to become a command, with what it was asked for."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:  # whoever started us is gone
            shutil.rmtree(Path(path).parent, ignore_errors=True)
            os._exit(0)
        client, _ = listener.accept()
        with client:
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return attend(client)


def attend(client: socket.socket) -> dict[str, Any]:
    """Forks once more, waits for the command, and tells the client."""
    data, descriptors, _, _ = socket.recv_fds(client, MAX_REQUEST_BYTES, 3)
    while not data.endswith(b"\n"):
        data += client.recv(MAX_REQUEST_BYTES)
    reading, writing = os.pipe()  # the command begins when its client knows of it
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        client.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        request: dict[str, Any] = json.loads(data)
        return request
    for descriptor in (*descriptors, 0, 1, 2):
        os.close(descriptor)
    client.sendall(b"%d\n" % pid)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    try:
        client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    except OSError:
        os._exit(1)  # the client is gone
    os._exit(0)


def warm_up() -> None:
    """Imports what commands import."""
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


warm_up()
asked = serve(sys.argv[1])
os.environ.clear()
os.environ.update(asked["environment"])
os.chdir(asked["directory"])
sys.argv[:] = asked["arguments"]
sys.path[0] = str(Path(sys.argv[0]).parent)
signal.signal(signal.SIGINT, signal.default_int_handler)

from verser2_guest_python.cli.main import main  # noqa: E402

main()
