"""`--log-config`: the logging of somebody who wants it otherwise, from a file as uvicorn takes it.

JSON and YAML hold what `logging.config.dictConfig` wants, everything else is the INI of
`logging.config.fileConfig`. What this program says goes to loggers of the standard library then, with
its fields as attributes of the records.
"""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from verser2_guest_python.errors import VerserConfigurationError

EVENT_LOGGER: Final = "verser2_guest_python.events"
ACCESS_LOGGER: Final = "verser2_guest_python.access"
STANDARD_ATTRIBUTES: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def configure_logging(path: Path) -> None:
    """Sets logging up as the file says; raises `VerserConfigurationError` that names it."""
    with _told(path):
        values = _read(path)
        if isinstance(values, ConfigParser):
            logging.config.fileConfig(values, disable_existing_loggers=False)
        else:
            logging.config.dictConfig({"disable_existing_loggers": False, **values})


def check_logging(path: Path) -> None:
    """Looks whether the file can be read; raises `VerserConfigurationError` that names it.

    Only a start makes its handlers, which open files and connections.
    """
    with _told(path):
        _read(path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong inside becomes one sentence that names the file."""
    try:
        yield
    except OSError as error:
        raise VerserConfigurationError(
            f"--log-config names a file that cannot be read: {path} ({error.strerror})."
        ) from None
    except VerserConfigurationError:
        raise
    except Exception as error:  # whatever handlers and formatters of anybody's raise
        raise VerserConfigurationError(
            f"{path} cannot be used as logging configuration: {_why(error)}."
        ) from error


def record_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries beside the standard: the `extra` of whoever logged it."""
    return {name: value for name, value in record.__dict__.items() if name not in STANDARD_ATTRIBUTES}


def as_extra(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as a record can carry them: a name that records have themselves gets a `_` behind it."""
    return {f"{name}_" if name in STANDARD_ATTRIBUTES else name: value for name, value in fields.items()}


def _read(path: Path) -> dict[str, Any] | ConfigParser:
    match path.suffix.lower():
        case ".json":
            values = json.loads(path.read_bytes())
        case ".yaml" | ".yml":
            values = _yaml(path)
        case _:
            parser = ConfigParser()  # as fileConfig makes it
            parser.read_string(path.read_text(encoding="utf-8"), str(path))
            for section in ("loggers", "handlers", "formatters"):
                if not parser.has_section(section):
                    raise ValueError(f"there is no section [{section}]")
            return parser
    if not isinstance(values, dict):
        raise ValueError("it holds no table of settings for logging")
    return values


def _yaml(path: Path) -> object:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise VerserConfigurationError(
            f"{path} is YAML, which needs PyYAML: pip install pyyaml, or write it as JSON."
        ) from None
    return yaml.safe_load(path.read_bytes())


def _why(error: BaseException) -> str:
    """What went wrong, and what was behind it: `Unable to configure handler 'x': no such class`."""
    reasons: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(reasons) < 3:
        reasons.append(str(cause) or type(cause).__name__)
        cause = cause.__cause__
    return ": ".join(" ".join(reason.split()) for reason in reasons).rstrip(".")
