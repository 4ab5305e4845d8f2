"""A Host as a process, to be measured and attacked: uvloop, the defaults, one line once it listens.

    .venv/bin/python -m bench.host_process --cert host.pem --key host-key.pem

The garbage collector is set as the command sets it. Events are printed as the Node Host does, one JSON
object a line, with `--events` all of them; SIGTERM closes it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal

import uvloop

from verser2_guest_python import create_verser_host
from verser2_guest_python.service.process.garbage import look_seldom, pass_over_what_is_there


async def main(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    look_seldom()
    host = create_verser_host(port=arguments.port, tls_cert_file=arguments.cert, tls_key_file=arguments.key)
    if arguments.events:
        host.on_lifecycle(lambda event: print(json.dumps({"event": event.name, **event.fields}), flush=True))
    await host.start()
    pass_over_what_is_there()
    print(json.dumps({"event": "listening", "port": host.port}), flush=True)
    await stopped.wait()
    await host.close(timeout=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--events", action="store_true")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main(parser.parse_args()))
