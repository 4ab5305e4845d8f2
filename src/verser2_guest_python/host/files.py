"""The files of a Host: its own certificate, and the authorities of its peers; read anew when asked to.

Apart from the Host because they are read more than once, and a Host that runs has to survive a bad one.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.http2 import CredentialsError, server_context

FilePath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The Host's identity, and whom it trusts. Passwords never show in `repr`."""

    cert_file: FilePath | None
    key_file: FilePath | None
    key_password: str | None = field(repr=False)
    pfx_file: FilePath | None
    pfx_password: str | None = field(repr=False)
    client_ca_file: FilePath | None
    require_client_certificate: bool

    def context(self) -> ssl.SSLContext:
        """A fresh server context; raises `VerserConfigurationError` that names the file."""
        try:
            return server_context(
                cert_file=self.cert_file,
                key_file=self.key_file,
                key_password=self.key_password,
                pfx_file=self.pfx_file,
                pfx_password=self.pfx_password,
                client_ca_file=self.client_ca_file,
                require_client_certificate=self.require_client_certificate,
            )
        except CredentialsError as error:
            raise VerserConfigurationError(str(error)) from error
