"""The image: what its Dockerfile promises, and that its steps make what serves, without an engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from tests.cli.processes import WAIT_SECONDS, host_process
from tests.containers.dockerfile import read_dockerfile, sent_to_the_engine
from tests.containers.sandbox import Image, why_not
from tests.docs.markdown import ROOT, blocks_of
from tests.docs.playing import free_port
from tests.docs.test_docs import parse
from tests.service.conftest import registered
from tests.support.certificates import Certificates, Identity, make_identity
from verser2_guest_python import create_verser_broker
from verser2_guest_python.service.settings.model import SessionSettings

STAGES = read_dockerfile(ROOT / "Dockerfile")
FINAL = STAGES[-1]
EXAMPLE = ROOT / "config" / "container"
PAGE = ROOT / "docs" / "containers.md"  # docs/containers.md
BUILD, RUN, OWN_IMAGE, COMPOSE, ASK, ANSWERS = (
    block.text for block in blocks_of(PAGE) if block.marker == "tested"
)
SOCKET = "/run/verser2-guest/health.sock"

APP = """\
import os, subprocess

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/orphan":
        # Its parent ends at once: it is left to the first process of the container
        subprocess.run(["sh", "-c", "sleep 0.01 &"], check=True)
    try:
        open("/app/written", "w").close()
        said = "written"
    except OSError as error:
        said = f"{os.getuid()} {os.getppid()} {os.environ['HOME']} {error.strerror}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said.encode()})
"""


SLEEPY = """\
import sys, time

