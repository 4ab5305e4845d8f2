"""What this process takes of the machine: processor time, memory, open files, since when.

Apart from `measures.py`, which counts what is told: this asks the kernel, when somebody asks for metrics.
Where there is no /proc (macOS, Windows) most of it is not known, and left out.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from verser2_guest_python.service.metrics.measures import Report

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat behind the name of the program (proc_pid_stat(5)): 22 and 24, counted from 3
_START_TIME_FIELD: Final = 22 - 3
_RESIDENT_PAGES_FIELD: Final = 24 - 3


def process_report(proc: Path = _PROC) -> Report:
    """The `process_…` metrics as they are now; `proc` is where the kernel tells of processes."""
    report: Report = {"process_cpu_seconds_total": [([], time.process_time())]}
    with suppress(OSError, ValueError, IndexError):
        # The name is in brackets, and may have brackets and blanks itself
        fields = (proc / "self" / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        resident = int(fields[_RESIDENT_PAGES_FIELD]) * os.sysconf("SC_PAGE_SIZE")
        report["process_resident_memory_bytes"] = [([], resident)]
        since_boot = int(fields[_START_TIME_FIELD]) / os.sysconf("SC_CLK_TCK")
        report["process_start_time_seconds"] = [([], _boot_time(proc) + since_boot)]
    with suppress(OSError):
        open_files = sum(1 for _ in (proc / "self" / "fd").iterdir())
        report["process_open_fds"] = [([], open_files - 1)]  # one is open to count them
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            report["process_max_fds"] = [([], soft)]
    return report


def _boot_time(proc: Path) -> float:
    with (proc / "stat").open("rb") as lines:
        for line in lines:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    raise ValueError("the kernel does not say when it was started")
