"""Which bytes do a workflow's files hold? They are read beside the manifest and travel to the server as blobs.

A path is relative to its manifest and stays within the folder that was applied: a manifest from somewhere else must
not be able to send off what lies in a home directory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from casare_api.kinds import Object
from casare_cli.manifests import MAX_FILE, Manifest, named_files


class FileProblem(Exception):
    """A file that can't be sent: the field that names it, and why."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


def with_digests(manifest: Manifest, store: Callable[[bytes], str]) -> Object:
    """The manifest's object with `sha256` beside every file it names; `store(bytes)` keeps them and returns it.

    A file that is not there but has its digest in the manifest (as `casare get -o yaml` prints it) is left as it is:
    the server has it. Raises FileProblem for one that is missing, too large or outside of the applied folder.
    """
    obj = copy.deepcopy(manifest.object)
    for path, holder, key in named_files(obj):
        file = _inside(manifest, path, holder[key])
        if file.exists() or not holder.get("sha256"):
            holder["sha256"] = store(read(manifest, path, holder[key]))
    return obj


def read(manifest: Manifest, path: str, name: str) -> bytes:
    """The bytes of a file that the field at `path` names."""
    file = _inside(manifest, path, name)
    try:
        if file.stat().st_size > MAX_FILE:
            raise FileProblem(path, f"{name} is larger than 64 MiB, the most a file may have")
        return file.read_bytes()
    except FileNotFoundError:
        raise FileProblem(path, f"there is no file {name} in {manifest.folder}") from None
    except IsADirectoryError:
        raise FileProblem(path, f"{name} is a folder, a file is needed") from None
    except OSError as error:
        raise FileProblem(path, f"{name} cannot be read: {error.strerror}") from None


def _inside(manifest: Manifest, path: str, name: str) -> Path:
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        raise FileProblem(path, f"{name} must be relative to the manifest")
    try:
        file = (manifest.folder / name).resolve()
        root = manifest.root.resolve()
    except (OSError, ValueError, RuntimeError):
        raise FileProblem(path, f"{name!r} names no file") from None
    if not file.is_relative_to(root):
        raise FileProblem(path, f"{name} leads out of {manifest.root}, the folder that is applied")
    return file
