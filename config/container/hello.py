"""The app of the example: says which container has answered."""

import os


async def app(scope, receive, send):
    """Answers every request with the name of its Guest."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # no lifespan, no WebSockets
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    name = os.environ.get("VERSER_GUEST_ID", "nobody")
    await send({"type": "http.response.body", "body": f"Hello from {name}!\n".encode()})
