"""Settings of `metaalign-server`: flags, environment variables `METAALIGN_*`, a `.env` file, and files of secrets."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from metaalign.prompt import read_manifest
from metaalign_server.callers import ApiKey, Limits, parse_api_keys
from metaalign_server.store.database import DatabaseUrlError, parse_database_url

__all__ = [
    "ALLOWABLE_FIELDS",
    "DEMO_CHECKPOINT",
    "ConfigurationError",
    "Settings",
    "is_loopback",
    "read_settings",
    "unknown_variables",
]


ALLOWABLE_FIELDS = ("cache_salt", "chat_template_kwargs", "prompt_embeds")
"""Refused request fields that an operator who trusts the clients may allow; the others would bypass the tiers."""


_OF_OTHER_PROGRAMS = ("METAALIGN_API_KEY", "METAALIGN_BASE_URL", "METAALIGN_DATA", "METAALIGN_TORCH_INDEX")
"""Variables that clients, tests and the installation read."""


_OTHERS_NAMES = dict.fromkeys(
    ("METAALIGN_CORS_ORIGINS", "METAALIGN_CORS_ALLOWED_ORIGINS", "METAALIGN_CORS_ALLOW_ORIGINS"),
    "METAALIGN_ALLOWED_ORIGINS",
)
"""What other servers call a setting, so that nobody looks for the reason in a browser's console."""


_SECRETS_DIR = "METAALIGN_SECRETS_DIR"
"""Names a folder with a file for each setting that it holds, such as `metaalign_database_url`."""


DEMO_CHECKPOINT = Path(__file__).resolve().parent / "checkpoints" / "metaalign-demo"
"""The checkpoint that comes with the package, wherever the server is started."""


