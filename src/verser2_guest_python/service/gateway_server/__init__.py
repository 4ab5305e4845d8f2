"""The server of a gateway: uvicorn in the loop of whoever owns it, and a certificate that can be renewed."""

from verser2_guest_python.service.gateway_server.server import GatewayServer

__all__ = ["GatewayServer"]
