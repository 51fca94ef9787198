"""Which objects do these files declare, and where does each field stand?

Files, folders (recursively; *.yaml, *.yml, *.json) and `-` for standard input. Every problem is one line with the
file, the document, the line and the field; what is right beside it is used all the same. Nothing is asked of a server.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casare_api.kinds import KINDS, Object, find
from casare_api.machinery.errors import ApiError, Cause
from casare_cli import yaml_text
from casare_cli.yaml_text import Parsed, Text, Unreadable

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MAX_FILE = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document stands: the file as people know it, its number there, its line and its fields' lines."""

    file: str
    document: int
    line: int
    lines: dict[str, int] = field(default_factory=dict, repr=False)

    def problem(self, said: str, path: str = "") -> str:
        """The line for a person about a field (or the whole document)."""
        line = yaml_text.line_of(self.lines, path, self.line)
        where = f"{self.file}: document {self.document} (line {line}): "
        return where + (f"{path}: {said}" if path else said)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One declared object. `folder` is where its file is; files it names must stay within `root`."""

    origin: Origin
    object: Object
    folder: Path
    root: Path

    @property
    def name(self) -> str:
        """`job/reconcile`, as people and `-o name` know it."""
        return f"{KINDS[self.object['kind']].singular}/{self.object['metadata']['name']}"


@dataclass(slots=True)
class Reading:
    """What came of reading: the objects in their order, and a line for each problem with the file it is in.

    `must_have_names`: apply finds objects again by their names; who only asks about them can do without.
    """

    must_have_names: bool = True
    manifests: list[Manifest] = field(default_factory=list)
    faults: list[tuple[Path | None, str]] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """The problems, a line each."""
        return [said for _, said in self.faults]


@dataclass(frozen=True, slots=True)
class _File:
    label: str
    path: Path | None  # None: standard input
    root: Path


def read(paths: Iterable[str], must_have_names: bool = True) -> Reading:
    """Everything declared in files, folders and standard input."""
    reading = Reading(must_have_names)
    for path in paths:
        _read_path(path, reading)
    _forget_data_files(reading)
    return reading


def named_files(obj: Object) -> Iterator[tuple[str, Object, str]]:
    """The files that an object's workflow names: (field path, the object that holds the field, its key)."""
    for path, spec in workflow_specs(obj):
        source = spec.get("source")
        if isinstance(source, dict) and isinstance(source.get("file"), str):
            yield f"{path}.source.file", source, "file"
        files = spec.get("files")
        for index, entry in enumerate(files if isinstance(files, list) else ()):
            if isinstance(entry, dict) and isinstance(entry.get("path"), str):
                yield f"{path}.files[{index}].path", entry, "path"


def workflow_specs(obj: Object) -> Iterator[tuple[str, Object]]:
    """Every workflow spec in an object, with its field path: a Workflow's own, or one written inside a job."""
    ways = {"Workflow": ("spec",), "Job": ("spec", "workflow"), "Schedule": ("spec", "jobTemplate", "spec", "workflow")}
    way = ways.get(str(obj.get("kind")), ())
    found: Any = obj
    for key in way:
        found = found.get(key) if isinstance(found, dict) else None
    if way and isinstance(found, dict):
        yield ".".join(way), found


# -- reading files -----------------------------------------------------------------------------------------------


def _read_path(path: str, reading: Reading) -> None:
    if path == STDIN:
        _read_text(_File("standard input", None, Path.cwd()), sys.stdin.buffer.read(), reading)
        return
    place = Path(path)
    if not place.is_dir():
        _read_file(_File(path, place, place.parent), reading)
        return
    files = sorted(_walk(place))
    if not files:
        reading.faults.append((None, f"{path}: there are no manifests in it (*.yaml, *.yml, *.json)"))
    for file in files:
        _read_file(_File(str(file), file, place), reading)


def _walk(folder: Path) -> Iterator[Path]:
    """The manifests below a folder; what begins with a dot (.git, editors' files) is nobody's manifest."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        elif entry.suffix.lower() in SUFFIXES and entry.is_file():
            yield entry


def _read_file(file: _File, reading: Reading) -> None:
    assert file.path is not None
    try:
        if file.path.stat().st_size > MAX_FILE:
            reading.faults.append((file.path, f"{file.label}: larger than 64 MiB: no manifest is"))
            return
        data = file.path.read_bytes()
    except FileNotFoundError:
        reading.faults.append((file.path, f"{file.label}: there is no such file or folder"))
    except OSError as error:
        reading.faults.append((file.path, f"{file.label}: cannot be read: {error.strerror}"))
    else:
        _read_text(file, data, reading)


def _read_text(file: _File, data: bytes, reading: Reading) -> None:
    text = _decoded(data)
    if text is None:
        reading.faults.append((file.path, f"{file.label}: is not UTF-8 text"))
        return
    documents = [Text(1, 1, text)] if _is_json(file, text) else yaml_text.documents(text)
    for document in documents:
        try:
            parsed = _parse(document, _is_json(file, text))
        except Unreadable as error:
            reading.faults.append((file.path, _at(file, document, error.line, error.message)))
            continue
        if parsed.value is not None:
            _take(file, document, parsed, reading)


def _decoded(data: bytes) -> str | None:
    """UTF-8, or the UTF-16 that PowerShell's `>` writes; None for anything else."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def _is_json(file: _File, text: str) -> bool:
    if file.path is not None:
        return file.path.suffix.lower() == ".json"
    return text.lstrip().startswith("{") and _loads(text) is not None


