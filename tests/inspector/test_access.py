"""Who may look: each rule through real HTTP, as it would be broken by somebody who must not."""

from __future__ import annotations

import json

import httpx2
import pytest
import websockets

from tests.inspector.stage import DOMAIN, Stage, stage
from tests.support.certificates import Certificates
from verser2_guest_python.service.inspector.access import Access, Refused, is_loopback, is_own_name

PAGE = "/_verser/"
EVENTS = "/_verser/api/events"
CLEAR = "/_verser/api/clear"


def check_common(response: httpx2.Response) -> None:
    headers = response.headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def check_refused(response: httpx2.Response, status: int, words: str) -> None:
    assert (response.status_code, words in response.text) == (status, True), response.text
    assert "set-cookie" not in response.headers
    check_common(response)


async def test_the_token_becomes_a_cookie_and_leaves_the_address(certs: Certificates) -> None:
    async with stage(certs) as place, place.client() as client:
        url = place.inspector.url(place.base)
        assert url == f"{place.base}/_verser/?token={place.inspector.token}"
        assert len(place.inspector.token) >= 22  # 128 bits
        response = await client.get(url)
        assert (response.status_code, response.headers["location"]) == (303, PAGE)
        check_common(response)
        cookie, *attributes = response.headers["set-cookie"].split("; ")
        assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/_verser/"}
        assert place.inspector.token not in cookie
        page = await client.get(PAGE)
        assert (page.status_code, "<title>Inspector</title>" in page.text) == (200, True)
        check_common(page)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; frame-ancestors 'none'")
        assert "unsafe" not in policy


async def test_every_file_of_the_page_is_there_and_holds_no_inline_code(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        page = (await client.get(PAGE)).text
        assert "style=" not in page
        assert "<style" not in page
        assert " on" not in page.replace(" one", "")
        assert page.count("<script") == page.count('<script type="module" src=') == 1
        for name in ("app.js", "charts.js", "details.js", "dom.js", "list.js", "style.css", "icon.svg"):
            response = await client.get(PAGE + name)
            assert response.status_code == 200, name
            assert "innerHTML" not in response.text
            assert "http://" not in response.text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in response.text
            check_common(response)


async def test_nothing_without_the_cookie(certs: Certificates) -> None:
    async with stage(certs) as place, place.client(origin=place.base) as client:
        await place.fetch()
        for path in (PAGE, PAGE + "app.js", EVENTS, PAGE + "api/requests/1", PAGE + "no-such"):
            check_refused(await client.get(path), 401, "Open the URL that was printed")
        check_refused(await client.get(PAGE + "api/requests/1/response-body"), 401, "Open the URL")
        check_refused(await client.post(CLEAR), 401, "Open the URL")
        check_refused(await client.get(PAGE + "?token=" + "x" * 43), 401, "not the one of this run")
        check_refused(await client.get(PAGE + "?token=é"), 401, "not the one of this run")
        client.cookies.set(f"verser_inspector_{place.port}", place.inspector.token)
        check_refused(await client.get(PAGE), 401, "Open the URL")
        assert len(place.recorder) == 1


async def test_the_token_opens_only_the_page(certs: Certificates) -> None:
    async with stage(certs) as place, place.client() as client:
        check_refused(await client.get(f"{EVENTS}?token={place.inspector.token}"), 401, "Open the URL")


@pytest.mark.parametrize(
    "host",
    ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "shop.localhost:{port}", "LocalHost:{port}"],
)
async def test_names_of_this_machine(certs: Certificates, host: str) -> None:
    async with stage(certs) as place, place.client(host=host.format(port=place.port)) as client:
        response = await client.get(place.inspector.url(""))
        assert response.status_code == 303


async def test_names_that_are_made_to_point_here(certs: Certificates) -> None:
    async with stage(certs) as place:
        for host in (
            f"evil.example:{place.port}",
            "localhost",
            f"localhost:{place.port + 1}",
            f"localhost.evil.example:{place.port}",
            f"notlocalhost:{place.port}",
            f".localhost:{place.port}",
            f"192.168.0.7:{place.port}",
            f"localhost:{place.port}@evil.example",
        ):
            async with place.client(host=host, origin=f"http://{host}") as client:
                for path in (place.inspector.url(""), EVENTS, PAGE + "app.js"):
                    check_refused(await client.get(path), 421, "localhost")
                check_refused(await client.post(CLEAR), 421, "localhost")


def test_which_names_are_ours() -> None:
    assert is_own_name("localhost", 80)
    assert is_own_name("localhost", 443, "https")
    assert not is_own_name("localhost", 80, "https")
    assert is_own_name("[::1]", 80)
    assert not is_own_name("[::1]", 8080)
    assert not is_own_name("", 80)
    assert not is_own_name("localhost:8080", None)


