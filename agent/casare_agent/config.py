"""What is this agent told to be? One frozen value, from the environment or from a file that says the same.

A file that is named on the command line wins over the environment: several robots on one computer are several agents,
each with a file of its own, whatever variables the computer has. The key is never shown: not in a repr, not in a log,
not in a problem.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from casare_agent import config_file
from casare_api.machinery import names
from casare_api.machinery.durations import parse_duration
from casare_client import NoServer
from casare_client.config import server_url


class ConfigError(Exception):
    """What is wrong with the settings, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _words(value: object) -> object:
    """`a, b,c` as a tuple; a list stays as it is."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        return value
    return tuple(dict.fromkeys(word for each in given if (word := str(each).strip())))


def _seconds(value: object) -> object:
    """`60`, `60s` and `1m` as seconds."""
    if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
        return parse_duration(value).total_seconds()
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


def _setting(*variables: str, default: Any = ..., allowed: str, **limits: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(*variables), description=allowed, **limits)


class Settings(BaseSettings):
    """The settings of an agent; the first name of each is the one to use, the others are understood too."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=True)

    orchestrator_url: str = _setting(
        "CASARE_ORCHESTRATOR_URL", "ORCHESTRATOR_URL", "CASARE_API_URL",
        allowed="the server's address, such as http://127.0.0.1:8000",
    )  # fmt: skip
    join_token: SecretStr | None = _setting(
        "CASARE_JOIN_TOKEN", default=None,
        allowed="a join token, as `casare join-tokens create` gave it out; it is swapped for a key",
    )  # fmt: skip
    api_key: SecretStr | None = _setting(
        "CASARE_ORCHESTRATOR_API_KEY", "ORCHESTRATOR_API_KEY", default=None,
        allowed="this robot's API key, as `casare` or the dashboard gave it out; or CASARE_JOIN_TOKEN in its place",
    )  # fmt: skip
    robot_id: str = _setting(
        "CASARE_ROBOT_ID", default="", allowed="any text of 1 to 253 characters; default: this computer's name",
        max_length=253,
    )  # fmt: skip
    robot_name: str | None = _setting(
        "CASARE_ROBOT_NAME", default=None, max_length=253,
        allowed="the name that people see, 1 to 253 characters; default: the robot id",
    )  # fmt: skip
    environment: str = _setting(
        "CASARE_ENVIRONMENT", default="default", allowed="a word of a-z, 0-9 and -, such as production, staging, dev"
    )
    tags: Words = _setting("CASARE_ROBOT_TAGS", default=(), allowed="words, separated by commas")
    capabilities: Words = _setting(
        "CASARE_ROBOT_CAPABILITIES", default=(), allowed="words, separated by commas, beside those that are detected"
    )
    max_concurrent_jobs: int = _setting(
        "CASARE_MAX_CONCURRENT_JOBS", default=1, allowed="a whole number from 1 to 100", ge=1, le=100
    )
    namespace: str = _setting("CASARE_NAMESPACE", default="default", allowed="a namespace of the server")
    ca_file: Path | None = _setting(
        "CASARE_CA_FILE", default=None, allowed="a file with the certificate authority of the server, in PEM"
    )
    shutdown_grace: Annotated[float, BeforeValidator(_seconds)] = _setting(
        "CASARE_SHUTDOWN_GRACE", default=60.0, allowed="seconds that running jobs may take to finish, 0 to 86400",
        ge=0, le=86400,
    )  # fmt: skip
    agent_dir: Path | None = _setting(
        "CASARE_AGENT_DIR", default=None, allowed="the directory for attempts and caches of this computer's robots"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` puts environment and file together itself: the file wins."""
        return (init_settings,)

    @field_validator("orchestrator_url")
    @classmethod
    def _is_url(cls, text: str) -> str:
        try:
            return server_url(text)
        except NoServer as error:
            raise ValueError(str(error)) from None

    @field_validator("api_key", "join_token")
    @classmethod
    def _is_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is None:
            if info.field_name == "api_key" and info.data.get("join_token", "wrong") is None:
                raise PydanticCustomError("missing", "there is no secret to show to the server")
            return None
        text = key.get_secret_value().strip()
        if not text or any(not "!" <= char <= "~" for char in text):
            raise ValueError("holds characters that no key has")
        return SecretStr(text)

    @field_validator("robot_id")
    @classmethod
    def _or_host(cls, text: str) -> str:
        return text.strip() or socket.gethostname()

    @field_validator("environment", "namespace")
    @classmethod
    def _is_label(cls, text: str) -> str:
        if problem := names.check_dns_label(text):
            raise ValueError(problem)
        return text

    @field_validator("ca_file")
    @classmethod
    def _is_there(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @property
    def secret(self) -> str:
        """What was configured to show to the server: the key, or else the join token."""
        found = self.api_key or self.join_token
        return found.get_secret_value() if found is not None else ""

    @property
    def name(self) -> str:
        """The name of the Robot resource."""
        return names.robot_name(self.robot_id)

    @property
    def display_name(self) -> str:
        return self.robot_name or self.robot_id

    @property
    def directory(self) -> Path:
        """Where this robot's attempts and caches are."""
        return (self.agent_dir or _data_directory() / "agent") / self.name


def load(file: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings. Raises ConfigError."""
    values: dict[str, Any] = dict(_from_environment(environ))
    origin = "the environment"
    if file is not None:
        try:
            said = config_file.read(file, NAMES)
            if "join_token" in said:
                values.pop("api_key", None)  # of the environment: the file is that of another robot
            values |= said
        except config_file.Unreadable as error:
            raise ConfigError(error.problems) from None
        origin = str(file)
    try:
        return Settings(**{NAMES_FIRST[field]: value for field, value in values.items()})
    except ValidationError as error:
        raise ConfigError([_problem(each, origin) for each in error.errors()]) from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Field by field, the first of its variables that is set and not empty."""
    found = {}
    for field, variables in NAMES.items():
        value = next((environ[name] for name in variables if environ.get(name)), None)
        if value is not None:
            found[field] = value
    return found


def _problem(error: Any, origin: str) -> str:
    """One line: which setting, what is wrong, what is allowed."""
    named = str(error["loc"][0])  # by its variable; a default by its field
    field, variable = next((field, first) for field, first in NAMES_FIRST.items() if named in (field, first))
    allowed = Settings.model_fields[field].description
    if error["type"] == "missing":
        return f"{variable} is not set (in {origin}): {allowed}"
    why = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable}: {why[:1].lower()}{why[1:]}; allowed: {allowed}"


def _variables(field: str) -> tuple[str, ...]:
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return tuple(str(choice) for choice in alias.choices)


NAMES: dict[str, tuple[str, ...]] = {field: _variables(field) for field in Settings.model_fields}
NAMES_FIRST = {field: variables[0] for field, variables in NAMES.items()}


def _data_directory() -> Path:
    """Where `casare up` keeps its data too."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/casare")
    return Path.home() / ".casare"
