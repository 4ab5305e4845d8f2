"""What systemd is told: by datagrams on a real socket, from real processes; and the unit files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, WAIT_SECONDS, start
from tests.docs.markdown import ROOT, Block, blocks_of
from tests.service.conftest import Place
from tests.service.test_serving_options import closed_port
from tests.support.certificates import Certificates
from verser2_guest_python.service.process.systemd import Notifier

DROP_INS = [block for block in blocks_of(ROOT / "docs" / "systemd.md") if block.marker == "unit"]
UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))


class Manager:
    """The end of systemd: hears datagrams."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(WAIT_SECONDS)
        self.heard: list[str] = []

    def hear(self, *words: str) -> str:
        """The next datagram with all of these words."""
        while True:
            text = self._socket.recv(4_096).decode()
            self.heard.append(text)
            if all(word in text for word in words):
                return text

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    abstract = f"@verser-{os.getpid()}-{tmp_path.name}"
    with closing(Manager(abstract if request.param == "abstract" else str(tmp_path / "notify"))) as manager:
        yield manager


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(str(tmp_path / "notify"))) as manager:
        yield manager


def test_a_notifier_says_each_thing_once(manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1", "A": "b"}
    notifier = Notifier.of_process(environ)
    assert environ == {"A": "b"}, "what it starts does not talk to systemd"
    assert notifier is not None
    notifier.status("two\nlines")
    notifier.status("two\nlines")
    notifier.ready()
    notifier.ready()
    before = time.monotonic_ns() // 1_000
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    notifier.ready()
    notifier.status("more")
    manager.hear("STOPPING=1")
    assert [text for text in manager.heard if "RELOADING" not in text] == [
        "STATUS=two lines",
        "READY=1",
        "READY=1",
        "STOPPING=1\nSTATUS=Draining",
    ]
    reloading = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.heard[2])
    assert reloading is not None
    assert before <= int(reloading[1]) <= time.monotonic_ns() // 1_000


