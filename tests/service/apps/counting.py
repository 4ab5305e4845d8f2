"""An app that keeps a journal of what it was asked, so that a test can count: `/?17` answers `17`.

Each line of the journal (`COUNTING_JOURNAL`) is a number and the process that answered. `/slow?SECONDS`
takes its time, `/block` stops the loop; `/orphan` leaves a process behind whose parent has ended, and
answers its id.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

JOURNAL = os.open(os.environ["COUNTING_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
TURNS = 5
TURN_SECONDS = 0.01


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    body = ""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    query = scope["query_string"].decode()
    if scope["path"] == "/slow":
        note("slow began")
        await asyncio.sleep(float(query))
        body = "slow"
    elif scope["path"] == "/block":
        note("blocked")
        time.sleep(600)
    elif scope["path"] == "/orphan":
        body = str(orphan())
    else:
        note(query)
        await asyncio.sleep(int(query) % TURNS * TURN_SECONDS)
        body = query
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body.encode()})


def note(text: str) -> None:
    os.write(JOURNAL, f"{text} {os.getpid()}\n".encode())


def orphan() -> int:
    """A process whose parent is gone, and which ends soon: whoever is process 1 has to reap it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild:
            os.write(writing, b"%d" % grandchild)
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 20))