async def test_what_comes_through_a_proxy_is_refused(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        for name in ("x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via"):
            check_refused(await client.get(PAGE, headers={name: "127.0.0.1"}), 403, "not through a proxy")


@pytest.mark.parametrize(
    "client", [("192.168.0.7", 5), ("2001:db8::1", 5), ("10.0.0.1", 5), None, ("unknown", 0)]
)
def test_other_machines_are_refused(client: tuple[str, int] | None) -> None:
    scope = {
        "type": "http",
        "headers": [(b"host", b"localhost:80")],
        "client": client,
        "server": ("127.0.0.1", 80),
    }
    with pytest.raises(Refused, match="this machine only"):
        Access().check_place(scope)


def test_which_addresses_are_loopback() -> None:
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert is_loopback(address), address
    for address in ("::ffff:192.168.0.7", "192.168.0.7", "", "localhost", "169.254.0.1", "fe80::1%eth0"):
        assert not is_loopback(address), address


async def test_posts_of_other_pages_are_refused(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as visitor:
        await place.fetch()
        cookies = visitor.cookies
        async with httpx2.AsyncClient(base_url=place.base, cookies=cookies, trust_env=False) as client:
            check_refused(await client.post(CLEAR), 403, "another page")  # no origin at all
            for origin in (
                "null",
                "http://evil.example",
                f"https://localhost:{place.port}",
                "http://localhost",
                f"http://localhost:{place.port}.evil.example",
                f"http://{DOMAIN}:{place.port}",  # the app itself
            ):
                for path in (CLEAR, PAGE + "api/requests/1/replay"):
                    check_refused(await client.post(path, headers={"origin": origin}), 403, "another page")
                check_refused(await client.get(EVENTS, headers={"origin": origin}), 403, "another page")
            for site in ("cross-site", "same-site"):
                headers = {"origin": place.base, "sec-fetch-site": site}
                check_refused(await client.get(PAGE + "app.js", headers=headers), 403, "another page")
                check_refused(await client.post(CLEAR, headers=headers), 403, "another page")
            assert len(place.recorder) == 1
            headers = {"origin": place.base, "sec-fetch-site": "same-origin"}
            assert (await client.post(CLEAR, headers=headers)).status_code == 200
            assert len(place.recorder) == 0


async def test_websockets_are_refused_whatever_their_origin(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as visitor:
        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        for origin in ("http://evil.example", None, place.base):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(
                    f"ws://localhost:{place.port}{EVENTS}",
                    origin=websockets.Origin(origin) if origin else None,
                    additional_headers={"cookie": cookie},
                    proxy=None,
                )
            assert refused.value.response.status_code == 403


async def test_captured_bodies_run_nothing(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        kinds = {
            "image/svg+xml": ("image/svg+xml", "inline"),
            "text/html": ("text/plain; charset=utf-8", "inline"),
            "application/javascript": ("text/plain; charset=utf-8", "inline"),
            "application/json": ("text/plain; charset=utf-8", "inline"),
            "application/pdf": ("application/octet-stream", "attachment"),
            "x/y\tz": ("application/octet-stream", "attachment"),
        }
        for number, (given, (served, disposition)) in enumerate(kinds.items(), 1):
            script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
            await place.fetch(
                "/x", "POST", body=script, headers={"content-type": given, "x-want-type": given}
            )
            for side in ("request-body", "response-body"):
                response = await client.get(f"{PAGE}api/requests/{number}/{side}")
                assert response.content == script
                assert response.headers["content-type"] == served
                assert response.headers["content-disposition"].startswith(disposition)
                assert response.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
                assert "allow-" not in response.headers["content-security-policy"]
                check_common(response)


async def test_methods_and_paths_that_are_none(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        for method, path, status in (
            ("GET", PAGE + "no-such", 404),
            ("GET", PAGE + "../pyproject.toml", 200),  # which the client makes /pyproject.toml: the app's
            ("GET", PAGE + "..%2f..%2fpyproject.toml", 404),
            ("GET", PAGE + "static/app.js", 404),
            ("GET", PAGE + "api/requests/999", 404),
            ("GET", PAGE + "api/requests/-1", 404),
            ("GET", PAGE + "api/requests/" + "9" * 5000, 404),
            ("GET", PAGE + "api/requests/999/replay", 405),
            ("POST", PAGE, 405),
            ("POST", PAGE + "api/requests/999/replay", 404),
            ("PUT", PAGE, 405),
            ("DELETE", PAGE + "api/requests/1", 405),
            ("OPTIONS", PAGE, 405),
            ("HEAD", PAGE, 200),
            ("GET", "/_verser", 308),
            ("GET", "/_verserly", 200),
        ):
            response = await client.request(method, path)
            assert response.status_code == status, (method, path)
            assert method != "HEAD" or not response.content


async def test_all_else_is_the_apps(certs: Certificates) -> None:
    async with stage(certs) as place, place.client(host="anything.example") as client:
        response = await client.get("/", headers={"x-forwarded-for": "10.0.0.1"})
        assert response.text.endswith("the app")
        assert "content-security-policy" not in response.headers


async def test_two_inspectors_on_one_machine_do_not_share_a_cookie(certs: Certificates) -> None:
    async with stage(certs) as one, stage(certs) as other, one.visitor() as client:
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        async with other.client(cookie=cookie) as stranger:
            check_refused(await stranger.get(PAGE), 401, "Open the URL")


async def details(place: Stage, client: httpx2.AsyncClient, number: int) -> dict[str, object]:
    response = await client.get(f"{PAGE}api/requests/{number}")
    assert response.status_code == 200, response.text
    answer: dict[str, object] = json.loads(response.content)
    return answer


async def test_secrets_are_marked(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        await place.fetch(
            "/x?token=abc&page=1",
            headers={
                "authorization": "Bearer abc",
                "accept": "text/html",
                "x-want-cookie": "yes",
            },
        )
        view = await details(place, client, 1)
        assert view["path"] == [["/x?token=", False], ["abc", True], ["&page=1", False]]
        requested = {field["name"]: field["value"] for field in view["requestHeaders"]}  # type: ignore[attr-defined]
        answered = {field["name"]: field["value"] for field in view["responseHeaders"]}  # type: ignore[attr-defined]
        assert requested["authorization"] == [["Bearer abc", True]]
        assert requested["accept"] == [["text/html", False]]
        assert answered["set-cookie"] == [["sid=other-secret; HttpOnly", True]]


async def test_the_server_can_stop_while_somebody_looks(certs: Certificates) -> None:
    async with stage(certs) as place, place.visitor() as client:
        reader, writer = await place.viewer(client)
        place.inspector.close()
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
