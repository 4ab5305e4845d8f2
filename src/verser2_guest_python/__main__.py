"""`python -m verser2_guest_python` is the command `verser2-guest`; workers are started so."""

from __future__ import annotations

from verser2_guest_python.cli.main import main

if __name__ == "__main__":
    main()
