"""The options that say where settings come from: `--config`, `--env-file`, `--secrets-dir`.

Apart from `option_table.py` because they are no settings: no file can hold them.
"""

from __future__ import annotations

from typing import Final

from verser2_guest_python.service.settings.option import GROUP_SOURCES, Kind, Option

SOURCE_OPTIONS: Final = (
    Option(
        "config",
        "--config",
        "TOML file with settings; ./verser2-guest.toml or [tool.verser2-guest] in ./pyproject.toml if not "
        "given.",
        GROUP_SOURCES,
        Kind.FILE,
    ),
    Option(
        "env_file",
        "--env-file",
        "File with lines NAME=VALUE, read as if they were set in the environment, which wins over it.",
        GROUP_SOURCES,
        Kind.FILE,
    ),
    Option(
        "secrets_dir",
        "--secrets-dir",
        "Directory with one file for each secret, named like its variable.",
        GROUP_SOURCES,
        Kind.DIRECTORY,
        default="/run/secrets",
    ),
)
