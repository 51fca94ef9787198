"""Which server does the dashboard look at, and where does it listen itself?

There is no setting for a key: everybody signs in with their own.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DashboardSettings(BaseSettings):
    """Read from the environment; the names are the aliases."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore", hide_input_in_errors=True)

    orchestrator_url: str = Field(
        default="http://127.0.0.1:8000",
        alias="CASARE_ORCHESTRATOR_URL",
        description="The apiserver; plain HTTP on this computer by default.",
    )
    ca_file: str | None = Field(
        default=None,
        alias="CASARE_CA_FILE",
        description="PEM file of the authority to trust for an https URL; the server leaves it as ca.crt.",
    )
    host: str = Field(
        default="127.0.0.1",
        alias="CASARE_DASHBOARD_HOST",
        description="Address to listen on. Others reach it through a tunnel or a proxy that adds TLS: keys pass here.",
    )
    port: int = Field(default=8501, ge=1, le=65535, alias="CASARE_DASHBOARD_PORT", description="TCP port to listen on.")
