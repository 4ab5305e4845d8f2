"""The options of the log, in the order in which `--help` shows them.

Apart from `option_table.py` because every command that runs on has the same ones.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.service.settings.option import GROUP_LOG, Kind, Option

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LOG_FORMATS: Final = ("auto", "console", "json", "logfmt")

LOG_OPTIONS: Final = (
    Option(
        "log.level",
        "--log-level",
        "How much is logged.",
        GROUP_LOG,
        default="info",
        choices=LOG_LEVELS,
    ),
    Option(
        "log.format",
        "--log-format",
        "auto is console on a terminal, else json: one object a line; logfmt: one line of name=value.",
        GROUP_LOG,
        default="auto",
        choices=LOG_FORMATS,
    ),
    Option(
        "log.access_log",
        "--access-log",
        "One line for each request.",
        GROUP_LOG,
        Kind.SWITCH,
        default=True,
        off_flag="--no-access-log",
    ),
    Option(
        "log.access_log_sample",
        "--access-log-sample",
        "Share of the requests that get a line, from 0 to 1; those that failed always do.",
        GROUP_LOG,
        metavar="SHARE",
        default=1.0,
    ),
    Option(
        "log.access_log_query",
        "--access-log-query",
        "Keep what is behind ? in the path; what looks like a secret is masked.",
        GROUP_LOG,
        Kind.SWITCH,
        default=False,
        off_flag="--no-access-log-query",
    ),
    Option(
        "log.config",
        "--log-config",
        "File for Python's logging, in place of all this: .json, .yaml, or else .ini.",
        GROUP_LOG,
        Kind.FILE,
    ),
)
