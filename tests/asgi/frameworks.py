"""Imports the frameworks that are installed while tests are collected.

What is there by then stays out of the garbage collections after each test (`tests/conftest.py`); a
framework imported in the middle of the run would slow down every test after it. A test asks for its
framework with `pytest.importorskip`.
"""

from __future__ import annotations

import contextlib
import importlib

for _name in (
    "a2wsgi",
    "asgiref.wsgi",
    "django.core.handlers.asgi",
    "django.core.handlers.wsgi",
    "fastapi",
    "flask",
    "litestar",
    "litestar.handlers",
    "quart",
    "starlette.applications",
    "uvicorn.middleware.proxy_headers",
):
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)
