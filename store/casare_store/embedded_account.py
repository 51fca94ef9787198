"""Under which account does the embedded server run, and what keeps that account from its files?

Postgres refuses to run as root. Root therefore runs it as `postgres`, or `nobody` where there is no such user: an
account with a passwd entry, because initdb looks its own name up. Nothing outside the data directory is changed to
let that account in; where it can't get in, the person hears which directory is shut.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path


class EmbeddedError(Exception):
    """The embedded server can't be used. The message is one line for people: what, where, what to do."""


@dataclass(frozen=True)
class Account:
    """An unprivileged user that the server runs as, when we are root."""

    name: str
    uid: int
    gid: int


def server_account(cluster: Path) -> Account | None:
    """The account to run the server of `cluster` as; None means: as ourselves.

    An existing cluster keeps its owner, since Postgres refuses a directory that belongs to somebody else.
    """
    if sys.platform == "win32":
        return None
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise EmbeddedError(f"{cluster} belongs to {_name(owner)}: run as that user or take another --data-dir")
        return None
    if owner:
        return _account_of(owner)
    return _first_account("postgres", "nobody")


def let_in(account: Account, data_dir: Path) -> None:
    """Make sure that the account can enter the data directory; only that directory's own mode is ever changed."""
    for parent in reversed(data_dir.parents):
        if parent.exists() and not _may_enter(account, parent):
            raise EmbeddedError(
                f"{data_dir}: Postgres runs as {account.name} here, which may not enter {parent}; "
                "take a --data-dir outside of it, such as /var/lib/casare"
            )
    if data_dir.exists() and not _may_enter(account, data_dir):
        data_dir.chmod(stat.S_IMODE(data_dir.stat().st_mode) | stat.S_IXGRP | stat.S_IXOTH)


def own_directory(path: Path, account: Account | None) -> None:
    """Make `path` a directory that only the server's account can look into."""
    path.mkdir(mode=0o700, exist_ok=True)
    if account and sys.platform != "win32":
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)


def _may_enter(account: Account, directory: Path) -> bool:
    info = directory.stat()
    if info.st_uid == account.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == account.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def _first_account(*names: str) -> Account:
    import pwd

    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError("Postgres does not run as root and there is no user `nobody`: run as an ordinary user")


def _account_of(uid: int) -> Account:
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(f"the data directory belongs to uid {uid}, which has no passwd entry") from None
    return Account(entry.pw_name, uid, entry.pw_gid)


def _name(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"
