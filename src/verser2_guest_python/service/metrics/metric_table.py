"""The metrics of a Guest: names, kinds, labels, and what each one says.

Apart from `measures.py`, which counts, and `prometheus.py`, which renders: the reference page, the
dashboard and both of them hold to this table. Names follow Prometheus: base units, `_total` for what
only grows, labels whose values are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

PREFIX: Final = "verser_guest_"
WORKER_LABEL: Final = "worker"
"""A label of every metric: the number of the worker, from 1; 1 for a Guest alone."""
SUPERVISOR: Final = "supervisor"
"""The same of the process that keeps several workers; it has the metrics of a process, and no others."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Kind(Enum):
    """What can be done with a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `buckets` are the upper bounds of a histogram, without the last one.

    `is_highest`: of two processes in one slot it is the higher value, instead of the sum. `is_standard`: it
    is called as every program calls it, without a prefix of ours.
    """

    name: str
    kind: Kind
    sentence: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    is_highest: bool = False
    is_standard: bool = False

    def full_name(self, prefix: str) -> str:
        """What Prometheus calls it; `prefix` is that of its table."""
        return self.name if self.is_standard else prefix + self.name


# Names and meanings are those of Prometheus' own client libraries; dashboards for any program show them
_OF_THE_PROCESS: Final = (
    Metric(
        "process_cpu_seconds_total",
        Kind.COUNTER,
        "Processor time, user and system, that the process has taken.",
        is_standard=True,
    ),
    Metric(
        "process_resident_memory_bytes", Kind.GAUGE, "Memory that the process holds in RAM.", is_standard=True
    ),
    Metric(
        "process_open_fds",
        Kind.GAUGE,
        "Open file descriptors: files, and a socket for each connection.",
        is_standard=True,
    ),
    Metric(
        "process_max_fds",
        Kind.GAUGE,
        "How many of them the process may have.",
        is_highest=True,
        is_standard=True,
    ),
    Metric(
        "process_start_time_seconds",
        Kind.GAUGE,
        "When the process was started, in seconds of Unix time.",
        is_highest=True,
        is_standard=True,
    ),
)
_OF_EVERYBODY: Final = (
    Metric(
        "certificate_expiry_timestamp_seconds",
        Kind.GAUGE,
        "When the certificate in a file of ours expires, in seconds of Unix time.",
        ("file",),
        is_highest=True,
    ),
    Metric("log_lines_dropped_total", Kind.COUNTER, "Log lines that could not be written."),
    *_OF_THE_PROCESS,
)
_OF_HOST_AND_GATEWAY: Final = (
    Metric(
        "event_loop_lag_seconds",
        Kind.HISTOGRAM,
        "How late a timer ran, asked twice a second.",
        (),
        _LAG_SECONDS,
    ),
    *_OF_EVERYBODY,
)
_TABLE: Final = (
    Metric(
        "info", Kind.GAUGE, "Always 1; its labels say what runs.", ("version", "guest_id"), is_highest=True
    ),
    Metric(
        "requests_total",
        Kind.COUNTER,
        "HTTP requests that are over. The status class is none where no answer went out: the app failed, or "
        "the caller had left.",
        ("method", "status_class"),
    ),
    Metric(
        "request_duration_seconds",
        Kind.HISTOGRAM,
        "From the request's head to the end of the app call.",
        ("method",),
        _SECONDS,
    ),
    Metric(
        "time_to_first_byte_seconds",
        Kind.HISTOGRAM,
        "From the request's head to the response's, with the first piece of its body.",
        ("method",),
        _SECONDS,
    ),
    Metric("requests_in_flight", Kind.GAUGE, "App calls that run."),
    Metric(
        "request_bytes_total",
        Kind.COUNTER,
        "Bytes of request bodies that apps have read, of requests that are over.",
    ),
    Metric(
        "response_bytes_total",
        Kind.COUNTER,
        "Bytes of response bodies that apps have sent, of requests that are over.",
    ),
    Metric(
        "app_errors_total",
        Kind.COUNTER,
        "Requests and WebSockets whose app raised, or ended without answering.",
    ),
    Metric(
        "leases",
        Kind.GAUGE,
        "Open leases: idle ones wait for a request, active ones carry one.",
        ("state",),
    ),
    Metric("websockets_open", Kind.GAUGE, "WebSockets that are open, or being negotiated."),
    Metric(
        "websockets_total",
        Kind.COUNTER,
        "WebSockets that are over, by how they began: 1xx was accepted.",
        ("status_class",),
    ),
    Metric(
        "websocket_messages_total",
        Kind.COUNTER,
        "Messages that apps were given (received) and that they sent.",
        ("direction",),
    ),
    Metric(
        "websocket_bytes_total",
        Kind.COUNTER,
        "Bytes of these messages, of WebSockets that are over.",
        ("direction",),
    ),
    Metric("registered", Kind.GAUGE, "1 while it is registered at a Host, else 0.", is_highest=True),
    Metric("sessions", Kind.GAUGE, "Registered sessions that requests come on.", ("host",)),
    Metric(
        "session_age_seconds",
        Kind.GAUGE,
        "Since such a session was registered.",
        ("host",),
        is_highest=True,
    ),
    Metric("ping_round_trip_seconds", Kind.GAUGE, "Round trip of its last PING.", ("host",), is_highest=True),
    Metric(
        "reconnects_total",
        Kind.COUNTER,
        "Attempts to get a new session, by why: connection-lost, ping-timeout, goaway, stream-ids, renewal; "
        "connect-failed, refused and busy (the Host is full) are further attempts after one that failed so.",
        ("reason",),
    ),
    Metric("draining", Kind.GAUGE, "1 while it takes leave, else 0.", is_highest=True),
    Metric(
        "event_loop_lag_seconds",
        Kind.HISTOGRAM,
        "How late a timer ran, asked twice a second: what blocks the event loop shows here.",
        (),
        _LAG_SECONDS,
    ),
    *_OF_EVERYBODY,
    Metric("worker_starts_total", Kind.COUNTER, "Worker processes that the supervisor has started."),
)

