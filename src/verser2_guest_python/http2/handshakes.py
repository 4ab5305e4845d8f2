"""What it means for people that a TLS handshake failed: for whoever dialled, and for whoever was dialled.

Apart from the transport because the same alert says different things at the two ends: who dials asks
what to set right here, who listens wants to know what is wrong with the other one.
"""

from __future__ import annotations

import ssl
from types import MappingProxyType
from typing import Final

from .errors import (
    AlpnError,
    CertificateRefused,
    ConnectError,
    ConnectTimeout,
    HandshakeFailed,
    HostUnreachable,
    TlsTrustError,
    TrustProblem,
)

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NO_HTTP2 = "the client does not offer HTTP/2 (h2 in TLS ALPN)"

# X509_V_ERR_… of OpenSSL (x509_vfy.h), as far as something can be done about them
_VERIFY_CODES: Final = MappingProxyType[int, TrustProblem](
    {
        **dict.fromkeys((2, 7, 18, 19, 20, 21), "issuer"),
        **dict.fromkeys((9, 10), "time"),
        **dict.fromkeys((62, 64), "name"),
    }
)
_CERTIFICATE_ALERTS = (
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REQUIRED",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
)


def explain(error: ssl.SSLError, address: str, agreed: bool) -> ConnectError:
    """What a failed handshake, or an alert right after it, means for the user.

    `agreed` tells whether both ends had found a cipher before: what a server of TLS 1.2 then calls a
    handshake failure is that it misses a client certificate (RFC 5246 §7.4.6).
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = _VERIFY_CODES.get(error.verify_code, "other")
        return TlsTrustError(address, error.verify_message.rstrip("."), problem)
    reason = error.reason or str(error)
    if "NO_APPLICATION_PROTOCOL" in reason:
        return AlpnError(address, None)
    if alert := _certificate_alert(reason):
        return CertificateRefused(address, alert)
    if agreed and "ALERT_HANDSHAKE_FAILURE" in reason:
        return CertificateRefused(address, "it wants a client certificate")
    if reason in _NO_TLS:
        return HostUnreachable(address, "it does not speak TLS on this port")
    return TlsTrustError(address, f"the TLS handshake failed ({reason.lower().replace('_', ' ')})")


def explain_client(error: ssl.SSLError | ConnectError, address: str) -> HandshakeFailed:
    """The same, of somebody who dialled us."""
    return HandshakeFailed(address, _of_client(error))


def _of_client(error: ssl.SSLError | ConnectError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the client's certificate is not trusted here: {error.verify_message.rstrip('.')}"
        case HostUnreachable():
            return f"the client is gone: {error.reason}"
        case AlpnError():
            return _NO_HTTP2
        case ConnectTimeout():
            return f"the client did not finish the TLS handshake within {error.seconds:g} s"
        case ConnectError():
            return str(error)
    reason = error.reason or str(error)
    if "DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return "the client shows no certificate"
    if "NO_APPLICATION_PROTOCOL" in reason:
        return _NO_HTTP2
    if alert := _certificate_alert(reason):
        return f"the client does not trust the certificate here: {alert}"
    if reason in _NO_TLS:
        return "the client does not speak TLS"
    return f"the TLS handshake failed ({reason.lower().replace('_', ' ')})"


def _certificate_alert(reason: str) -> str:
    """What the other end says of our certificate, or nothing."""
    if "ALERT" not in reason or not any(alert in reason for alert in _CERTIFICATE_ALERTS):
        return ""
    return reason.partition("ALERT_")[2].lower().replace("_", " ")
