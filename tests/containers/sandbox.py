"""Does what a container engine does with a Dockerfile, without one: namespaces of the kernel, nothing else.

Each stage gets an empty directory as its root; the programs of this machine are mounted there read-only,
with this Python at /usr/local, which is where the images of Python have theirs. A container of the last stage
runs as the first process of its own, on a root file system that cannot be written to, as the user that the
Dockerfile says. All share the network of this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.cli.processes import WAIT_SECONDS, Running
from tests.containers.dockerfile import Stage

BUILD_SECONDS: Final = 300.0
# Read by clients of the registry; an engine gets them as build arguments, or from its base image
_OF_THE_MACHINE: Final = ("PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_SYSTEM_CERTS")
_LINKS: Final = ("bin", "lib", "lib64", "sbin")
_ETC: Final = ("group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "resolv.conf")
# In a mount namespace of its own: $1 is the root, $2 the Python, the rest runs in the root
_ENTER: Final = """
set -e
root=$1 python=$2 mode=$3; shift 3
mount --bind "$root" "$root"
mount --bind /usr "$root/usr"
mount --bind "$python" "$root/usr/local"
mkdir -p "$root$python" && mount --bind "$python" "$root$python" # where it looks for its own libraries
for place in usr usr/local "${python#/}"; do mount -o remount,bind,ro "$root/$place"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if test "$mode" = run; then
    mount -o remount,bind,ro "$root"
    mount -t tmpfs -o mode=1777,size=1m tmpfs "$root/run/verser2-guest"
else
    mount -t tmpfs tmpfs "$root/tmp"
fi
exec "$@"
"""


def why_not() -> str:
    """Why there can be no sandbox here; "" if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a sandbox of namespaces needs Linux and root"
    if not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "chroot"))):
        return "unshare, nsenter, setpriv and chroot are needed (util-linux, coreutils)"
    if not Path(sys.base_prefix, "bin", "python").exists() or sys.base_prefix == "/usr":
        return "this Python has no prefix of its own that could stand for an image's"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


def _unshared(root: Path, mode: str) -> list[str]:
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", _ENTER, "sh"),
        *(str(root), sys.base_prefix, mode),
    ]


def _environment(variables: Mapping[str, str]) -> list[str]:
    return ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]


class Image:
    """The root directory of a stage, as its instructions have made it."""

    def __init__(self, stage: Stage, root: Path) -> None:
        self.stage = stage
        self.root = root
        self.workdir = "/"
        self.environment: dict[str, str] = {
            "PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        }
        for name in ("dev", "etc", "opt", "proc", "root", "run", "tmp", "usr"):
            (root / name).mkdir(parents=True)
        for name in _LINKS:
            if Path("/", name).is_symlink():
                (root / name).symlink_to(Path("/", name).readlink())
        for name in _ETC:
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), root / "etc" / name)
        if Path("/etc/ssl").exists():
            shutil.copytree("/etc/ssl", root / "etc/ssl", ignore=shutil.ignore_patterns("private"))

    def build(self, context: Path, sent: set[str], others: Mapping[str, Image]) -> None:
        """Does what the instructions say, one after the other."""
        for one in self.stage.instructions:
            match one.word:
                case "ENV":
                    self.environment.update(one.pairs())
                case "WORKDIR":
                    self.workdir = one.rest
                    self.path(one.rest).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(one.rest.split(), context, sent, others)
                case "RUN":
                    self._run(one.rest)

    def extend(self, stage: Stage, context: Path) -> None:
        """Goes on with a Dockerfile that begins with `FROM` this image; all of `context` is sent."""
        base, self.stage = self.stage, stage
        sent = {str(file.relative_to(context)) for file in context.rglob("*") if file.is_file()}
        self.build(context, sent, {})
        self.stage = Stage(base.base, stage.name, [*base.instructions, *stage.instructions])

    def path(self, name: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / str(Path(self.workdir, name)).lstrip("/")

    def _copy(self, words: list[str], context: Path, sent: set[str], others: Mapping[str, Image]) -> None:
        if words[0].startswith("--from="):
            _, source, target = words
            shutil.copytree(others[words[0][7:]].path(source), self.path(target), symlinks=True)
            return
        *names, target = words
        for name in (name.rstrip("/") for name in names):
            files = [file for file in sorted(sent) if file == name or file.startswith(f"{name}/")]
            assert files, f"COPY {name}: .dockerignore leaves it out"
            for file in files:
                inner = Path(file).name if file == name else str(Path(file).relative_to(name))
                place = self.path(target) / inner
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(context / file, place)

    def _run(self, command: str) -> None:
        kept = {name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ}
        variables = _environment({"HOME": "/root", **kept, **self.environment})
        inside = ["chroot", str(self.root), *variables, "sh", "-c", f"cd {self.workdir} && {command}"]
        done = subprocess.run(
            [*_unshared(self.root, "build"), *inside],
            capture_output=True,
            timeout=BUILD_SECONDS,
        )
        assert done.returncode == 0, f"RUN {command}\n{done.stdout.decode()}{done.stderr.decode()}"

    def once(self, *command: str) -> None:
        """Runs a command to its end as the user, with all directories that are the user's to write to."""
        inside = ["chroot", str(self.root), *_environment(self.environment), *self._as_user()]
        script = f'cd {self.workdir} && exec "$@"'
        whole = [*_unshared(self.root, "build"), *inside, "sh", "-c", script, "sh", *command]
        done = subprocess.run(whole, capture_output=True, timeout=WAIT_SECONDS)
        assert done.returncode == 0, done.stderr.decode()

    # --- Running --------------------------------------------------------------------------------

    def _as_user(self) -> list[str]:
        user, _, group = self.stage.last("USER").rest.partition(":")
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]

    def start(self, *arguments: str, **variables: str) -> Container:
        """Starts the entrypoint with these arguments, else those of CMD, and with more variables."""
        script = f'cd {self.workdir} && exec "$@"'
        bare = _environment({"HOME": self.workdir, **self.environment, **variables})
        entrypoint = self.stage.last("ENTRYPOINT").words()
        arguments = arguments or tuple(self.stage.last("CMD").words())
        inside = ["chroot", str(self.root), *self._as_user(), "--bounding-set=-all", *bare]
        return Container(
            self, [*_unshared(self.root, "run"), *inside, "sh", "-c", script, "sh", *entrypoint, *arguments]
        )


class Container(Running):
    """A process as the first one of its container."""

    def __init__(self, image: Image, command: Sequence[str]) -> None:
        super().__init__(command)
        self._image = image

    @property
    def first(self) -> int:
        """The pid of its first process, as this machine sees it."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal as an engine does; gives the exit code."""
        os.kill(self.first, number)
        return self.wait()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command beside it, as health checks and `docker exec` do."""
        entering = ["nsenter", "--target", str(self.first), "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [*entering, *_environment(self._image.environment), *self._image._as_user(), *command],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
        )
