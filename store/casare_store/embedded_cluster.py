"""How is the cluster made, with whose password, and which settings does its server get?

A cluster appears whole or not at all: it is made beside its place and renamed. Passwords are random, lie in one libpq
password file of mode 0600 that belongs to whoever runs us, and never stand on a command line or in a log. The role
`casare` owns the database `casare` and is no superuser.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from casare_store import embedded_account, embedded_binaries, embedded_child
from casare_store.embedded_account import Account, EmbeddedError
from casare_store.embedded_binaries import Binaries

SUPERUSER = "postgres"
ROLE = DATABASE = "casare"
# Given on the command line at each start, so that a new version of ours reaches clusters that exist already.
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",  # what carries a resourceVersion must survive a crash once a watcher has seen it
    "wal_buffers": "16MB",
    # Log files are made once and used again: to make one means to write it twice, and everybody waits meanwhile.
    "min_wal_size": "512MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # compiling costs more than any of our short statements
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_parameter_max_length": "0",  # parameters carry what people wrote, keys' hashes among it
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # without DETAIL, which would quote rows
}


@dataclass(frozen=True)
class Cluster:
    """Places in a data directory that belong to the embedded server."""

    data_dir: Path

    @property
    def path(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def password_file(self) -> Path:
        return self.data_dir / "postgres.pass"

    @property
    def log(self) -> Path:
        return self.data_dir / "log" / "postgres.log"

    def major(self) -> int | None:
        """Major version of the cluster; None when there is none yet."""
        try:
            return int((self.path / "PG_VERSION").read_text().split(".")[0])
        except FileNotFoundError:
            return None
        except ValueError:
            raise EmbeddedError(f"{self.path} is damaged: PG_VERSION holds no number; restore a backup") from None


def prepare(cluster: Cluster, binaries: Binaries, account: Account | None) -> None:
    """Make the cluster unless it exists, and the password file unless it exists."""
    if cluster.major() is None:
        _create(cluster, binaries, account)
    elif not cluster.password_file.exists():
        passwords = _new_passwords()
        lines = [f"alter role {role} password '{password}'" for role, password in passwords.items()]
        _single_user(binaries, account, cluster.path, lines)
        _write_password_file(cluster.password_file, passwords)


def _create(cluster: Cluster, binaries: Binaries, account: Account | None) -> None:
    if cluster.path.exists():
        raise EmbeddedError(
            f"{cluster.path} is there but is no Postgres cluster: move it away or take another --data-dir"
        )
    unfinished = cluster.path.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    embedded_account.own_directory(unfinished, account)
    passwords = _new_passwords()
    try:
        _initdb(binaries, account, unfinished, passwords[SUPERUSER])
        _single_user(binaries, account, unfinished, _first_statements(passwords[ROLE]))
        _write_password_file(cluster.password_file, passwords)
        unfinished.rename(cluster.path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _initdb(binaries: Binaries, account: Account | None, path: Path, password: str) -> None:
    given = path.with_name("postgres.initpass")  # initdb reads it under the server's account
    try:
        _write_private(given, password + "\n")
        if account:
            os.chown(given, account.uid, account.gid)
        # fmt: off
        embedded_child.run(
            [
                binaries.program("initdb"), "-D", str(path), "-U", SUPERUSER, f"--pwfile={given}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions",
                # The locale comes with Postgres: sorting does not change when the system's libraries do.
                "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            ],
            env=embedded_binaries.environment(),
            account=account,
        )
        # fmt: on
    finally:
        given.unlink(missing_ok=True)


def _first_statements(password: str) -> list[str]:
    return [
        f"create role {ROLE} login createdb password '{password}'",
        f"grant pg_monitor, pg_checkpoint, pg_signal_backend to {ROLE}",
        f"create database {DATABASE} owner {ROLE}",
    ]


def _single_user(binaries: Binaries, account: Account | None, path: Path, statements: list[str]) -> None:
    """Run statements, one a line, without a server; a statement that fails ends it (it reports only in its output)."""
    # log_min_error_statement: a statement that fails would be quoted, and these hold passwords.
    quiet = ["-c", "log_min_error_statement=panic", "-c", "exit_on_error=on", "-c", "log_checkpoints=off"]
    argv = [binaries.program("postgres"), "--single", "-D", str(path), *quiet, "postgres"]
    embedded_child.run(
        argv, env=embedded_binaries.environment(), account=account, text="".join(f"{line}\n" for line in statements)
    )


def _new_passwords() -> dict[str, str]:
    return {SUPERUSER: secrets.token_urlsafe(32), ROLE: secrets.token_urlsafe(32)}


def _write_password_file(path: Path, passwords: dict[str, str]) -> None:
    _write_private(path, "".join(f"*:*:*:{role}:{password}\n" for role, password in passwords.items()))


def _write_private(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
