"""The Guest: serves ASGI apps through a Host that it dials out to."""

from __future__ import annotations

from .direct import DispatchedResponse
from .guest import create_verser_guest
from .lifecycle import GuestEvent
from .verser_guest import VerserGuest

__all__ = ["DispatchedResponse", "GuestEvent", "VerserGuest", "create_verser_guest"]