METRICS: Final = MappingProxyType({metric.name: metric for metric in _TABLE})

HOST_PREFIX: Final = "verser_host_"
_HOST_TABLE: Final = (
    Metric("info", Kind.GAUGE, "Always 1.", ("version",)),
    Metric(
        "requests_total",
        Kind.COUNTER,
        "Requests and WebSockets (method WEBSOCKET) that are over, by what their Brokers were answered; none "
        "where they had left.",
        ("method", "status_class"),
    ),
    Metric(
        "errors_total",
        Kind.COUNTER,
        "Of these, those that ended with an error that is not an answer of the app, by its code.",
        ("code",),
    ),
    Metric("request_duration_seconds", Kind.HISTOGRAM, "From the request's head to its end.", (), _SECONDS),
    Metric(
        "domain_requests_total",
        Kind.COUNTER,
        "The same as requests_total, by the domain of their route; unknown where no Guest has registered it, "
        "other beyond the first 1,000 domains.",
        ("domain", "status_class"),
    ),
    Metric("lease_wait_seconds", Kind.HISTOGRAM, "How long they waited for a lease.", (), _SECONDS),
    Metric(
        "time_to_first_byte_seconds",
        Kind.HISTOGRAM,
        "From the request's head to the head of its answer, waiting for a lease included.",
        (),
        _SECONDS,
    ),
    Metric("requests_in_flight", Kind.GAUGE, "Requests and WebSockets under way."),
    Metric("requests_queued", Kind.GAUGE, "Requests that wait for a lease."),
    Metric(
        "guest_requests_queued",
        Kind.GAUGE,
        "The same, by Guest; only of Guests for which one waits.",
        ("guest_id",),
    ),
    Metric("request_bytes_total", Kind.COUNTER, "Bytes of their bodies, of those that are over."),
    Metric("response_bytes_total", Kind.COUNTER, "Bytes of the answers' bodies, likewise."),
    Metric("websockets_open", Kind.GAUGE, "Of what is under way, WebSockets."),
    Metric(
        "websocket_messages_total",
        Kind.COUNTER,
        "Text and binary messages that have passed, to Guests or to Brokers.",
        ("to",),
    ),
    Metric("sessions", Kind.GAUGE, "Sessions that are open, registered or not."),
    Metric("guests", Kind.GAUGE, "Guests that are registered."),
    Metric("brokers", Kind.GAUGE, "Brokers that are registered."),
    Metric(
        "routes",
        Kind.GAUGE,
        "Routes, active or degraded: the Guest of a degraded one is lost, and expected back.",
        ("state",),
    ),
    Metric(
        "leases",
        Kind.GAUGE,
        "Leases of all Guests: idle ones wait for a request, active ones carry one.",
        ("state",),
    ),
    Metric("websocket_leases_idle", Kind.GAUGE, "Leases that wait for a WebSocket, of all Guests."),
    Metric("registrations_total", Kind.COUNTER, "Registrations that were accepted.", ("role",)),
    Metric("registrations_refused_total", Kind.COUNTER, "Registrations that were refused.", ("code",)),
    Metric(
        "streams_refused_total",
        Kind.COUNTER,
        "Other streams that were refused before they were a request: leases of nobody, unknown paths.",
        ("code",),
    ),
    Metric(
        "sessions_ended_total",
        Kind.COUNTER,
        "Sessions that have ended, by the role that had registered on them; none where nobody had.",
        ("role",),
    ),
    Metric(
        "limits_hit_total",
        Kind.COUNTER,
        "How often a peer met a limit and was turned away, cut off or refused for it, by the limit.",
        ("limit",),
    ),
    Metric("handshakes_failed_total", Kind.COUNTER, "TLS handshakes that failed."),
    Metric("internal_errors_total", Kind.COUNTER, "Faults of the Host itself; the log tells of each."),
    Metric("draining", Kind.GAUGE, "1 while it takes leave, else 0."),
    *_OF_HOST_AND_GATEWAY,
)
HOST_METRICS: Final = MappingProxyType({metric.name: metric for metric in _HOST_TABLE})

