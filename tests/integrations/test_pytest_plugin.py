"""The fixtures as a user has them: real runs of pytest, in a directory of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

APP = """
import json

class App:
    def __init__(self):
        self.lifespan = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            self.lifespan.append((await receive())["type"])
            await send({"type": "lifespan.startup.complete"})
            self.lifespan.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = json.dumps({"hello": "world", "path": scope["path"]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

app = App()
"""
NO_ASYNC_PLUGINS = ["-p", "no:anyio", "-p", "no:asyncio"]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(shop=APP)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=50)


def test_plain_tests_with_no_plugin_for_asynchronous_ones(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import threading

        import pytest
        from shop import App, app
        from verser2_guest_python import create_verser_broker
        from verser2_guest_python.integrations.sync import SyncVerserBroker

        used = App()


        def test_three_lines(verser_client):
            client = verser_client(app)
            assert client.get("/items").json() == {"hello": "world", "path": "/items"}


        def test_options_and_several_apps(verser_client):
            one = verser_client(app, headers={"x-test": "1"})
            two = verser_client(used, domain="shop.test")
            assert one.headers["x-test"] == "1"
            assert str(one.base_url) == "http://app.test"
            assert str(two.base_url) == "http://shop.test"
            assert two.get("/").status_code == one.get("http://shop.test/").status_code == 200
            assert used.lifespan == ["lifespan.startup"]


        def test_the_app_ended_with_the_test_before():
            assert used.lifespan == ["lifespan.startup", "lifespan.shutdown"]


        def test_a_guest_and_a_broker_of_my_own(verser_host, verser_guest):
            guest = verser_guest(app, domain="shop.test", guest_id="shop")
            (route,) = verser_host.get_routes()
            assert (route.target_id, route.domain) == ("shop", "shop.test")
            broker = create_verser_broker(host_url=verser_host.url, tls_ca_file=verser_host.ca_file)
            with SyncVerserBroker(broker) as broker:
                assert broker.get(f"{guest.url}/").json()["hello"] == "world"


        @pytest.fixture(scope="module")
        def shared(verser_host):
            with verser_host.client(app) as client:
                yield client


        @pytest.mark.parametrize("number", range(3))
        def test_a_client_for_many_tests(shared, number):
            assert shared.get(f"/{number}").json()["path"] == f"/{number}"


        def test_a_failing_test_ends_in_good_order(verser_client):
            with verser_client(app).stream("GET", "/") as response:
                assert response.status_code == 404
    """)
    result = run(pytester, *NO_ASYNC_PLUGINS)
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(["*assert 200 == 404*"])
    assert result.stderr.str() == ""


ASYNCHRONOUS = """
    import asyncio

    import pytest
    from shop import app

    {mark}


    async def test_an_asynchronous_client(verser_async_client):
        async with verser_async_client(app) as client:
            answers = await asyncio.gather(*(client.get(f"/{{number}}") for number in range(10)))
        assert [answer.json()["path"] for answer in answers] == [f"/{{number}}" for number in range(10)]


    async def test_a_plain_client(verser_client, verser_host):
        assert verser_client(app).get("/").status_code == 200
        assert asyncio.get_running_loop() is not None


    async def test_a_guest(verser_guest, verser_async_client):
        guest = verser_guest(app, domain="shop.test")
        async with verser_async_client(guest) as client:
            assert str(client.base_url) == "http://shop.test"
            assert (await client.get("/")).status_code == 200


    def test_a_plain_test_among_them(verser_client):
        assert verser_client(app).get("/").status_code == 200
"""


def test_asynchronous_tests_of_anyio(pytester: pytest.Pytester) -> None:
    pytest.importorskip("anyio")
    pytester.makepyfile(ASYNCHRONOUS.format(mark="pytestmark = pytest.mark.anyio"))
    pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
    """)
    run(pytester, "-p", "no:asyncio").assert_outcomes(passed=4)


def test_asynchronous_tests_of_pytest_asyncio(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_asyncio")
    pytester.makepyfile(ASYNCHRONOUS.format(mark=""))
    options = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    run(pytester, *options).assert_outcomes(passed=4)


@pytest.mark.slow
def test_several_processes_of_xdist(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile("""
        import pytest
        from shop import app

        @pytest.mark.parametrize("number", range(6))
        def test_one(verser_client, number):
            assert verser_client(app).get(f"/{number}").json()["path"] == f"/{number}"
    """)
    run(pytester, *NO_ASYNC_PLUGINS, "-n", "2").assert_outcomes(passed=6)


def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_one(verser_client):
            pass
    """)
    result = run(pytester, *NO_ASYNC_PLUGINS, "-p", "no:verser2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'verser_client' not found*"])


def test_loading_it_loads_nothing_heavy() -> None:
    program = """
import sys
import pytest
before = set(sys.modules)
import verser2_guest_python.integrations.pytest
print(sorted(name for name in set(sys.modules) - before if not name.startswith("importlib")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {
        "verser2_guest_python",
        "verser2_guest_python.integrations",
        "verser2_guest_python.integrations.pytest",
    }
    assert set(eval(done.stdout)) == loaded  # noqa: S307 - a list of names