class ConfigurationError(Exception):
    """The server cannot start as configured; the message is one line with the remedy."""


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _comma_separated(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.startswith("["):  # as vLLM writes lists
        return json.loads(value)
    return tuple(part.strip() for part in value.split(",") if part.strip())


class Settings(BaseSettings):
    """Settings of the server itself; the engine is configured with vLLM's own flags."""

    model_config = SettingsConfigDict(env_prefix="METAALIGN_", env_file=".env", extra="ignore", frozen=True)

    model: str = Field(
        str(DEMO_CHECKPOINT),
        description="checkpoint folder or Hugging Face model name; default: the demo in this package",
    )
    served_model_name: str | None = Field(
        None, description="name that clients use; default: its recipe's name, or the folder's"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    uds: str | None = Field(None, description="Unix socket to listen on instead of an address")
    root_path: str = Field("", description="path under which a proxy publishes the server, such as /llm")
    ssl_certfile: str | None = Field(
        None, description="certificate chain (PEM); the server then speaks HTTPS"
    )
    ssl_keyfile: str | None = Field(None, description="its private key, if it is in a file of its own")
    ssl_ca_certs: str | None = Field(None, description="authorities that may sign clients' certificates")
    ssl_cert_reqs: int = Field(
        0, ge=0, le=2, description="clients' certificates: 0 none, 1 optional, 2 required"
    )
    ssl_ciphers: str | None = Field(None, description="ciphers of TLS 1.2, as OpenSSL writes them")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated origins whose pages may call the server, such as https://app.example.com",
    )
    allowed_methods: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",), description="methods of these pages"
    )
    allowed_headers: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",), description="headers of these pages"
    )
    allow_credentials: bool = Field(False, description="let these pages send cookies")
    disable_fastapi_docs: bool = Field(False, description="serve neither /docs nor /openapi.json")
    playground: bool = Field(True, description="serve /playground, a page to try preferences side by side")
    api_keys: SecretStr = Field(
        SecretStr(""), description="comma-separated keys; `key:inference` may not write the System tier"
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///metaalign.db"), description="the store: `sqlite:///FILE` or `postgresql://…`"
    )
    database_max_bytes: int | None = Field(None, ge=65_536, description="maximum bytes of an SQLite file")
    redis_url: SecretStr = Field(
        SecretStr(""), description="`redis://…`: share limit counters with other servers"
    )
    secret: SecretStr = Field(
        SecretStr(""), description="secret for hashing keys and users' ids; default: one kept in the store"
    )
    key_environment: str = Field(
        "live", pattern=r"^[a-z0-9]{1,16}$", description="word in new keys, as in `ma_live_…`"
    )
    refresh_seconds: float = Field(
        2.0, ge=0, description="seconds until changes made through another server take effect"
    )
    key_limits: Annotated[Limits, NoDecode] = Field(
        Limits(), description='limits for keys that set none, as JSON: {"requests_per_minute": 60}'
    )
    tenant_limits: Annotated[Limits, NoDecode] = Field(Limits(), description="the same for tenants")
    user_limits: Annotated[Limits, NoDecode] = Field(
        Limits(), description="the same for each user who holds a signed token"
    )
    max_waiting: int = Field(
        1024, ge=0, description="maximum number of requests waiting for the engine; beyond it, some get a 503"
    )
    feedback: bool = Field(False, description="store exchanges so that users can give feedback on them")
    list_profiles: bool = Field(
        False, description="list a tenant's profiles among its models, for clients that pick"
    )
    store_responses: bool = Field(
        False, description="store what `/v1/responses` answers unless a request says `store: false`"
    )
    retention_days: float = Field(
        30.0, gt=0, description="days to keep exchanges with their feedback, and stored responses"
    )
    stall_seconds: float = Field(
        30.0,
        ge=0,
        description="seconds of silence until the engine is not ready; twice that until the server exits; 0: never",
    )
    allow_open_network: bool = Field(False, description="listen beyond loopback even if no key is configured")
    allow_fields: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated request fields to accept although they are refused by default"
    )
    allow_xargs: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated names that a request may use in `vllm_xargs`"
    )
    allow_template_arguments: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated names of switches and numbers that a request may set in `chat_template_kwargs`,"
        " such as enable_thinking",
    )
    allow_kv_connectors: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated KV connectors to use although their keys may leave the tenant's salt out",
    )
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="maximum bytes of a request body")
    max_choices: int = Field(64, ge=1, description="maximum `n`")
    max_logprobs: int = Field(
        50_000,
        ge=1,
        description="maximum log probabilities in one answer: choices x tokens x (1 + `top_logprobs`)",
    )
    grammar_seconds: float = Field(
        4.0,
        ge=1,
        description="CPU seconds that compiling an output constraint may take; beyond them it gets a 400",
    )
    write_seconds: float = Field(
        60.0, gt=0, description="seconds after which a client that does not read its answer is disconnected"
    )
    drain_seconds: float = Field(30.0, ge=0, description="seconds that SIGTERM waits for requests in flight")
    log_format: Literal["json", "text"] = Field("json", description="`json` or `text`, one line per event")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`"
    )
    steering: bool | None = Field(
        None,
        description="serve `preferences.strength` and `preferences.blend`; unset: on CPU only, where it is tested",
    )
    prewarm: int = Field(
        16,
        ge=0,
        description="Meta-Prompts to prefill while idle: of labels that move, and after a start the hottest; 0: none",
    )
    spec_cache_bytes: int = Field(
        128 * 2**20,
        ge=0,
        description="bytes of memory for rendered Meta-Prompts; 0: none is kept",
    )

    _split_fields = field_validator(
        "allow_fields",
        "allow_xargs",
        "allow_template_arguments",
        "allow_kv_connectors",
        "allowed_origins",
        "allowed_methods",
        "allowed_headers",
        mode="before",
    )(_comma_separated)
    _read_limits = field_validator("key_limits", "tenant_limits", "user_limits", mode="before")(_from_json)

    @field_validator("allow_fields")
    @classmethod
    def _only_what_can_be_allowed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(ALLOWABLE_FIELDS)):
            raise ValueError(
                f"{', '.join(unknown)} cannot be allowed; only {', '.join(ALLOWABLE_FIELDS)} can"
            )
        return names

    @field_validator("allow_xargs")
    @classmethod
    def _none_of_ours(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if found := [name for name in names if name.startswith("metaalign")]:
            raise ValueError(f"{found[0]} is written by this server alone, and cannot be allowed")
        return names

    @field_validator("root_path")
    @classmethod
    def _one_slash_in_front(cls, path: str) -> str:
        path = path.strip("/")
        return f"/{path}" if path else ""

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The configured keys."""
        return parse_api_keys(self.api_keys.get_secret_value())

    def check(self) -> None:
        """Validate the settings that are still plain text.

        Raises:
            ValueError: the keys or the database URL are malformed; the message does not repeat them.
        """
        _ = self.keys
        try:
            parse_database_url(self.database_url.get_secret_value())
        except DatabaseUrlError as error:
            raise ValueError(f"METAALIGN_DATABASE_URL: {error}") from None

    @property
    def model_name(self) -> str:
        """The name under which the model is served: as told, or its recipe's, or its folder's.

        Raises:
            metaalign.InvalidCheckpoint: the folder has a manifest that cannot be read.
        """
        if self.served_model_name:
            return self.served_model_name
        path = Path(self.model)
        if not path.is_dir():
            return self.model
        manifest = read_manifest(path)
        return (manifest.name if manifest is not None else None) or path.resolve().name

    @property
    def open_allowed(self) -> bool:
        """Whether a server without any key serves everyone: only this machine, or if the operator allows it."""
        return self.allow_open_network or bool(self.uds) or is_loopback(self.host)


def read_settings(given: Mapping[str, object]) -> Settings:
    """Return the settings: those `given`, and the others from the environment, `.env` and the folder of secrets.

    Raises:
        ConfigurationError: the folder of secrets, or a file in it, cannot be read, or a file sets nothing.
        pydantic.ValidationError: a value is wrong.
    """
    name = os.environ.get(_SECRETS_DIR)
    if not name:
        return Settings(**given)  # type: ignore[arg-type]  # flags are text, which is converted
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigurationError(f"{_SECRETS_DIR}: {folder}: no such folder")
    prefix = str(Settings.model_config["env_prefix"]).lower()
    known = {prefix + field for field in Settings.model_fields}
    for file in sorted(folder.iterdir()):
        lower = file.name.lower()
        if lower.startswith(prefix) and lower not in known:
            meant = "".join(f"; is it {near}?" for near in get_close_matches(lower, known, 1))
            raise ConfigurationError(f"{_SECRETS_DIR}: {file}: sets nothing{meant}")
    try:
        return Settings(**given, _secrets_dir=folder)  # type: ignore[arg-type]
    except OSError as error:
        raise ConfigurationError(
            f"{_SECRETS_DIR}: {error.filename}: {error.strerror}; the user that runs the server must be able to read it"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{_SECRETS_DIR}: a file in {folder} is not UTF-8 text") from None


def unknown_variables() -> dict[str, str]:
    """Return the variables METAALIGN_* of the environment and of `.env` that set nothing, with what may be meant.

    Raises:
        ConfigurationError: `.env` is not text, or a variable is another server's name of a setting.
    """
    prefix = str(Settings.model_config["env_prefix"])
    known = {prefix + name.upper() for name in Settings.model_fields}
    try:
        given = {*os.environ, *dotenv_values(".env")}
    except UnicodeDecodeError as error:
        raise ConfigurationError(f".env: not UTF-8 text at byte {error.start}") from None
    unknown = {name for name in given if name.upper().startswith(prefix)}
    unknown -= {name for name in unknown if name.upper() in known} | {*_OF_OTHER_PROGRAMS, _SECRETS_DIR}
    for name in sorted(unknown):
        if name.upper() in _OTHERS_NAMES:
            raise ConfigurationError(f"{name}: there is no such setting; it is {_OTHERS_NAMES[name.upper()]}")
    return {name: "".join(get_close_matches(name.upper(), known, 1)) for name in sorted(unknown)}


def is_loopback(host: str) -> bool:
    """Return whether the name or address is reachable only from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
