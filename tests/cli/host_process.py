"""A Host as a process: `host_process.py CERT KEY [PORT [CLIENT_CA]]` prints `port N`, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from verser2_guest_python import create_verser_host


async def main(cert_file: str, key_file: str, port: str = "0", client_ca_file: str | None = None) -> None:
    host = create_verser_host(
        tls_cert_file=cert_file, tls_key_file=key_file, port=int(port), client_ca_file=client_ca_file
    )
    async with host:
        print(f"port {host.port}", flush=True)
        await host.serve_forever()


asyncio.run(main(*sys.argv[1:]))
