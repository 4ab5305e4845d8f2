"""Records as the page reads them: values for JSON, with what is secret marked.

Apart from the records, which know nothing of a page. Nothing here is HTML, and nothing is escaped: the
page shows all of it as text.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from typing import Any

from verser2_guest_python.host.host import VerserHost
from verser2_guest_python.service.inspector.bodies import body_view
from verser2_guest_python.service.inspector.hidden import field_parts, path_parts
from verser2_guest_python.service.inspector.record import KeptMessage, Record
from verser2_guest_python.service.inspector.recorder import Recorder
from verser2_guest_python.service.inspector.replay import why_not

_WITH_LEASE = frozenset({"waiting", "answering", "open"})
_MAX_PATH_CHARACTERS = 512  # in the list; the details have all of it


def summary(record: Record) -> dict[str, Any]:
    """A line of the list. Times are seconds from the request's beginning, None for what is still to come."""
    start = record.start
    end = record.end
    cut = len(start.path) > _MAX_PATH_CHARACTERS
    return {
        "id": record.number,
        "version": record.version,
        "method": "WS" if start.websocket else start.method,
        "path": path_parts(start.path[:_MAX_PATH_CHARACTERS] + ("…" if cut else "")),
        "domain": start.domain or "",
        "guest": start.target_id,
        "websocket": start.websocket,
        "state": _state(record),
        "status": record.status,
        "error": end.error if end is not None else None,
        "began": round(record.wall_time * 1000),
        "leased": _since(record, record.leased_at),
        "answered": _since(record, record.answered_at),
        "ended": _since(record, record.ended_at),
        "bytesIn": record.request.size if end is None else max(end.bytes_in, record.request.size),
        "bytesOut": record.response.size if end is None else max(end.bytes_out, record.response.size),
        "messages": record.message_count,
        "replayOf": record.replay_of,
    }


def details(record: Record, messages_from: int = 0) -> dict[str, Any]:
    """All that is kept of a request, bodies but for their bytes; messages from a number on."""
    start = record.start
    reason = why_not(record)
    response_fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in record.fields]
    return {
        **summary(record),
        "path": path_parts(start.path),
        "requestId": start.request_id,
        "broker": start.source_id,
        "protocol": start.protocol,
        "age": _since(record, record.now()),
        "uploaded": _since(record, record.uploaded_at),
        "firstByte": _since(record, record.first_byte_at),
        "message": record.end.message if record.end is not None else "",
        "requestHeaders": _fields(start.headers.items()),
        "responseHeaders": _fields(response_fields),
        "requestBody": body_view(record.request, dict(start.headers)),
        "responseBody": body_view(record.response, dict(response_fields)),
        "cutMessages": record.cut_messages,
        "newMessages": [_message(message) for message in record.messages if message.number >= messages_from],
        "replay": reason is None,
        "whyNot": reason,
    }


def host_view(host: VerserHost, recorder: Recorder) -> dict[str, Any]:
    """The Host just now: Guests with their routes and leases, and what is under way."""
    in_use = Counter(record.start.target_id for record in recorder if _state(record) in _WITH_LEASE)
    stats = host.get_stats()
    return {
        "guests": [
            {
                "id": guest.id,
                "routes": [{"domain": domain, "state": state} for domain, state in guest.domains.items()],
                "idle": guest.idle_leases,
                "inUse": in_use[guest.id],
                "idleWebsockets": guest.idle_websocket_leases,
                "queued": guest.queued_requests,
            }
            for guest in host.get_guests()
        ],
        "idle": stats.idle_leases,
        "active": stats.active_requests,
        "queued": stats.queued_requests,
        "sessions": stats.sessions,
    }


def _state(record: Record) -> str:
    if record.end is not None:
        return "done"
    if record.answered_at is not None:
        return "open" if record.start.websocket else "answering"
    return "queued" if record.leased_at is None else "waiting"


def _since(record: Record, at: float | None) -> float | None:
    return None if at is None else round(at - record.began_at, 6)


def _fields(fields: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"name": name, "value": field_parts(name, value)} for name, value in fields]


def _message(message: KeptMessage) -> dict[str, Any]:
    data = message.data
    return {
        "number": message.number,
        "at": round(message.at, 6),
        "from": message.side.value,
        "kind": message.kind,
        "data": data if isinstance(data, str) else base64.b64encode(data).decode("ascii"),
        "size": message.size,
        "cut": message.cut,
        "code": message.code,
    }