def test_without_systemd_there_is_none_and_nobody_who_listens_harms_nothing(tmp_path: Path) -> None:
    assert Notifier.of_process({}) is None
    assert Notifier.of_process({"NOTIFY_SOCKET": "vsock:2:1"}) is None
    notifier = Notifier.of_process({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert notifier is not None
    notifier.ready()


async def test_a_guest_tells_its_life(place: Place, plain: Manager) -> None:
    env = {"NOTIFY_SOCKET": plain.address, "WATCHDOG_USEC": "1000000"}
    with place.guest("noted", **env) as process:
        plain.hear("READY=1")
        assert f"STATUS=Registered at {place.url}; 1 route, 0 requests, 0 in flight" in plain.heard
        plain.hear("WATCHDOG=1")
        async with place.broker() as broker:
            await broker.wait_for_route("noted.test")
            await (await broker.get("http://noted.test/?0")).read()
        plain.hear("STATUS=", "1 request,")
        process.send(signal.SIGHUP)
        plain.hear("RELOADING=1", "MONOTONIC_USEC=")
        plain.hear("READY=1")
        process.says('"registered"', "noted~2")
        process.send(signal.SIGTERM)
        plain.hear("STOPPING=1")
        assert process.wait() == 0


def test_a_host_that_is_away_does_not_hold_up_the_boot(place: Place, plain: Manager) -> None:
    env = place.env(NOTIFY_SOCKET=plain.address)
    arguments = list(place.arguments("away"))
    arguments[arguments.index(place.url)] = f"https://127.0.0.1:{closed_port()}"
    for more in ((), ("--workers", "2")):
        with start(*arguments, *more, env=env) as process:
            plain.hear("READY=1")
            if not more:
                assert any("refused" in text and text.startswith("STATUS=") for text in plain.heard)
            assert process.stop() == 0


async def test_a_supervisor_tells_for_its_workers(place: Place, plain: Manager) -> None:
    env = {"NOTIFY_SOCKET": plain.address, "WATCHDOG_USEC": "1000000"}
    with place.guest("gang", "--workers", "2", **env) as process:
        plain.hear("READY=1")
        plain.hear("STATUS=2 of 2 workers registered; 1 route, 0 requests, 0 in flight")
        plain.hear("WATCHDOG=1")
        process.send(signal.SIGHUP)
        plain.hear("RELOADING=1")
        plain.hear("READY=1")
        process.says('"registered"', "gang-2~2")  # by now, or the log is still being written
        process.send(signal.SIGTERM)
        plain.hear("STOPPING=1")
        assert process.wait() == 0


def test_a_host_tells_its_life(certs: Certificates, plain: Manager) -> None:
    arguments = ("--port", "0", "--tls-cert-file", certs.host, "--tls-key-file", certs.host_key)
    with start("host", *arguments, env={"NOTIFY_SOCKET": plain.address}) as process:
        plain.hear("READY=1")
        plain.hear("STATUS=0 Guests, 0 routes; 0 sessions, 0 in flight, 0 queued")
        process.send(signal.SIGHUP)
        plain.hear("RELOADING=1")
        plain.hear("READY=1")
        process.send(signal.SIGTERM)
        plain.hear("STOPPING=1")
        assert process.wait() == 0


def test_a_gateway_tells_its_life(place: Place, plain: Manager) -> None:
    """It is ready as soon as it listens; where it is registered, its status says."""
    env = {"NOTIFY_SOCKET": plain.address, "WATCHDOG_USEC": "1000000"}
    gateway = ("gateway", "--listen", "127.0.0.1:0", "--broker-id", "noted-door")
    with start(*gateway, *place.peer, env=env) as process:
        plain.hear("READY=1")
        plain.hear("WATCHDOG=1")
        said = f"STATUS=Registered at {place.url} as noted-door; 0 domains, 0 in flight, 0 WebSockets"
        if said not in plain.heard:
            assert plain.hear("STATUS=Registered") == said
        process.send(signal.SIGHUP)
        plain.hear("RELOADING=1", "MONOTONIC_USEC=")
        plain.hear("READY=1")
        process.send(signal.SIGTERM)
        plain.hear("STOPPING=1")
        assert process.wait() == 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_file_is_hardened_and_starts_what_exists(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    for line in (
        "Type=notify-reload",
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "SystemCallFilter=@system-service",
        "WatchdogSec=60",
        f"RuntimeDirectory={unit.stem}",
        f"  --health-socket %t/{unit.stem}/health.sock",
    ):
        assert f"\n{line}\n" in text
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip(
            "systemd-analyze is not installed: the unit files are not checked (Debian: apt install systemd)"
        )
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/verser2-guest/bin/verser2-guest", COMMAND[0]))
    checked = subprocess.run(
        [tool, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=WAIT_SECONDS
    )
    if "notify-reload" in checked.stderr and "Failed to parse service type" in checked.stderr:
        # Type=notify-reload came with systemd 253; what is older reads the rest
        copy.write_text(copy.read_text().replace("Type=notify-reload", "Type=notify"))
        checked = subprocess.run(
            [tool, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=WAIT_SECONDS
        )
    complaints = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert complaints == []


WORST_EXPOSURE = 1.5
"""As `systemd-analyze security` rates it, from 0 to 10; docs/systemd.md says what it is."""


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_file_exposes_little(unit: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    rated = subprocess.run(
        [tool, "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    if "unrecognized option" in rated.stderr:
        pytest.skip("this systemd-analyze cannot rate a file: --offline came with systemd 250")
    found = re.search(r"exposure level for \S+: (\d+\.\d)", rated.stdout)
    assert found is not None, rated.stdout + rated.stderr
    assert float(found[1]) <= WORST_EXPOSURE


@pytest.mark.parametrize("block", DROP_INS, ids=lambda block: block.argument)
def test_a_drop_in_of_the_page_is_read_by_systemd(block: Block, tmp_path: Path) -> None:
    unit = ROOT / "config" / "systemd" / f"{block.argument}.service"
    names = {line.partition("=")[0] for line in block.text.splitlines()[1:]}
    assert block.text.startswith("[Service]\n")
    assert names <= set(re.findall(r"^(\w+)=", unit.read_text(), re.MULTILINE)), "it changes what is there"
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed: the drop-in is not checked")
    copy = tmp_path / unit.name
    text = unit.read_text().replace("/opt/verser2-guest/bin/verser2-guest", COMMAND[0])
    copy.write_text(text.replace("Type=notify-reload", "Type=notify"))  # as above
    (tmp_path / f"{unit.name}.d").mkdir()
    (tmp_path / f"{unit.name}.d" / "port.conf").write_text(block.text)
    checked = subprocess.run(
        [tool, "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    complaints = [line for line in checked.stderr.splitlines() if unit.name in line or "port.conf" in line]
    assert complaints == []
