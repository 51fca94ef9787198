"""`casare artifacts`: the files that a job left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from casare_api.kinds import Object
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("artifacts")(artifacts)


def artifacts(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="[job/]NAME", help="The job.")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="With -d: only these files; else all.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option("--directory", "-d", metavar="DIR", help="Download into this folder.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of this attempt; else the newest of each name.")
    ] = None,
    form: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="name, yaml or json.")] = "",
    namespace: options.Namespace = None,
) -> int:
    """List the files that a job left; with -d, download them."""
    from casare_cli import targets
    from casare_cli.failures import Misuse

    name = targets.one(job, "Job")
    if files and folder is None:
        raise Misuse("where to? give the folder with -d DIR")
    if form not in ("", "name", "yaml", "json"):
        raise Misuse(f'there is no output format "{form}" here; allowed: name, yaml, json')
    with session.of(context).client(namespace) as client:
        found = client.artifacts(name, attempt=attempt)
        if folder is None:
            return _list(name, found, form)
        return _download(client, name, found, files or [], folder)


def _list(job: str, found: Sequence[Object], form: str) -> int:
    from datetime import UTC, datetime

    from casare_cli import downloads, output
    from casare_cli.table import Table

    if form in ("yaml", "json"):
        print(output.dumps({"kind": "ArtifactList", "items": list(found)}, form))
    elif form == "name":
        for item in found:
            print(item["name"])
    elif found:
        rows = [downloads.row(one, datetime.now(UTC)) for one in found]
        print("\n".join(Table(downloads.HEADERS).all(rows)))
    else:
        print(f"job/{job} has left no files", file=sys.stderr)
    return 0


def _download(client: Client, job: str, found: Sequence[Object], names: Sequence[str], folder: str) -> int:
    """Saves the files; 1 where one could not be saved, which has been said then."""
    from casare_cli import downloads
    from casare_cli.failures import Failure

    wanted = downloads.chosen(found, names, job)
    if not wanted:
        print(f"job/{job} has left no files", file=sys.stderr)
        return 0
    place = _folder(folder)
    code = 0
    for item in wanted:
        try:
            path = downloads.place(place, str(item["name"]))
            chunks = client.read_artifact(job, str(item["name"]), attempt=item.get("attempt"))
            downloads.save(chunks, item, path)
            print(f"{path} ({downloads.size(int(item['size']))})", flush=True)
        except Failure as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
    return code


def _folder(name: str) -> Path:
    """The folder, made where it is missing. Raises Failure."""
    from pathlib import Path

    from casare_cli.failures import Failure

    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise Failure(f"{name} is a file: give a folder with -d") from None
    except OSError as error:
        raise Failure(f"cannot make the folder {name}: {(error.strerror or type(error).__name__).lower()}") from None
    return folder
