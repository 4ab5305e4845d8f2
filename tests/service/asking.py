"""Asks a health server as a monitoring system would, byte by byte where a test needs it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


async def raw(where: Path | tuple[str, int], data: bytes) -> bytes:
    """All that is answered to these bytes, until the other end closes."""
    if isinstance(where, Path):
        reader, writer = await asyncio.open_unix_connection(where)
    else:
        reader, writer = await asyncio.open_connection(*where)
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


async def get(where: Path | tuple[str, int], path: str, *, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    answer = await raw(where, f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def status(where: Path | tuple[str, int]) -> dict[str, Any]:
    code, body = await get(where, "/status")
    assert code == 200
    result: dict[str, Any] = json.loads(body)
    return result


async def metrics(where: Path | tuple[str, int]) -> dict[tuple[str, ...], float]:
    """Every sample by its name without prefix and the values of its labels but `le`, by their names."""
    code, body = await get(where, "/metrics")
    assert code == 200, body
    return samples(body)


def samples(text: str, prefix: str = "verser_guest_") -> dict[tuple[str, ...], float]:
    """The samples of a page of metrics; of a histogram the last bucket, count and sum."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_bucket") and sample.labels["le"] != "+Inf":
                continue
            labels = [value for name, value in sorted(sample.labels.items()) if name != "le"]
            found[(sample.name.removeprefix(prefix), *labels)] = sample.value
    return found
