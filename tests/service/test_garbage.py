"""How a daemon sets Python's garbage collector, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc
from verser2_guest_python.service.process.garbage import look_seldom, pass_over_what_is_there

usual = gc.get_threshold()
look_seldom()
print(gc.get_threshold()[0] > usual[0], gc.get_threshold()[1:] == usual[1:])
before = gc.get_freeze_count()
pass_over_what_is_there()
print(gc.get_freeze_count() > before, gc.isenabled())
cycle = []
cycle.append(cycle)
del cycle
print(gc.collect() > 0)
"""


def test_garbage_is_looked_for_seldom_and_still_found() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n") == ["True True", "True True", "True", ""]