GATEWAY_PREFIX: Final = "verser_gateway_"
_GATEWAY_TABLE: Final = (
    Metric("info", Kind.GAUGE, "Always 1.", ("version", "broker_id")),
    Metric(
        "requests_total",
        Kind.COUNTER,
        "Requests and WebSockets (method WEBSOCKET, 1xx when it was open) that are over, by what their "
        "clients were told.",
        ("method", "status_class"),
    ),
    Metric(
        "errors_total",
        Kind.COUNTER,
        "Of these, those that ended with an error that is not an answer of the app, by its code; client-left "
        "where the client gave up first.",
        ("code",),
    ),
    Metric("request_duration_seconds", Kind.HISTOGRAM, "From the request's head to its end.", (), _SECONDS),
    Metric("time_to_first_byte_seconds", Kind.HISTOGRAM, "From the same to the answer's head.", (), _SECONDS),
    Metric(
        "lease_wait_seconds",
        Kind.HISTOGRAM,
        "How long they waited at the Host for a lease, of those for which it says (`--server-timing`).",
        (),
        _SECONDS,
    ),
    Metric("requests_in_flight", Kind.GAUGE, "Requests and WebSockets under way."),
    Metric(
        "requests_queued",
        Kind.GAUGE,
        "Of these, those that have not left: they wait for a session with a Host, for a route, for another "
        "one to end where the Host allows few at a time, or before another attempt.",
    ),
    Metric("websockets_open", Kind.GAUGE, "Of these, WebSockets that are open, or being negotiated."),
    Metric(
        "websocket_messages_total",
        Kind.COUNTER,
        "Messages from clients (received) and to them (sent), of WebSockets that are over.",
        ("direction",),
    ),
    Metric("request_bytes_total", Kind.COUNTER, "Bytes of their bodies or messages, of those that are over."),
    Metric("response_bytes_total", Kind.COUNTER, "Bytes of the answers, likewise."),
    Metric("connected", Kind.GAUGE, "1 while it has a session with a Host."),
    Metric("session_age_seconds", Kind.GAUGE, "Since this session was registered.", ("host",)),
    Metric("ping_round_trip_seconds", Kind.GAUGE, "Round trip of its last PING.", ("host",)),
    Metric(
        "reconnects_total",
        Kind.COUNTER,
        "Attempts to get a new session, by why: connection-lost, ping-timeout, goaway, stream-ids; "
        "connect-failed, refused and busy (the Host is full) are further attempts after one that failed so.",
        ("reason",),
    ),
    Metric("domains", Kind.GAUGE, "Domains that can be called."),
    Metric("draining", Kind.GAUGE, "1 while it takes leave, else 0."),
    *_OF_HOST_AND_GATEWAY,
)
GATEWAY_METRICS: Final = MappingProxyType({metric.name: metric for metric in _GATEWAY_TABLE})
