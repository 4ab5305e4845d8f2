"""All settings of a process as one typed value: command line over environment over defaults.

Apart from `options.py` (how users meet a setting) because this is what the rest of the program
gets: checked, typed, in small groups. Further sources (a file, a directory of secrets) join the
tuple in `settings_customise_sources`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from verser2_guest_python.errors import VerserUsageError
from verser2_guest_python.service.environment import (
    LISTS,
    PREFIX,
    SECRETS,
    look_up,
    shown_variable,
    split_list,
)
from verser2_guest_python.service.options import OPTIONS

Count = Annotated[int, Field(ge=1, le=100_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
# Where pydantic's own words help nobody
_WANTED: Final = MappingProxyType({"byte_size": "it should be a size such as 64MiB, 500KB or 67108864"})
MIN_UNREAD_BYTES: Final = 64 * 1024
MAX_IDLE_WEBSOCKET_LEASES: Final = 4  # deployed Hosts refuse the fifth (protocol.md §11)


def _split(value: object) -> object:
    """`a,b` is as clear as two values."""
    if isinstance(value, str):
        return split_list(value)
    if isinstance(value, tuple | list):
        return tuple(entry for item in value for entry in split_list(str(item)))
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_split)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_split)]


def _default(key: str) -> Any:
    return Field(default=OPTIONS[key].default, description=OPTIONS[key].sentence)


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True
    )


class TlsSettings(_Group):
    """Whom to trust, and who we are."""

    ca_file: Path | None = _default("tls.ca_file")
    cert_file: Path | None = _default("tls.cert_file")
    key_file: Path | None = _default("tls.key_file")
    key_password: SecretStr | None = Field(default=None, description="Password of the key file.")
    pfx_file: Path | None = _default("tls.pfx_file")
    pfx_password: SecretStr | None = Field(default=None, description="Password of the PKCS#12 file.")


class LeaseSettings(_Group):
    """How many requests may come at once."""

    min_waiting_streams: Count = _default("leases.min_waiting_streams")
    limit_concurrency: Count = _default("leases.limit_concurrency")
    min_waiting_websocket_streams: Annotated[int, Field(ge=0, le=MAX_IDLE_WEBSOCKET_LEASES)] = _default(
        "leases.min_waiting_websocket_streams"
    )
    max_websocket_streams: Annotated[int, Field(ge=0, le=100_000)] = _default("leases.max_websocket_streams")


class SessionSettings(_Group):
    """Connecting to the Host and leaving it."""

    connect_timeout: Annotated[Seconds, Field(gt=0)] = _default("session.connect_timeout")
    reconnect_max_delay: Annotated[Seconds, Field(gt=0)] = _default("session.reconnect_max_delay")
    ping_interval: Annotated[Seconds, Field(gt=0)] = _default("session.ping_interval")
    ping_timeout: Annotated[Seconds, Field(gt=0)] = _default("session.ping_timeout")
    proxy: SecretStr | None = Field(default=None, description=OPTIONS["session.proxy"].sentence)
    all_hosts: bool = _default("session.all_hosts")
    handover: bool = _default("session.handover")
    max_unread_bytes: Annotated[ByteSize, Field(ge=MIN_UNREAD_BYTES)] = _default("session.max_unread_bytes")
    timeout_graceful_shutdown: Seconds = _default("session.timeout_graceful_shutdown")
    exit_on_connect_failure: bool = _default("session.exit_on_connect_failure")
    fail_if_registered: bool = _default("session.fail_if_registered")


class WorkerSettings(_Group):
    """How many processes serve, and when they are replaced."""

    workers: Annotated[Count, Field(le=1_000)] = _default("workers.workers")
    limit_max_requests: Annotated[int, Field(ge=1)] | None = _default("workers.limit_max_requests")
    limit_max_requests_jitter: Annotated[int, Field(ge=0)] = _default("workers.limit_max_requests_jitter")
    reload: bool = _default("workers.reload")
    reload_dir: Paths = _default("workers.reload_dir")
    reload_include: Texts = _default("workers.reload_include")
    reload_exclude: Texts = _default("workers.reload_exclude")


class LogSettings(_Group):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error", "critical"] = _default("log.level")
    format: Literal["auto", "console", "json"] = _default("log.format")
    access_log: bool = _default("log.access_log")

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that a Guest process can be told."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        str_strip_whitespace=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
    )

    app: str = Field(default="", description="The app, as module:attribute.")
    app_dir: Path = _default("app_dir")
    factory: bool = _default("factory")
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"] = _default("interface")
    lifespan: Literal["auto", "on", "off"] = _default("lifespan")
    root_path: str = _default("root_path")
    proxy_headers: bool = _default("proxy_headers")
    forwarded_allow_brokers: Texts = _default("forwarded_allow_brokers")
    debug: bool = _default("debug")
    host_url: Texts = _default("host_url")
    guest_id: str = Field(default="", description=OPTIONS["guest_id"].sentence)
    broker_id: str = Field(default="", description=OPTIONS["broker_id"].sentence)
    routed_domains: Texts = _default("routed_domains")
    tls: TlsSettings = TlsSettings()
    leases: LeaseSettings = LeaseSettings()
    session: SessionSettings = SessionSettings()
    workers: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the strongest first."""
        return (init_settings, _Environment(settings_cls))


class _Environment(PydanticBaseSettingsSource):
    """The variables of `environment.py`; pydantic's own source knows neither aliases nor conflicts."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # demanded by the base class, which calls it for nothing else

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key in setting_keys(self.settings_cls):
            if found := look_up(key, os.environ):
                _put(values, key, found.value)
        return values


def setting_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting of `model` by its path: `app`, `tls.ca_file`, …"""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def load_settings(given: Mapping[str, object]) -> Settings:
    """The settings of this process; `given` is what the command line says, by key (`tls.ca_file`).

    `None` and empty tuples in `given` count as not said. Raises `VerserUsageError` that names the
    flag or variable of a bad value, and `VerserConfigurationError` for variables that contradict
    each other.
    """
    values: dict[str, Any] = {}
    said = {key: value for key, value in given.items() if value is not None and value != ()}
    for key, value in said.items():
        _put(values, key, value)
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = _key_of(first["loc"])
        value = "The value" if key in SECRETS else f"The value {str(first['input'])!r}"
        wanted = _WANTED.get(first["type"]) or _plain(first["msg"])
        raise VerserUsageError(f"{value} of {source_of(key, said)} does not fit: {wanted}.") from None


def source_of(key: str, said: Mapping[str, object]) -> str:
    """The name under which the value of `key` was given: a flag or a variable."""
    option = OPTIONS.get(key)
    if option is not None and key in said:
        return option.flag
    found = look_up(key, os.environ)
    return found.variable if found else shown_variable(key)


def missing(key: str) -> VerserUsageError:
    """The error for a setting that must be given and is not."""
    option = OPTIONS[key]
    return VerserUsageError(
        f"{option.flag} is missing: give it, or set {shown_variable(key)} ({option.sentence.rstrip('.')})."
    )


def _put(values: dict[str, Any], key: str, value: object) -> None:
    group, _, name = key.rpartition(".")
    (values.setdefault(group, {}) if group else values)[name] = value


def _key_of(location: tuple[int | str, ...]) -> str:
    names = [part for part in location if isinstance(part, str)]
    return names[0] if names and names[0] in LISTS else ".".join(names)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".").replace("Input should", "it should", 1)
