"""The TLS material of a peer: which files, read anew for every session.

Apart because a Guest that runs for months must pick up a renewed certificate when it connects
again, so the files are kept as names and not as a context.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from os import PathLike

from verser2_guest_python.errors import VerserConfigurationError
from verser2_guest_python.http2 import CredentialsError, client_context

FilePath = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that a peer dials with.

    Without `ca_file` the trust store of the system is used. The identity for mutual TLS is a PEM
    pair (`cert_file`, `key_file`) or a PKCS#12 file (`pfx_file`), not both. Passwords never show
    in `repr`.
    """

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    key_password: str | None = field(default=None, repr=False)
    pfx_file: FilePath | None = None
    pfx_password: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """A fresh client context; raises `VerserConfigurationError` that names the file and the fault."""
        self._check()
        try:
            return client_context(
                ca_file=self.ca_file,
                cert_file=self.cert_file,
                key_file=self.key_file,
                key_password=self.key_password,
                pfx_file=self.pfx_file,
                pfx_password=self.pfx_password,
            )
        except CredentialsError as error:
            raise VerserConfigurationError(str(error)) from error

    def _check(self) -> None:
        if self.pfx_file is not None and (self.cert_file is not None or self.key_file is not None):
            raise VerserConfigurationError(
                "Both a PKCS#12 file (tls_pfx_file) and PEM files (tls_cert_file, tls_key_file) are given: "
                "leave one of them out."
            )
        if self.key_file is not None and self.cert_file is None:
            raise VerserConfigurationError(
                "tls_key_file is given without tls_cert_file: name the certificate that belongs to the key."
            )
