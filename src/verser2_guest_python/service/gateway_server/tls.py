"""The certificate that a gateway shows its clients, and a TLS context whose certificate can be renewed.

Apart from `server.py` because a server is given its context once, and no certificate lasts so long.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.http2.credentials import load_pem_identity
from verser2_guest_python.http2.errors import CredentialsError

_ALPN_PROTOCOLS: Final = ("http/1.1",)


@dataclass(frozen=True, slots=True)
class PublicTls:
    """The certificate that clients see, as uvicorn's own options name it."""

    certfile: Path
    keyfile: Path | None = None
    keyfile_password: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """A context of what is in the files now; raises `VerserConfigurationError` that names the file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(_ALPN_PROTOCOLS)
        try:
            load_pem_identity(context, self.certfile, self.keyfile, self.keyfile_password)
        except CredentialsError as error:
            raise VerserConfigurationError(f"The certificate for https cannot be used: {error}") from error
        return context


class RenewableContext(ssl.SSLContext):
    """Makes each connection with the context that was set last; those that are there keep theirs.

    Not by loading other files into one context: that keeps an old key of another kind beside the new one,
    and is left with half of each when the files do not fit.
    """

    current: ssl.SSLContext

    @classmethod
    def of(cls, context: ssl.SSLContext) -> RenewableContext:
        """One that makes connections with `context`."""
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made.current = context
        return made

    def wrap_bio(self, *arguments: Any, **keywords: Any) -> ssl.SSLObject:
        """What asyncio and uvloop ask of the context of a server, once for each connection."""
        return self.current.wrap_bio(*arguments, **keywords)