print("importing", file=sys.stderr, flush=True)
time.sleep(600)
"""


def test_nothing_of_building_is_in_the_image() -> None:
    assert len(STAGES) == 2
    assert [one.rest for one in FINAL.all("COPY")] == ["--from=build /opt/verser2-guest /opt/verser2-guest"]
    assert all("pip" not in one.rest and "apt" not in one.rest for one in FINAL.all("RUN"))
    assert all(stage.base.startswith("python:") and "-slim" in stage.base for stage in STAGES)


def test_all_that_is_installed_is_locked() -> None:
    installs = [line for one in STAGES[0].all("RUN") for line in one.rest.split("&&") if " install " in line]
    assert len(installs) == 4
    assert all("--require-hashes" in line for line in installs[:3])
    assert "--no-deps /dist/" in installs[3]
    lock = (ROOT / "requirements" / "container.txt").read_text()
    for name in ("h2", "jh2", "uvicorn", "prometheus-client", "opentelemetry-sdk", "a2wsgi", "python-socks"):
        assert f"\n{name}==" in lock
    assert "\npytest==" not in lock


def test_it_runs_as_nobody_in_particular_and_can_be_asked_how_it_is() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", FINAL.last("USER").rest), "numbers, which Kubernetes can check"
    assert FINAL.last("ENTRYPOINT").words() == ["verser2-guest"]
    assert FINAL.last("HEALTHCHECK").words() == ["verser2-guest", "health"]
    assert FINAL.environment()["VERSER_HEALTH__SOCKET"] == SOCKET
    labels = FINAL.last("LABEL").pairs()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]


def test_only_what_is_needed_is_sent_to_the_engine() -> None:
    sent = sent_to_the_engine(ROOT)
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements/container.txt"} <= sent
    assert {name.partition("/")[0] for name in sent} == {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements",
        "src",
    }
    assert not any("__pycache__" in name for name in sent)


def test_the_page_tells_to_do_what_works() -> None:
    """All that an engine would read into the commands; what they do is done below."""
    assert shlex.split(BUILD) == ["docker", "build", "-t", "verser2-guest", "."]
    words = shlex.split(RUN.replace("\\\n", " "))
    name = words.index("verser2-guest")
    assert words[:name] == [
        *("docker", "run", "--rm", "--read-only", "--tmpfs", SOCKET.rpartition("/")[0]),
        *("-v", f"$PWD:{FINAL.last('WORKDIR').rest}:ro"),
    ]
    parse(words[name + 1 :])
    build, enter, up = map(shlex.split, COMPOSE.splitlines())
    assert build == shlex.split(BUILD)
    assert enter == ["cd", EXAMPLE.relative_to(ROOT).as_posix()]
    assert up == ["docker", "compose", "up", "--build"]
    gateway = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]["gateway"]
    [port] = gateway["ports"]
    for line in ASK.splitlines():
        assert shlex.split(line) == ["curl", f"http://localhost:{port.split(':')[-2]}/"]


def test_the_image_of_the_page_runs_as_its_base_does(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(OWN_IMAGE)
    [stage] = read_dockerfile(tmp_path / "Dockerfile")
    assert stage.base == "verser2-guest"
    assert stage.last("USER") == FINAL.last("USER")


@pytest.mark.slow
async def test_an_app_is_served_as_the_page_says(image: Image, certs: Certificates, tmp_path: Path) -> None:
    """Mounted where the page mounts it, and in the image that the page makes, with packages of its own."""
    shutil.copy(ROOT / "examples" / "hello.py", image.path("/app/hello.py"))
    image.path("/app/ca.pem").write_bytes(certs.ca.read_bytes())
    words = shlex.split(RUN.replace("\\\n", " "))
    arguments = words[words.index("verser2-guest") + 1 :]
    with host_process(certs.host, certs.host_key) as port:
        url = f"https://localhost:{port}"
        arguments = [word.replace("https://host.example:8443", url) for word in arguments]
        with image.start(*arguments) as container:
            await registered(container, "guest-a")
            assert await asyncio.to_thread(container.stop) == 0, container.transcript()

        (tmp_path / "Dockerfile").write_text(OWN_IMAGE)
        lock = (ROOT / "requirements" / "test.txt").read_text()
        package = re.search(r"^itsdangerous==.*\n(?:    --hash.*\n)+", lock, re.MULTILINE)
        assert package is not None
        (tmp_path / "requirements.txt").write_text(package[0])
        (tmp_path / "shop").mkdir()
        app = (ROOT / "examples" / "hello.py").read_text()
        (tmp_path / "shop" / "__init__.py").write_text(f"{app}\nimport itsdangerous  # noqa\n")
        (tmp_path / "verser2-guest.toml").write_text(
            f'app = "shop:app"\nhost_url = "{url}"\nguest_id = "shop"\nrouted_domains = ["shop.test"]\n'
            '[tls]\nca_file = "ca.pem"\n'
        )
        image.extend(read_dockerfile(tmp_path / "Dockerfile")[0], tmp_path)
        with image.start() as container:
            await registered(container, "shop")
            assert await asyncio.to_thread(container.stop) == 0, container.transcript()
    for name in ("requirements.txt", "verser2-guest.toml"):
        image.path(f"/app/{name}").unlink()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What all instructions of the Dockerfile make."""
    if reason := why_not():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("image")
    for parent in (directory, directory.parent):
        parent.chmod(0o755)
    sent = sent_to_the_engine(ROOT)
    images: dict[str, Image] = {}
    for stage in STAGES:
        images[stage.name] = Image(stage, directory / (stage.name or "final"))
        images[stage.name].build(ROOT, sent, images)
    return images[FINAL.name]


@pytest.mark.slow
async def test_its_steps_make_an_image_that_serves(image: Image, certs: Certificates) -> None:
    """As the first process, not as root, with a file system that cannot be written to."""
    venv = image.root / "opt/verser2-guest"
    assert not [path for path in venv.rglob("*") if path.name in {"uv", "pip", "gcc", "hatchling"}]
    assert list(venv.rglob("verser2_guest_python/__pycache__/*.pyc")), "nothing is compiled at the start"
    image.path("/app/containerized.py").write_text(APP)
    image.path("/app/ca.pem").write_bytes(certs.ca.read_bytes())
    names = ("--guest-id", "boxed", "--domain", "boxed.test", "--tls-ca-file", "ca.pem", "--workers", "2")
    with host_process(certs.host, certs.host_key) as port:
        await serve_from(image, f"https://localhost:{port}", certs, names)


