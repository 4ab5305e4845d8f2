"""What `-v` shows of a request and its answer: heads as they go and come, times, and no secrets.

Apart because what is shown gets pasted into reports: everything that looks like a credential is masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verser2_guest_python.service.calls.notes import Notes
from verser2_guest_python.service.output.masking import masked_header, masked_url
from verser2_guest_python.service.output.text import duration, size

if TYPE_CHECKING:
    from verser2_guest_python.broker.response import VerserBrokerResponse
    from verser2_guest_python.service.calls.request import Header


class Trace:
    """Shows one exchange after the other."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def request(
        self,
        method: str,
        authority: str,
        path: str,
        headers: tuple[Header, ...],
        length: int | None,
        *,
        route: str,
    ) -> None:
        """What is about to be sent."""
        notes = self._notes
        if not notes.verbose:
            return
        if route != authority:
            notes.detail("*", f"By the route of {route}")
        notes.detail(">", f"{method} {masked_url(path)}")
        if not any(name.lower() == "host" for name, _ in headers):
            notes.detail(">", f"host: {authority}")
        for name, value in headers:
            text = value.encode("latin-1").decode("utf-8", "replace")  # as it was typed
            notes.detail(">", f"{name.lower()}: {masked_header(name, text)}")
        if length is not None:
            notes.detail(">", f"content-length: {length}")
        notes.detail(">")

    def response(self, response: VerserBrokerResponse, seconds: float) -> None:
        """What came back; `seconds` from the moment that sending began."""
        notes = self._notes
        if not notes.verbose:
            return
        wait = response.lease_wait
        waited = "waiting" if wait is None else f"{duration(wait * 1000)} of waiting"
        notes.detail(
            "*",
            f"Answered by {response.target_id} in {duration(seconds * 1000)}, {waited} for a lease included "
            f"(request {response.request_id})",
        )
        notes.detail("<", f"{response.status} {response.reason}".rstrip())
        for name, value in response.headers.multi_items():
            notes.detail("<", f"{name}: {masked_header(name, value)}")
        notes.detail("<")

    def end(self, received: int, seconds: float, total: float) -> None:
        """The body is complete: its size as it came, how long it took, and how long all of it took."""
        self._notes.detail(
            "*", f"Body of {size(received)} in {duration(seconds * 1000)}; {duration(total * 1000)} in all"
        )
