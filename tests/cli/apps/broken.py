"""Fails when it is imported."""

from __future__ import annotations

settings: dict[str, str] = {}
DATABASE = settings["DATABASE_URL"]
