"""`systemctl` without a service manager: checks a unit below the page's directory, and starts it.

`enable --now` has `systemd-analyze verify` read the unit, where that is there, and starts what it says,
with credentials and a socket for `sd_notify`; `status` shows the status that the service has told last.
The process ends with the page: its pid is in a file `*.pid`, and `*.run` leads to what is its `/run`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

WAIT_SECONDS = 30.0
ROOT = Path.cwd() / "root"


def main(words: list[str]) -> None:
    if words[:2] == ["enable", "--now"]:
        enable(words[2])
    elif words[0] == "status":
        print((ROOT / f"{words[1]}.status").read_text(), end="")
    else:
        sys.exit(f"not known here: systemctl {' '.join(words)}")


def enable(name: str) -> None:
    unit = ROOT / "etc" / "systemd" / "system" / f"{name}.service"
    text = re.sub(r"(?<=[=: ])/(?=(?:etc|opt)/)", f"{ROOT}/", unit.read_text())
    verify(text, unit.name)
    values: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    run = Path(tempfile.mkdtemp(prefix="run-"))  # short: the name of a socket may have 107 bytes
    (ROOT / f"{name}.run").symlink_to(run)
    (run / name).mkdir()
    (run / "credentials").mkdir()
    for credential in values.get("LoadCredential", ()):
        target, _, source = credential.partition(":")
        shutil.copy(source, run / "credentials" / target)

    def filled(value: str) -> str:
        return value.replace("%t", str(run)).replace("%d", str(run / "credentials"))

    environment = dict(filled(value).split("=", 1) for value in values.get("Environment", ()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(run / "notify"))
        heard.settimeout(WAIT_SECONDS)
        process = subprocess.Popen(
            shlex.split(filled(values["ExecStart"][0])),
            cwd=run,
            env={**os.environ, **environment, "NOTIFY_SOCKET": str(run / "notify")},
            stdin=subprocess.DEVNULL,
            stdout=(ROOT / f"{name}.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        (ROOT / f"{name}.pid").write_text(str(process.pid))
        told: list[str] = []
        while "READY=1" not in told or not any(line.startswith("STATUS=Registered") for line in told):
            try:
                told += heard.recv(4_096).decode().splitlines()
            except TimeoutError:
                sys.exit((ROOT / f"{name}.log").read_text())
    status = [line.removeprefix("STATUS=") for line in told if line.startswith("STATUS=")][-1]
    (ROOT / f"{name}.status").write_text(f'Status: "{status}"\n')


def verify(text: str, name: str) -> None:
    """Has systemd itself read the unit."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, name)
        # Type=notify-reload came with systemd 253; what is older reads the rest
        copy.write_text(text.replace("Type=notify-reload", "Type=notify"))
        done = subprocess.run([tool, "verify", "--man=no", str(copy)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if name in line]
    assert complaints == [], complaints


main(sys.argv[1:])
