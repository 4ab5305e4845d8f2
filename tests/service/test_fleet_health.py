"""What a supervisor tells of its workers while one of them comes to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.service.test_supervisor import stage
from verser2_guest_python.service.health.fleet import FleetHealth
from verser2_guest_python.service.process.worker_process import WorkerState


async def test_what_a_worker_has_counted_is_there_at_every_moment_of_its_end(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """It has ended, and its last words are waited for: a child of it keeps the socket open."""
    monkeypatch.setattr("verser2_guest_python.service.process.worker_process._LAST_WORDS_SECONDS", 60.0)
    async with stage(tmp_path, "leaves-a-child") as running:
        health = FleetHealth(running.supervisor, "guest")
        await running.ready("guest-1", "guest-2")
        before = (await health.reports())["2"]["requests_total"]
        assert before == [(["GET", "2xx"], 5)]
        await running.supervisor.remove_one()
        try:
            workers = running.supervisor.all_workers
            while not any(one.state is WorkerState.GONE for one in workers):  # noqa: ASYNC110 - tells nobody
                await asyncio.sleep(0.01)
            assert (await health.reports())["2"].get("requests_total") == before
            assert (await health.status())["requests"]["total"] == 10
        finally:
            (tmp_path / "go").touch()
        await running.log.wait("worker ended")
        assert (await health.reports())["2"].get("requests_total") == before
        assert (await health.status())["requests"]["total"] == 10
        assert await running.stop() == 0
