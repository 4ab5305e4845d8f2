"""The inspector: every request that passes a Host, live in a browser, served beside the gateway.

app         which path is what; `create_inspector`, `with_inspector`
access      who may look
live        what a viewer is sent while it looks
recorder    the last requests, in bounded memory
record      one of them
view        records as the page reads them
hidden      what is secret by its name
bodies      a kept body as it can be looked at
replay      a kept request, sent again
answers     header fields that every answer has
static/     the page: plain HTML, CSS and JavaScript
"""

from __future__ import annotations

from verser2_guest_python.service.inspector.app import Inspector, create_inspector, with_inspector
from verser2_guest_python.service.inspector.recorder import Recorder

__all__ = ["Inspector", "Recorder", "create_inspector", "with_inspector"]
