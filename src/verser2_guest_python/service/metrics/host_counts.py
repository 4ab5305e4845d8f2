"""What a Host counts of its peers: who came, who was refused, and how the requests for each domain went.

Apart from `health/host.py`, which answers: this only listens. Labels are bounded whatever peers say: a domain
is one that a Guest has registered, a code one of ours.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from verser2_guest_python.errors import WIRE_CODES
from verser2_guest_python.host.events import HostEvent, RequestRecord
from verser2_guest_python.service.metrics.measures import CLASSES, OTHER, Report, Value
from verser2_guest_python.wire.domains import normalize_domain
from verser2_guest_python.wire.names import REGISTER_PATH

MAX_DOMAINS: Final = 1_000
UNKNOWN: Final = "unknown"
_REFUSALS: Final = ("authorization-denied", "invalid-registration")
NOBODY: Final = "none"
_REGISTER: Final = REGISTER_PATH.decode()


class HostCounts:
    """A listener of a Host's events; `request` takes its records."""

    def __init__(self) -> None:
        self._domains: set[str] = set()
        self._by_domain: Counter[tuple[str, str]] = Counter()
        self._registrations: Counter[str] = Counter()
        # There from the start: an increase from nothing to 1 is none for Prometheus
        self._refused = Counter(dict.fromkeys(_REFUSALS, 0))
        self._streams_refused: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._handshakes_failed = 0
        self._internal_errors = 0

    def __call__(self, event: HostEvent) -> None:
        """Counts an event."""
        fields = event.fields
        match event.name:
            case "route":
                if len(self._domains) < MAX_DOMAINS:
                    self._domains.add(str(fields["domain"]))
            case "registered":
                self._registrations[str(fields["role"])] += 1
            case "refused":
                code = str(fields["code"])
                is_registration = fields.get("path", _REGISTER) == _REGISTER
                refused = self._refused if is_registration else self._streams_refused
                refused[code if code in WIRE_CODES else OTHER] += 1
            case "disconnected":
                self._ended[str(fields.get("role") or NOBODY)] += 1
            case "handshake-failed":
                self._handshakes_failed += 1
            case "internal-error":
                self._internal_errors += 1

    def request(self, record: RequestRecord) -> None:
        """Counts a request that is over."""
        self._by_domain[self._known(record.domain), CLASSES[(record.status or 0) // 100]] += 1

    def _known(self, domain: str | None) -> str:
        if domain in self._domains:
            return domain
        if domain is None:
            return UNKNOWN
        domain = normalize_domain(domain)  # of what was refused it is as its Broker spelled it
        if domain in self._domains:
            return domain
        return OTHER if len(self._domains) >= MAX_DOMAINS else UNKNOWN

    def report(self) -> Report:
        """Everything counted here, as it is now."""
        return {
            "domain_requests_total": [([*key], count) for key, count in self._by_domain.items()],
            "registrations_total": _by(self._registrations),
            "registrations_refused_total": _by(self._refused),
            "streams_refused_total": _by(self._streams_refused),
            "sessions_ended_total": _by(self._ended),
            "handshakes_failed_total": [([], self._handshakes_failed)],
            "internal_errors_total": [([], self._internal_errors)],
        }


def _by(counts: Counter[str]) -> list[tuple[list[str], Value]]:
    return [([name], count) for name, count in counts.items()]