async def serve_from(image: Image, host_url: str, certs: Certificates, names: tuple[str, ...]) -> None:
    with image.start("containerized:app", "--host-url", host_url, *names) as container:
        await registered(container, "boxed-1", "boxed-2")
        health = FINAL.last("HEALTHCHECK").words()
        asked = await asyncio.to_thread(container.execute, *health)
        assert (asked.returncode, asked.stderr) == (0, ""), asked
        async with create_verser_broker(host_url=host_url, tls_ca_file=certs.ca) as broker:
            await broker.wait_for_route("boxed.test")
            for _ in range(4):
                body = await (await broker.get("http://boxed.test/orphan")).read()
                assert body == b"10001 1 /app Read-only file system"
        while zombies(container.first):  # noqa: ASYNC110 - reaped by another process, which tells nobody
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(container.stop) == 0, container.transcript()
    assert json.loads(container.stderr[-1])["event"] == "stopped"


@pytest.mark.slow
def test_the_example_works_as_a_whole(image: Image) -> None:
    """The services of the compose file, each in a container of the image that its Dockerfile makes."""
    image.extend(read_dockerfile(EXAMPLE / "Dockerfile")[0], EXAMPLE)
    ports = {shown: str(free_port()) for shown in ("8443", "8080")}
    for file in image.path("/app").glob("*.toml"):
        text = file.read_text()
        for shown, port in ports.items():
            text = text.replace(shown, port)
        file.write_text(text)
    with (image.root / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 host\n")  # containers share the network here
    services = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]
    image.once(*services.pop("certificates")["entrypoint"])
    health = FINAL.last("HEALTHCHECK").words()
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(image.start(*service["command"], **service.get("environment", {})))
            for name, service in services.items()
        }
        running["gateway"].says('"registered"')
        for name in ("guest-1", "guest-2"):
            running[name].says('"registered"')
        for name, container in running.items():
            done = container.execute(*health)
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        answers = set()
        while len(answers) < 2:  # both Guests are asked in turn
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['8080']}/", timeout=WAIT_SECONDS) as answer:
                answers.add(answer.read().decode())
        assert answers == set(ANSWERS.splitlines(keepends=True)), "what the page shows"
        for name in reversed(running):
            assert running[name].stop() == 0, running[name].transcript()


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_all_that_it_needs_comes_in_wheels(tmp_path: Path, machine: str) -> None:
    """For the Python of the image, which need not be that of this machine."""
    found = re.match(r"python:(\d+\.\d+)-", FINAL.base)
    assert found is not None
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "install", "--dry-run", "--target", tmp_path),
            *("--python-version", found[1], "--python-platform", f"{machine}-manylinux_2_28"),
            *("--only-binary", ":all:", "--require-hashes"),
            *("-r", ROOT / "requirements" / "container.txt"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_ends_when_told_to_at_any_time(image: Image) -> None:
    """The first process of a container does not end by itself at a signal that it does not handle."""
    image.path("/app/sleepy.py").write_text(SLEEPY)
    settings = 'app = "sleepy:app"\nguest_id = "sleepy"\nrouted_domains = ["sleepy.test"]\n'
    image.path("/app/verser2-guest.toml").write_text(settings)
    with image.start(VERSER_HOST_URL="https://localhost:1") as container:
        container.says("importing")
        assert container.stop() == 143, container.transcript()
    image.path("/app/verser2-guest.toml").unlink()


class Secret:
    """Files as a kubelet mounts them: behind a link to a directory, which is replaced as a whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._versions = 0
        directory.mkdir(parents=True)

    def put(self, identity: Identity, authority: Identity) -> None:
        self._versions += 1
        version = self._directory / f"..{self._versions}"
        version.mkdir()
        files = {
            "tls.crt": identity.certificate_pem,
            "tls.key": identity.key_pem(),
            "ca.crt": authority.certificate_pem,
        }
        for name, content in files.items():
            (version / name).write_bytes(content)
            (version / name).chmod(0o440)
            os.chown(version / name, 0, 10001)
            if not (self._directory / name).is_symlink():
                (self._directory / name).symlink_to(f"..data/{name}")
        (self._directory / "..data_tmp").symlink_to(version.name)
        (self._directory / "..data_tmp").replace(self._directory / "..data")


@pytest.mark.slow
def test_the_configuration_for_kubernetes_works_as_a_whole(image: Image) -> None:
    """Two Hosts, two Guests called after Pods, and a gateway; then the Secrets change, and a Host leaves."""
    base = ROOT / "config" / "kubernetes" / "base"
    image.path("/app/hello.py").write_text((EXAMPLE / "hello.py").read_text())
    authority = make_identity("CA", authority=True)
    hosts = {f"verser2-host-{number}.verser2-host": f"127.0.0.{number + 2}" for number in range(2)}
    with (image.root / "etc/hosts").open("a") as file:
        file.writelines(f"{address} {name}\n" for name, address in hosts.items())
    secrets = {}
    for role in ("host", "guest", "gateway"):
        secrets[role] = Secret(image.root / "secrets" / role)
        names = tuple(x509.DNSName(name) for name in hosts) if role == "host" else ()
        common = {"host": "verser2-host", "guest": "hello", "gateway": "verser2-gateway"}[role]
        secrets[role].put(make_identity(common, authority, names=names), authority)
    port, public = str(free_port()), str(free_port())

    def configured(role: str, name: str, listen: str = "") -> str:
        """The path of the file for one container: its Secret, and ports that are free on this machine."""
        text = (base / role / f"{role}.toml").read_text().replace("/certificates/", f"/secrets/{role}/")
        for shown, real in (("8443", port), ("8080", public), ("9464", str(free_port()))):
            text = text.replace(shown, real)
        if listen:
            text = text.replace('address = "0.0.0.0"', f'address = "{listen}"')
        text = text.replace("reload_interval = 30", "reload_interval = 0.1")
        image.path(f"/app/{name}.toml").write_text(text)
        return f"{name}.toml"

    with ExitStack() as stack:
        first, second = (
            stack.enter_context(image.start("host", "--config", configured("host", name, address)))
            for name, address in hosts.items()
        )
        guests = {}
        for name in ("hello-5d9c-abcde", "hello-5d9c-fghij"):
            config = configured("guest", name)
            guests[name] = stack.enter_context(image.start("--config", config, VERSER_GUEST_ID=name))
        for name, guest in guests.items():
            guest.says('"registered"', f'"guest_id":"{name}"', times=2)  # at each Host
            assert guest.count("credentials") == 0, guest.transcript()
        config = configured("gateway", "gateway")
        gateway = stack.enter_context(
            image.start("gateway", "--config", config, VERSER_BROKER_ID="verser2-gateway-7f-xyz")
        )
        gateway.says('"registered"', "hello.local.test")
        health = FINAL.last("HEALTHCHECK").words()
        for container in (first, second, *guests.values(), gateway):
            assert container.execute(*health).returncode == 0

        def ask() -> str:
            request = urllib.request.Request(
                f"http://127.0.0.1:{public}/", headers={"host": "hello.example.com"}
            )
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:  # noqa: S310
                return str(answer.read().decode())

        assert {ask() for _ in range(4)} == {f"Hello from {name}!\n" for name in guests}
        for name, guest in guests.items():
            secrets["guest"].put(make_identity("hello", authority), authority)
            guest.says('"registered"', f'"guest_id":"{name}~2"', times=2)
        secrets["gateway"].put(make_identity("verser2-gateway", authority), authority)
        gateway.says('"certificates reloaded"')
        assert ask().startswith("Hello from hello-")
        # The gateway was at the first Host that answered: without it, it is at the other one
        assert first.stop() == 0, first.transcript()
        assert ask().startswith("Hello from hello-")
        for container in (gateway, *guests.values(), second):
            assert container.stop() == 0, container.transcript()


def test_the_example_gives_its_containers_nothing_to_write_to() -> None:
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        if name == "certificates":
            continue
        assert service["read_only"]
        assert service["tmpfs"] == SOCKET.rpartition("/")[0]
        assert service["cap_drop"] == ["ALL"]
        assert all(volume.endswith(":ro") for volume in service["volumes"])
        assert "ports" not in service or name == "gateway"
        assert (
            int(service["stop_grace_period"].removesuffix("s")) > SessionSettings().timeout_graceful_shutdown
        )
    assert compose["networks"]["inside"] == {"internal": True}


def zombies(first: int) -> int:
    """How many children of the first process have ended, and wait for it."""
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    states = [Path(f"/proc/{child}/stat") for child in children]
    return sum(path.exists() and path.read_text().rpartition(")")[2].split()[0] == "Z" for path in states)
