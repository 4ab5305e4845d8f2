"""The common name in a PEM certificate, read without the library for it.

Apart because a one-shot command wants just this name, to be called as a Host expects it, and loading
`cryptography` takes longer than the whole command. It walks the DER down to the subject (RFC 5280 §4.1)
and gives up on anything unusual.
"""

from __future__ import annotations

import re
import ssl
from os import PathLike
from pathlib import Path
from typing import Final

_MAX_FILE_BYTES: Final = 1 << 20
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_COMMON_NAME: Final = b"\x06\x03\x55\x04\x03"  # OID 2.5.4.3
_SEQUENCE, _SET, _VERSION = 0x30, 0x31, 0xA0
_STRINGS: Final = frozenset({0x0C, 0x13, 0x16})  # UTF8String, PrintableString, IA5String


def common_name(cert_file: str | PathLike[str]) -> str | None:
    """The CN of the first certificate in a PEM file; None where there is none, or it cannot be read."""
    try:
        with Path(cert_file).open("rb") as file:
            return common_name_in(file.read(_MAX_FILE_BYTES))
    except OSError:
        return None


def common_name_in(pem: bytes) -> str | None:
    """The same of the bytes of such a file."""
    found = _PEM.search(pem)
    try:
        return None if found is None else _subject_name(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii")))
    except (ValueError, IndexError):
        return None


def _subject_name(der: bytes) -> str | None:
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # TBSCertificate
    tag, _, end = _element(der, at)
    skipped = 4 if tag == _VERSION else 3  # serialNumber, signature, issuer, validity
    for _ in range(skipped):
        _, _, end = _element(der, end)
    tag, at, end = _element(der, end)
    while tag == _SEQUENCE and at < end:  # of sets, of pairs of a type and a value
        kind, pair, at = _element(der, at)
        _, pair, _ = _element(der, pair)
        if kind == _SET and der.startswith(_COMMON_NAME, pair):
            string, start, stop = _element(der, pair + len(_COMMON_NAME))
            return der[start:stop].decode("utf-8") if string in _STRINGS else None
    return None


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of what one element holds."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[at : at + count], "big")
        at += count
    if at + length > len(der):
        raise ValueError("an element is longer than what holds it")
    return tag, at, at + length