# -- from text to values -----------------------------------------------------------------------------------------


def _parse(document: Text, is_json: bool) -> Parsed:
    if not is_json:
        return yaml_text.parse(document)
    try:
        value = json.loads(document.text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Unreadable(error.lineno, f"not valid JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise Unreadable(document.line, said) from None
    return Parsed(value, document.line, _json_lines(document))


def _json_lines(document: Text) -> dict[str, int]:
    """JSON without tabs is YAML: its parser knows the lines. Valid JSON holds no tab inside a string."""
    try:
        return yaml_text.parse(Text(document.number, document.line, document.text.replace("\t", " "))).lines
    except Unreadable:
        return {}


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> Object:
    found: Object = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'the key "{key}" appears twice')
        found[key] = value
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} can't be written in JSON")


# -- from values to manifests ------------------------------------------------------------------------------------


def _take(file: _File, document: Text, parsed: Parsed, reading: Reading) -> None:
    folder = file.path.parent if file.path is not None else file.root
    for prefix, value in _items(parsed.value):
        lines = {path.removeprefix(prefix): line for path, line in parsed.lines.items() if path.startswith(prefix)}
        line = yaml_text.line_of(parsed.lines, prefix.rstrip("."), parsed.line)
        origin = Origin(file.label, document.number, line, lines)
        causes = check(value, reading.must_have_names)
        if causes:
            said = [origin.problem(cause.message, cause.field) for cause in causes]
            reading.faults += [(file.path, one) for one in said]
        else:
            reading.manifests.append(Manifest(origin, value, folder, file.root))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """The objects of a document with their path prefix: one, or those of a List as `casare get -o yaml` prints it."""
    if isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield f"items[{index}].", item
    else:
        yield "", value


def check(obj: Any, must_have_name: bool = True) -> list[Cause]:
    """What is wrong with the outside of an object: kind, apiVersion and name. The rest is the server's to judge."""
    if not isinstance(obj, dict):
        return [Cause("", "Invalid", "must be an object with apiVersion, kind and metadata")]
    try:
        kind = KINDS.get(obj["kind"]) if isinstance(obj.get("kind"), str) and obj["kind"] else None
        if kind is None and isinstance(obj.get("kind"), str) and obj["kind"]:
            suggested = find(obj["kind"]).kind
            return [Cause("kind", "Invalid", f'there is no kind "{obj["kind"]}"; write {suggested}')]
    except ApiError:
        near = difflib.get_close_matches(obj["kind"], KINDS, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        return [Cause("kind", "Invalid", f'there is no kind "{obj["kind"]}"{hint} (there are: {", ".join(KINDS)})')]
    if kind is None:
        return [Cause.required("kind", f"one of {', '.join(KINDS)}")]
    if obj.get("apiVersion") != kind.api_version:
        found = obj.get("apiVersion")
        if found is None:
            return [Cause.required("apiVersion", f"a {kind.kind} has {kind.api_version}")]
        return [Cause.invalid("apiVersion", found, f"a {kind.kind} has {kind.api_version}")]
    return _check_metadata(obj.get("metadata"), must_have_name)


def _check_metadata(metadata: Any, must_have_name: bool) -> list[Cause]:
    if metadata is not None and not isinstance(metadata, dict):
        return [Cause.invalid("metadata", metadata, "must be an object with a name")]
    metadata = metadata or {}
    if not metadata.get("name") and must_have_name:
        if metadata.get("generateName"):
            why = "apply needs a metadata.name to find the object again; 'casare run' makes jobs with new names"
            return [Cause("metadata.generateName", "Forbidden", why)]
        return [Cause.required("metadata.name")]
    for key in ("name", "namespace"):
        if metadata.get(key) is not None and not isinstance(metadata[key], str):
            return [Cause.wrong_type(f"metadata.{key}", metadata[key], "must be text: put it in quotes")]
    return []


def _at(file: _File, document: Text, line: int, said: str) -> str:
    return f"{file.label}: document {document.number} (line {line}): {said}"


def _forget_data_files(reading: Reading) -> None:
    """A folder's *.json and *.yaml that a workflow of it names are its input, not manifests."""
    data = set(_data_files(reading.manifests))
    if data:
        reading.faults = [one for one in reading.faults if one[0] is None or _resolved(one[0]) not in data]
        reading.manifests = [one for one in reading.manifests if _resolved(Path(one.origin.file)) not in data]


def _data_files(manifests: Sequence[Manifest]) -> Iterator[Path]:
    for manifest in manifests:
        for _, holder, key in named_files(manifest.object):
            yield _resolved(manifest.folder / holder[key])


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path
