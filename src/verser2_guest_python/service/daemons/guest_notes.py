"""What systemd is told of a Guest: when it has started, when a reload is through, what it does.

Apart from `systemd.py`, which knows how to say it. A Guest counts as started once it is registered, and
also once its first attempt has failed: to wait for a Host that is away would hold up the boot.
"""

from __future__ import annotations

from verser2_guest_python.guest.guest import VerserGuest
from verser2_guest_python.guest.lifecycle import GuestEvent
from verser2_guest_python.service.process.systemd import Notifier, counted

FAILED_ATTEMPTS = frozenset({"connect-failed", "refused", "busy"})


class GuestNotes:
    """Tells `notifier` of `guest`; a lifecycle listener."""

    def __init__(self, guest: VerserGuest, notifier: Notifier) -> None:
        self._guest = guest
        self._notifier = notifier
        self._requests = 0
        self._failed = ""

    def __call__(self, event: GuestEvent) -> None:
        """Tells what has changed."""
        kind = event.type
        if kind == "request-completed":
            self._requests += 1
        elif kind == "registered":
            self._failed = ""
            self._notifier.status(self.text())
            self._notifier.ready()
        elif kind == "reconnecting" and event.fields["cause"] in FAILED_ATTEMPTS:
            self._failed = str(event.fields["reason"])
            self._notifier.status(self.text())
            self._notifier.ready()
        elif kind == "disconnected":
            self._notifier.status(self.text())
        elif kind == "draining":
            self._notifier.stopping()

    def renew(self, reason: str) -> None:
        """A new session, told as a reload."""
        self._notifier.reloading()
        self._guest.renew(reason)

    async def describe(self) -> tuple[bool, str]:
        """For `Notifier.watched`: that this runs is the sign of life."""
        return True, self.text()

    def text(self) -> str:
        """One line."""
        facts = self._guest.facts()
        hosts = ", ".join(session.host for session in facts.sessions)
        where = f"Registered at {hosts}" if hosts else self._failed or "Not registered"
        return (
            f"{where.rstrip('.')}; {counted(len(self._guest.routed_domains), 'route')}, "
            f"{counted(self._requests, 'request')}, {facts.requests_running} in flight"
        )
