"""`get`, `post` and the others: requests by the name of their method.

Apart because they are one idea seven times over, and the Broker has enough to say without them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Unpack

from verser2_guest_python.broker.request import RequestOptions
from verser2_guest_python.broker.response import VerserBrokerResponse


class HttpMethods(ABC):
    """Shorthands for `request`, with the same keyword arguments."""

    @abstractmethod
    async def request(
        self, method: str, url: str, **options: Unpack[RequestOptions]
    ) -> VerserBrokerResponse: ...

    async def get(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("GET", …)`."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("POST", …)`."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("PUT", …)`."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("PATCH", …)`."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("DELETE", …)`."""
        return await self.request("DELETE", url, **options)

    async def head(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("HEAD", …)`."""
        return await self.request("HEAD", url, **options)

    async def options(self, url: str, **options: Unpack[RequestOptions]) -> VerserBrokerResponse:
        """Like `request("OPTIONS", …)`."""
        return await self.request("OPTIONS", url, **options)
