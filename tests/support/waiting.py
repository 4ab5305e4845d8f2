"""Waiting for what nobody tells of: an object's state, another process, a kernel's buffer.

Apart from the tests because there is one way to do it: look again soon, and not for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LIMIT_SECONDS = 60.0
"""For a machine that is busy with other things; who is right waits for milliseconds."""


async def until(holds: Callable[[], object]) -> None:
    """Until it holds."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not holds():  # noqa: ASYNC110 - what has an event is waited for by that
            await asyncio.sleep(0.005)
