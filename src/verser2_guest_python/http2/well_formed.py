"""Which header fields a message may begin with (RFC 9113 §8.2, §8.3), asked of all of them at once.

Apart from the frames that bring them because it is about values. What is checked is what h2 checks; but
h2 looks at each byte of each field in turn, which was a tenth of all that a Host does for a request.
"""

from __future__ import annotations

from typing import Final

from .fields import Fields

# Names and values are looked at joined, by a byte that neither may hold (§8.2.1).
_OF_NAMES: Final = bytes(byte for byte in range(0x21, 0x7F) if not 0x41 <= byte <= 0x5A)
_OF_VALUES: Final = bytes.maketrans(b"\x00\r\t", b"\n\n ")  # what counts like a line feed, or a space
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)  # §8.2.2
_RESPONSE: Final = frozenset({b":status"})
_REQUEST: Final = frozenset({b":method", b":scheme", b":path"})
_CONNECT: Final = frozenset({b":method"})  # §8.5
_EXTENDED_CONNECT: Final = _REQUEST | {b":protocol"}  # RFC 8441 §4
_MAY_BE_THERE: Final = frozenset({b":authority"})


def is_response(fields: Fields) -> bool:
    """Whether a response may begin with these fields."""
    pseudo = _pseudo_fields(fields)
    return pseudo is not None and pseudo.keys() == _RESPONSE


def is_request(fields: Fields) -> bool:
    """Whether a request may begin with these fields."""
    pseudo = _pseudo_fields(fields)
    if pseudo is None:
        return False
    due = _REQUEST
    if pseudo.get(b":method") == b"CONNECT":
        due = _EXTENDED_CONNECT if b":protocol" in pseudo else _CONNECT
    if pseudo.keys() - _MAY_BE_THERE != due or not pseudo.get(b":path", b"*"):
        return False
    hosts = [value for name, value in fields if name == b"host"]
    if not hosts:
        return b":authority" in pseudo
    return len(hosts) == 1 and pseudo.get(b":authority", hosts[0]) == hosts[0]


def _pseudo_fields(fields: Fields) -> dict[bytes, bytes] | None:
    """The first fields, as many as have a colon; None where no message may have such fields.

    Those of them that are no pseudo-header fields are for the caller to find.
    """
    size = len(fields)
    if not size:
        return None
    names, values = zip(*fields, strict=True)
    joined = b"\n%b\n" % b"\n".join(names)
    joined_values = (b"\n%b\n" % b"\n".join(values)).translate(_OF_VALUES)
    count = joined.count(b":")
    if (
        joined.translate(None, _OF_NAMES) != b"\n" * (size + 1)
        or b"\n\n" in joined
        or joined.count(b"\n:") != count
        or joined_values.count(b"\n") != size + 1
        or b"\n " in joined_values
        or b" \n" in joined_values
        or not _OF_CONNECTIONS.isdisjoint(names)
    ):
        return None
    if b"te" in names and any(name == b"te" and value.lower() != b"trailers" for name, value in fields):
        return None
    pseudo = dict(fields[:count])
    return pseudo if len(pseudo) == count else None  # else one of them is twice there
