"""The hook that runs async tests fails what it promises to fail, on either loop."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

TESTS = """
import asyncio
import pytest

async def test_passes(tmp_path):
    await asyncio.sleep(0)

@pytest.mark.both_loops
@pytest.mark.parametrize("number", [1, 2])
async def test_passes_with_parameters(number, tmp_path):
    await asyncio.sleep(0)

class TestClass:
    async def test_method_passes(self):
        await asyncio.sleep(0)

async def test_skips():
    pytest.skip("no reason")

async def test_fails_by_itself():
    assert 1 + 1 == 3

@pytest.mark.both_loops
async def test_leaves_a_task():
    globals()["kept"] = asyncio.create_task(asyncio.sleep(100), name="forgotten")

@pytest.mark.both_loops
async def test_awaits_nothing():
    asyncio.sleep(0)

@pytest.mark.both_loops
async def test_nobody_takes_the_exception():
    async def fail():
        raise ValueError("nobody took me")
    asyncio.create_task(fail())
    await asyncio.sleep(0)

@pytest.mark.both_loops
async def test_a_callback_fails():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)

@pytest.mark.both_loops
@pytest.mark.limit(0.2)
async def test_waits_for_ever():
    async def wait_for_the_impossible():
        await asyncio.get_running_loop().create_future()
    await wait_for_the_impossible()

async def test_leaves_a_connection_open():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    await asyncio.open_connection(*server.sockets[0].getsockname())
    server.close()
"""


@pytest.mark.filterwarnings("default")
def test_what_the_hook_fails(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    settings = (ROOT / "pyproject.toml").read_text()
    pytester.makepyprojecttoml(settings.replace('pythonpath = ["."]', f'pythonpath = ["{ROOT.as_posix()}"]'))
    pytester.makepyfile(test_samples=TESTS)
    result = pytester.runpytest_subprocess("test_samples.py", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=6, skipped=1, failed=12)
    result.stdout.fnmatch_lines_random(
        [
            "*The test leaves tasks running: forgotten*",
            "*coroutine 'sleep' was never awaited*",
            "*nobody took me*",
            "*ZeroDivisionError*",
            "*The test took longer than 0.2 s*",
            "*in wait_for_the_impossible*",
            "*unclosed transport*",
        ]
    )
