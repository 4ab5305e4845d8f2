"""`broker get URL` and its sisters, and `broker request METHOD URL`: one request, or a load run of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from verser2_guest_python.cli.broker_methods import METHODS, named_request
from verser2_guest_python.cli.broker_options import (
    REQUEST_OPTIONS,
    credentials,
    failures,
    peer_of,
    sources_of,
    with_options,
)
from verser2_guest_python.cli.parameters import GroupedCommand

if TYPE_CHECKING:
    from verser2_guest_python.service.calls.body import RequestBody
    from verser2_guest_python.service.calls.limits import CallLimits
    from verser2_guest_python.service.calls.notes import Notes
    from verser2_guest_python.service.calls.peer import Peer
    from verser2_guest_python.service.calls.request import Call

_WHAT_IT_DOES = "and write the answer's body to standard output."


def method_command(method: str) -> click.Command:
    """The command called `method`."""

    @click.command(
        method,
        cls=GroupedCommand,
        help=f"{named_request(method)} to URL {_WHAT_IT_DOES}",
        short_help=named_request(method),
    )
    @click.argument("url", metavar="URL")
    @with_options(*REQUEST_OPTIONS)
    def command(url: str, **values: Any) -> int:
        return _run(method.upper(), url, values)

    return command


@click.command("request", cls=GroupedCommand, help=f"Send a request of any METHOD to URL {_WHAT_IT_DOES}")
@click.argument("method", metavar="METHOD")
@click.argument("url", metavar="URL")
@with_options(*REQUEST_OPTIONS)
def request(method: str, url: str, **values: Any) -> int:
    if method.lower() in METHODS:
        method = method.upper()
    return _run(method, url, values)


def _run(method: str, url: str, values: dict[str, Any]) -> int:
    silent = values["silent"]
    with failures(silent=silent and not values["show_error"]):
        from verser2_guest_python.service.calls.limits import call_limits
        from verser2_guest_python.service.calls.notes import Notes

        if values["head_only"]:
            if method not in ("GET", "HEAD"):
                raise click.UsageError(f"-I asks for the head alone, which {method} cannot: use it with get.")
            method = "HEAD"
        sources = sources_of(values)
        limits = call_limits(sources)  # what cannot work whatever the Host is
        peer = peer_of(sources, url, values["route_domain"])
        call = _call(method, url, values, limits)
        notes = Notes(silent=silent, verbose=values["verbose"])
        if values["repeat"] is None:
            return _once(peer, call, notes, values)
        return _load(peer, call, notes, values)


def _call(method: str, url: str, values: dict[str, Any], limits: CallLimits) -> Call:
    from verser2_guest_python.service.calls.request import Call, headers_of

    url, user = credentials(values["user"], url)
    body = _body(values)
    return Call(
        method=method,
        url=url,
        headers=headers_of(values["headers"], user=user, body=body, compressed=values["compressed"]),
        body=body,
        route_domain=values["route_domain"],
        timeout=limits.timeout,
        wait=limits.wait,
        lease_timeout=limits.lease_timeout,
        retries=limits.retry,
        redirects=limits.max_redirects if values["location"] else 0,
    )


def _body(values: dict[str, Any]) -> RequestBody | None:
    data, json_value, form = values["data"], values["json_value"], values["form"]
    if bool(data) + (json_value is not None) + bool(form) > 1:
        raise click.UsageError("Only one of -d, --json and -F can be the body of a request.")
    if data:
        from verser2_guest_python.service.calls.body import data_body

        return data_body(data)
    if json_value is not None:
        from verser2_guest_python.service.calls.body import json_body

        return json_body(json_value)
    if form:
        from verser2_guest_python.service.calls.form import form_body

        return form_body(form)
    return None


def _once(peer: Peer, call: Call, notes: Notes, values: dict[str, Any]) -> int:
    from verser2_guest_python.service.calls.answer import Shown
    from verser2_guest_python.service.calls.call import run_call

    if values["concurrency"] is not None:
        raise click.UsageError("--concurrency belongs to a load run: give --repeat too.")
    shown = Shown(
        head=values["include"] or call.method == "HEAD",
        output=values["output"],
        raw=values["raw"],
        fail=values["fail"] or values["fail_body"],
        fail_body=values["fail_body"],
    )
    return run_call(peer, call, shown, notes)


def _load(peer: Peer, call: Call, notes: Notes, values: dict[str, Any]) -> int:
    from verser2_guest_python.service.calls.load import run_load

    names = {"include": "-i", "output": "-o", "raw": "--raw", "location": "-L", "broker__retry": "--retry"}
    for name, flag in names.items():
        if values[name]:
            raise click.UsageError(f"{flag} does not go with --repeat, which shows no answers.")
    fail = values["fail"] or values["fail_body"]
    return run_load(peer, call, notes, values["repeat"], values["concurrency"] or 1, fail=fail)
