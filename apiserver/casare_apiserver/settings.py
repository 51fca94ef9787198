"""Which settings does the API server have, and why?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from casare_api.decisions.signin import Claims
from casare_apiserver.addresses import Addresses
from casare_apiserver.oidc import SignIns


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
    secret_key_fallbacks: SecretStr = Field(
        SecretStr(""), validation_alias="CASARE_SECRET_KEY_FALLBACKS",
        description="Keys, with commas between, that open Secrets and never seal them: the one before, or the next.",
    )
    secret_key_fallback_files: str = Field(
        "", validation_alias="CASARE_SECRET_KEY_FALLBACK_FILES",
        description="Files with one such key each, with commas between.",
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

    oidc_issuer: str | None = Field(
        None, validation_alias="CASARE_OIDC_ISSUER_URL",
        description="The issuer of OpenID Connect tokens that people sign in with; where not set, keys alone are good.",
    )
    oidc_audience: str | None = Field(
        None, validation_alias="CASARE_OIDC_AUDIENCE",
        description="The audience that tokens must be made for: this server's client id at the issuer.",
    )
    oidc_username_claim: str = Field(
        "sub", min_length=1, validation_alias="CASARE_OIDC_USERNAME_CLAIM",
        description="The claim that is the user's name.",
    )
    oidc_username_prefix: str = Field(
        "oidc:", validation_alias="CASARE_OIDC_USERNAME_PREFIX",
        description="What stands before it in bindings, so that no other user is called so.",
    )
    oidc_groups_claim: str = Field(
        "groups", min_length=1, validation_alias="CASARE_OIDC_GROUPS_CLAIM",
        description="The claim that lists the user's groups.",
    )
    oidc_groups_prefix: str = Field(
        "oidc:", validation_alias="CASARE_OIDC_GROUPS_PREFIX",
        description="What stands before each of them in bindings.",
    )
    oidc_ca_file: Path | None = Field(
        None, validation_alias="CASARE_OIDC_CA_FILE",
        description="Certificates that the issuer's is checked against, in place of the system's.",
    )

    def sign_ins(self, now: Callable[[], datetime]) -> SignIns | None:
        """Who signs in with OIDC, None where nobody does. Raises ValueError in one line where a setting is wrong."""
        if not self.oidc_issuer:
            return None
        if not self.oidc_audience:
            raise ValueError("CASARE_OIDC_ISSUER_URL needs CASARE_OIDC_AUDIENCE: whom must a token be made for?")
        claims = Claims(
            self.oidc_username_claim, self.oidc_username_prefix, self.oidc_groups_claim, self.oidc_groups_prefix
        )
        try:
            return SignIns.of(self.oidc_issuer, self.oidc_audience, claims, self.oidc_ca_file, now)
        except ValueError as why:
            raise ValueError(f"CASARE_OIDC_ISSUER_URL: {why}") from None
        except OSError as why:
            raise ValueError(f"CASARE_OIDC_CA_FILE: {why.strerror or why}: {self.oidc_ca_file}") from None

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

    def fallback_keys(self) -> list[str]:
        """The texts of keys that open Secrets and never seal them. Raises ValueError in one line for a missing file."""
        files = _words(self.secret_key_fallback_files)
        try:
            return [*_words(self.secret_key_fallbacks.get_secret_value()), *(Path(name).read_text() for name in files)]
        except OSError as why:
            raise ValueError(f"CASARE_SECRET_KEY_FALLBACK_FILES: {why.strerror or why}: {why.filename}") from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
