"""What did the person say before the command, and which server follows from it?"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    from casare_client import Client, Config


@dataclass(frozen=True, slots=True)
class Session:
    """The global options; the key stays out of the repr."""

    server: str | None = None
    key: str | None = field(default=None, repr=False)
    kubeconfig: str | None = None
    data_dir: str | None = None
    ca_file: str | None = None

    def config(self, namespace: str | None = None) -> Config:
        """How to reach the server that is meant. Raises NoServer."""
        from casare_client.connection import from_environment

        return from_environment(
            self.server,
            self.key,
            kubeconfig=self.kubeconfig,
            data_dir=self.data_dir,
            ca_file=self.ca_file,
            namespace=namespace,
            warn=lambda line: print(f"warning: {line}", file=sys.stderr),
        )

    def client(self, namespace: str | None = None) -> Client:
        """A client of that server; `namespace` is where it looks when a call names none."""
        from casare_client import Client

        return Client(self.config(namespace), f"casare/{_version()}")

    def export(self) -> None:
        """Puts the options into the environment, for the programs that read their settings from there."""
        values = {
            "CASARE_ORCHESTRATOR_URL": self.server,
            "CASARE_ORCHESTRATOR_API_KEY": self.key,
            "KUBECONFIG": self.kubeconfig,
            "CASARE_DATA_DIR": self.data_dir,
            "CASARE_CA_FILE": self.ca_file,
        }
        os.environ.update({name: value for name, value in values.items() if value})


def of(context: typer.Context) -> Session:
    """The session of a command that is running."""
    found = context.find_object(Session)
    return found if found is not None else Session()


def _version() -> str:
    from casare_cli.versions import own

    return own()
