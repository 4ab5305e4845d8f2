"""As the first process of a container: processes whose parents have ended are ours to reap."""

from __future__ import annotations

import os


def reap_orphans(own: set[int]) -> bool:
    """Reaps processes that have ended, but those in `own`, which asyncio waits for itself.

    Returns False when one of `own` stands in the way: it has to be reaped first.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if ended is None:
            return True
        if ended.si_pid in own:
            return False
        os.waitpid(ended.si_pid, 0)
