"""Doors for other ecosystems: each module is one, and is imported by who goes through it.

- `integrations.httpx`: `VerserTransport` and `SyncVerserTransport`, apps behind Guests for httpx2 and httpx
- `integrations.sync`: `SyncVerserBroker`, a Broker for programs without an event loop
- `integrations.pytest`: fixtures for a user's own tests, loaded by pytest itself
"""
