"""Which settings does the API server have, and why?"""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from casare_apiserver.addresses import Addresses


class Settings(BaseSettings):
    """Read from the environment; each has a default that is right for one computer."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: str = Field(validation_alias="DATABASE_URL", description="libpq URI of the Postgres to use.")
    host: str = Field("127.0.0.1", validation_alias="CASARE_HOST", description="Address to listen on.")
    port: int = Field(
        8000, ge=1, le=65535, validation_alias="CASARE_PORT", description="Port of plain HTTP."
    )
    tls_port: int = Field(
        8443, ge=0, le=65535, validation_alias="CASARE_TLS_PORT", description="Port of HTTPS; 0 turns it off."
    )
    pki_dir: Path | None = Field(
        None, validation_alias="CASARE_PKI_DIR", description="Where the certificate authority is kept; made if missing."
    )
    admin_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("ORCHESTRATOR_ADMIN_API_KEY", "API_SECRET"), description="The admin key."
    )
    admin_key_file: Path | None = Field(
        None, validation_alias="CASARE_ADMIN_KEY_FILE", description="A file with the admin key, where it is not set."
    )
    secret_key: SecretStr | None = Field(
        None, validation_alias="CASARE_SECRET_KEY",
        description="What Secrets are sealed with in the database: any text of at least 32 characters.",
    )
    secret_key_file: Path | None = Field(
        None, validation_alias="CASARE_SECRET_KEY_FILE", description="A file with the secret key, where it is not set."
    )
    bookmark_seconds: float = Field(
        30.0, gt=0, validation_alias="CASARE_WATCH_BOOKMARK_SECONDS",
        description="Seconds between bookmarks, which keep a quiet watch's place in history fresh.",
    )
    stall_seconds: float = Field(
        30.0, gt=0, validation_alias="CASARE_WATCH_STALL_SECONDS",
        description="Seconds that a client may leave what it is sent unread before its connection is cut.",
    )
    head_seconds: float = Field(
        15.0, gt=0, validation_alias="CASARE_HEAD_SECONDS",
        description="Seconds that a client may take to send a request's path and headers before its connection is cut.",
    )
    trusted_proxies: str = Field(
        "", validation_alias="CASARE_TRUSTED_PROXIES",
        description="Addresses and networks, with commas between, whose X-Forwarded-For says who asks.",
    )
    limit_per_second: float = Field(
        500.0, ge=0, validation_alias="CASARE_LIMIT_PER_SECOND",
        description="Requests a second of one key at one apiserver, after four seconds' worth at once; 0: any number.",
    )
    limit_reports_per_second: float = Field(
        500.0, ge=0, validation_alias="CASARE_LIMIT_REPORTS_PER_SECOND",
        description="The same of what a robot reports (heartbeats, transitions, logs, files), counted by itself.",
    )
    limit_strangers_per_second: float = Field(
        20.0, ge=0, validation_alias="CASARE_LIMIT_STRANGERS_PER_SECOND",
        description="The same of one address without a key, or with one that is not good.",
    )
    connections_per_address: int = Field(
        0, ge=0, validation_alias="CASARE_CONNECTIONS_PER_ADDRESS",
        description="Connections that one address may hold; 0: three quarters of what the process can have.",
    )
    hsts_seconds: int = Field(
        86_400, ge=0, validation_alias="CASARE_HSTS_SECONDS",
        description="Seconds in which browsers that were here over HTTPS ask this host in no other way; 0: not said.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        Addresses.parse(text)
        return text

    def admin(self) -> str:
        """The admin key. Raises ValueError in one line where there is none."""
        if self.admin_key is not None and self.admin_key.get_secret_value():
            return self.admin_key.get_secret_value()
        if self.admin_key_file is not None and self.admin_key_file.exists():
            return self.admin_key_file.read_text().strip()
        raise ValueError("there is no admin key: set ORCHESTRATOR_ADMIN_API_KEY or CASARE_ADMIN_KEY_FILE")

    def sealing_key(self) -> str | None:
        """The text that Secrets are sealed with, None where there is none. Raises OSError for a file that is not there.

        Without it no Secret can be read or written; all else works.
        """
        if self.secret_key is not None and self.secret_key.get_secret_value():
            return self.secret_key.get_secret_value()
        return self.secret_key_file.read_text().strip() if self.secret_key_file is not None else None
