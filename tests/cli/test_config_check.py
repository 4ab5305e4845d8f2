"""`config check` of every role: what a gateway or a Broker would fail at, and names that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.processes import run
from tests.support.certificates import Certificates

HOST_URL = 'host_url = "https://localhost:8443"\n'


def checked(path: Path, text: str) -> tuple[int, str]:
    """Exit code, and all that is said about a file with this text."""
    path.write_text(text)
    result = run("config", "check", "--no-import-app", "--config", path, cwd=path.parent)
    return result.returncode, (result.stdout + result.stderr).decode()


def test_a_gateway_is_looked_at_as_it_looks_itself(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    code, said = checked(
        path,
        '[gateway]\nlisten = "nowhere"\nmap = ["a"]\nssl_certfile = "nowhere.pem"\n[health]\nlisten = "x"\n',
    )
    assert code == 78
    for words in (
        "--host-url is missing",
        "'nowhere' is no address",
        "'a' is no --map",
        "nowhere.pem",
        "'x'",
    ):
        assert words in said, words
    code, said = checked(path, f'{HOST_URL}[gateway]\ntrust_forwarded = ["10.0.0.0/99"]\n')
    assert (code, "10.0.0.0/99" in said) == (78, True)
    # The certificate for clients is a server's, the one for the Host a client's
    public = f'ssl_certfile = "{certs.host}"\nssl_keyfile = "{certs.host_key}"\n'
    maps = 'map = ["localhost=a.test", "shop.example=b.test"]\n'
    code, said = checked(path, f"{HOST_URL}[gateway]\n{maps}{public}")
    assert code == 0, said
    assert "a gateway listens for https on 127.0.0.1:8080" in said
    assert "the certificate is not for shop.example, which --map names" in said


def test_a_broker_is_no_guest(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    tls = f'[tls]\ncert_file = "{certs.guest}"\nkey_file = "{certs.guest_key}"\n'
    code, said = checked(path, f'broker_id = "cron"\n{HOST_URL}{tls}[broker]\nretry = 2\n')
    assert code == 0, said
    assert "cron calls through https://localhost:8443" in said
    assert "cron is no name of the certificate (guest" in said
    assert checked(path, 'host_url = "http://a.test"\n[broker]\nretry = 2\n')[0] == 78


def test_a_guest_whose_certificate_has_another_name_is_told_so(certs: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "guest.toml"
    guest = f'app = "a:b"\n{HOST_URL}routed_domains = ["a.test"]\n'
    tls = f'[tls]\ncert_file = "{certs.guest}"\nkey_file = "{certs.guest_key}"\n'
    code, said = checked(path, f'guest_id = "other"\n{guest}{tls}')
    assert code == 0, said
    name = said.partition("other is no name of the certificate (")[2].partition(")")[0].partition(",")[0]
    assert name
    for fitting in (name, f"{name}-2", f"{name}~2"):
        code, said = checked(path, f'guest_id = "{fitting}"\n{guest}{tls}')
        assert (code, "no name of" in said) == (0, False), said
    token = 'registration_token = "secret"\n'
    assert "no name of" not in checked(path, f'guest_id = "other"\n{token}{guest}{tls}')[1]


def test_the_log_and_the_socket_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    start = f"{HOST_URL}[broker]\nretry = 2\n"
    for name, text in (("log.json", "[]"), ("log.ini", "[handlers]\n"), ("log.json", "{")):
        (tmp_path / name).write_text(text)
        code, said = checked(path, f'{start}[log]\nconfig = "{name}"\n')
        assert (code, f"{name} cannot be used as logging" in said) == (78, True), said
    (tmp_path / "log.json").write_text(json.dumps({"version": 1}))
    socket = tmp_path / "nowhere" / "health.sock"
    code, said = checked(path, f'{start}[log]\nconfig = "log.json"\n[health]\nsocket = "{socket}"\n')
    assert code == 0
    assert f"there is no directory {socket.parent}" in said


def words(*arguments: object, env: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """Exit code of `config …`, and the lines on stderr."""
    result = run("config", *arguments, env=env)
    return result.returncode, result.stderr.decode().splitlines()


def test_each_role_is_looked_at_with_the_options_of_its_command(certs: Certificates, tmp_path: Path) -> None:
    pair = ("--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    good = {
        "host": (*pair, "--port", "0", "--client-ca-file", certs.ca),
        "gateway": ("--host-url", "https://localhost:1", "--listen", "127.0.0.1:0", "--map", "a=b.test"),
        "broker": ("--host-url", "https://localhost:1", "--broker-id", "cron", "--retry", "2"),
        "guest": (
            "a:b",
            "--no-import-app",
            "--host-url",
            "https://localhost:1",
            "--guest-id",
            "a",
            "--domain",
            "a.test",
        ),
    }
    for role, arguments in good.items():
        code, lines = words("check", role, *arguments)
        assert code == 0, (role, lines)
        assert run("config", "show", role, *arguments[:0]).returncode == 0
    assert words("check", "serve", *good["guest"])[0] == 0  # the command of a Guest is called so
    # What is not of this role is no option of it, and what is wrong with other roles is not its matter
    code, lines = words("check", "host", *good["host"], "--guest-id", "a")
    assert (code, len(lines)) == (2, 1)
    assert "'verser2-guest config check host --help'" in lines[0]
    assert words("check", "broker", "--host-url", "https://localhost:1", env={"VERSER_GUEST_ID": "ä"})[0] == 0
    code, lines = words("check", "--config", tmp_path / "x.toml", "host")
    assert (code, "config check host [OPTIONS]" in lines[0]) == (2, True)


def test_a_role_shows_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(
        "[host]\nport = 1\n[[host.policy]]\nname = 'all'\n[gateway]\ntimeout = 5\n"
    )
    shown = run("config", "show", "host", "--json", "--config", "host.toml", "--port", "2", cwd=tmp_path)
    values = json.loads(shown.stdout)
    assert values["host.port"] == {"value": 2, "source": "--port"}
    assert values["host.policy"]["value"] == [{"name": "all"}]
    assert not {"gateway.timeout", "guest_id", "app"} & values.keys()
    assert {"app", "leases.limit_concurrency"} <= json.loads(
        run("config", "show", "guest", "--json").stdout
    ).keys()


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    bad = ("--port", "70000", "--address", "", "--lease-timeout", "soon", "--log-level", "loud")
    env = {"VERSER_TLS_CERT_FILE": "a.pem", "VERSER_TLS__CERT_FILE": "b.pem"}
    code, lines = words("check", "host", *bad, env=env)
    assert code == 78
    for flag in ("--port", "--address", "--lease-timeout", "--log-level"):
        assert sum(f"of {flag} does not fit" in line for line in lines) == 1, lines
    assert sum("hold different values" in line for line in lines) == 1
    # The rest is looked at as well, and a value that does not fit is not missing on top
    code, lines = words("check", "--guest-id", "a", "--workers", "x", "--domain", "*.a.test", "nowhere:app")
    assert code == 78
    for told in ("of --workers does not fit", "--host-url is missing", "'*.a.test'", "no module 'nowhere'"):
        assert sum(told in line for line in lines) == 1, told
    assert len(lines) == 4
    (tmp_path / "host.toml").write_text("[[host.policy]]\ncnn = 'a'\n[[host.policy]]\nroles = 5\n")
    code, lines = words("check", "host", "--config", tmp_path / "host.toml")
    assert [line.partition("host.toml:")[2][:1] for line in lines if "host.toml:" in line] == ["1", "3"]
    # A start tells all of them too, and ends as a start does
    for command, first in (("host", bad), ("gateway", ("--timeout", "x", "--limit-concurrency", "0"))):
        result = run(command, *(value for value in first if value not in ("--log-level", "loud")))
        assert result.returncode == 2
        told_lines = result.stderr.decode().splitlines()
        assert all(line.startswith("verser2-guest: The value ") for line in told_lines)
        assert len(told_lines) == (3 if command == "host" else 2)


def test_values_of_the_wrong_kind_are_told_in_plain_words(tmp_path: Path) -> None:
    text = '[workers]\nworkers = "two"\nreload = "maybe"\n'
    text += '[broker]\ntimeout = "5s"\nretry = 1.5\nwait = true\n'
    code, said = checked(tmp_path / "broker.toml", text)
    assert code == 78
    for key, wanted in (
        ("workers.workers", "a whole number"),
        ("workers.reload", "true or false"),
        ("broker.timeout", "a number, such as 2.5"),
        ("broker.retry", "a whole number"),
    ):
        assert any(key in line and line.endswith(f"should be {wanted}.") for line in said.splitlines()), key
    assert any("broker.wait" in line and "should not be true or false" in line for line in said.splitlines())
