"""What `make demo` runs: a Host, the example app behind it, and one request by a Broker.

The same three roles usually run in three places: the Host where everybody can reach it, the app and
the Broker wherever they like. Here they share a process, and everything between them is as always.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

from hello import app

from verser2_guest_python.cli.dev import own_command
from verser2_guest_python.errors import VerserError
from verser2_guest_python.service.dev.gateway import DevGateway, missing_for_gateway
from verser2_guest_python.service.dev.log import DevLog
from verser2_guest_python.service.dev.stack import DevStack
from verser2_guest_python.service.logs.setup import set_up_logs
from verser2_guest_python.service.process.event_loop import run_in_loop
from verser2_guest_python.service.process.exit_codes import exit_code
from verser2_guest_python.service.process.serving import serve_until_stopped
from verser2_guest_python.service.settings.model import LogSettings

DOMAIN = "hello.localhost"


async def demo() -> int:
    logs = set_up_logs(LogSettings(format="console"))
    async with AsyncExitStack() as ends:
        stack = await ends.enter_async_context(DevStack([DOMAIN]))
        log = DevLog(logs, LogSettings())
        log.watch(stack.host)
        url = ""
        if not missing_for_gateway():
            url = (await ends.enter_async_context(DevGateway(stack, None, log.gateway))).url
        guest = stack.guest(app)

        async def show() -> None:
            await guest.connect()
            stack.announce()
            print(
                f"\n  A Host listens on {stack.host.url}, and a Guest serves examples/hello.py behind it.",
                flush=True,
            )
            print(f"  A Broker asks for http://{DOMAIN}/ …\n", flush=True)
            async with stack.broker() as broker:
                response = await broker.get(f"http://{DOMAIN}/")
                print(f"    {response.status} {response.reason}")
                print(f"    {await response.text()}")
            print_what_to_try(url)
            await guest.serve_forever()

        return await serve_until_stopped(guest, show())


def print_what_to_try(url: str) -> None:
    command = own_command()
    if url:
        print(f"  It goes on serving. In a browser: {url}\n  From another terminal, try:\n")
    else:
        print("  It goes on serving. From another terminal, try:\n")
    print(f"    {command} broker get -i http://{DOMAIN}/")
    print(f"    {command} broker post http://{DOMAIN}/echo -d '{{\"answer\": 42}}'")
    print(f"    {command} broker get http://{DOMAIN}/stream\n")
    if not url:
        print("  A browser finds it as well after: pip install 'verser2-guest-python[gateway]'\n")
    print("  Each request shows below. Ctrl-C ends it.\n", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(run_in_loop(demo()))
    except VerserError as error:
        print(f"demo: {error.message}", file=sys.stderr)
        sys.exit(exit_code(error))
