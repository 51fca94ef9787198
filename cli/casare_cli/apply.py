"""`casare apply`: how do manifests become what the server holds?

Every object stands for itself: what is wrong with one is a line with its file, document, line and field, and the
others are applied all the same. The order is by kind, so that what is referred to is there first; objects of one kind
are sent side by side. Applying twice changes nothing the second time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TextIO

from casare_api.kinds import KINDS, Object
from casare_api.machinery.errors import ApiError, Cause
from casare_cli import files, manifests
from casare_cli.files import FileProblem
from casare_cli.manifests import Manifest
from casare_client import Client

ORDER = ("Namespace", "ApiKey", "JoinToken", "Robot", "Workflow", "Schedule", "Job")
AT_ONCE = 4  # requests under way; more only queue at the server's writer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one manifest: a line that says it, or problems, a line each."""

    line: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Applying:
    """One run of apply."""

    client: Client
    namespace: str | None
    dry_run: bool
    batch: frozenset[tuple[str, str]]  # (kind, name) of everything that is declared along


def apply_paths(
    client: Client,
    paths: Sequence[str],
    namespace: str | None,
    out: TextIO,
    err: TextIO,
    dry_run: bool = False,
) -> int:
    """Applies files, folders and `-` (standard input), and returns 0, or 1 where anything was wrong.

    Lines about what was done go to `out`, problems to `err`. `namespace` is for objects that name none (None: the
    client's); one that names another is a problem. Raises Unreachable where the server goes away, ApiError for a 401.
    """
    reading = manifests.read(paths)
    problems = list(reading.problems)
    found = list(_placed(reading.manifests, namespace or client.config.namespace, namespace, problems))
    for problem in problems:
        print(problem, file=err)
    if not found and not problems:
        print(f"error: nothing is declared in {', '.join(paths)}", file=err)
        return 1
    run = _Applying(client, namespace, dry_run, frozenset(_keys(found)))
    failed = _apply_all(run, in_order(found), out, err)
    return 1 if problems or failed else 0


def in_order(found: Iterable[Manifest]) -> list[Manifest]:
    """By kind, those that others refer to first; within a kind as written."""
    return sorted(found, key=_rank)


def _rank(manifest: Manifest) -> int:
    kind = manifest.object["kind"]
    return ORDER.index(kind) if kind in ORDER else ORDER.index("Robot")


def _apply_all(run: _Applying, found: list[Manifest], out: TextIO, err: TextIO) -> int:
    failed = 0
    with ThreadPoolExecutor(AT_ONCE, "apply") as pool:
        try:
            for wave in _waves(found):
                for outcome in pool.map(lambda manifest: _apply_one(run, manifest), wave):
                    failed += bool(outcome.problems)
                    _print(outcome, out, err)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the server is gone, or Ctrl-C: do not try the other thousand
            raise
    return failed


def _print(outcome: Outcome, out: TextIO, err: TextIO) -> None:
    for problem in outcome.problems:
        print(problem, file=err)
    if outcome.line:
        print(outcome.line, file=out, flush=True)


def _waves(found: list[Manifest]) -> Iterator[list[Manifest]]:
    """The manifests that can be sent side by side: those of one rank."""
    for rank in sorted({_rank(manifest) for manifest in found}):
        yield [manifest for manifest in found if _rank(manifest) == rank]


def _apply_one(run: _Applying, manifest: Manifest) -> Outcome:
    try:
        obj = files.with_digests(manifest, _store(run, manifest))
        stored, action = run.client.apply(obj, dry_run=run.dry_run)
    except FileProblem as problem:
        return Outcome(problems=(manifest.origin.problem(problem.message, problem.path),))
    except ApiError as error:
        if error.status == 401:
            raise
        if run.dry_run and _comes_along(run, error, manifest.object):
            return Outcome(f"{manifest.name} created (dry run)")
        return Outcome(problems=tuple(_problems(manifest, error)))
    if "uid" not in stored.get("metadata", {}) and action == "unchanged":
        return Outcome(f"{manifest.name} unchanged (it ran already)")
    return Outcome(f"{manifest.name} {action}" + (" (dry run)" if run.dry_run else ""))


def _store(run: _Applying, manifest: Manifest) -> Callable[[bytes], str]:
    if run.dry_run:
        return lambda data: hashlib.sha256(data).hexdigest()
    namespace = manifest.object["metadata"].get("namespace") or run.client.config.namespace
    return lambda data: run.client.put_blob(namespace, data)


def _problems(manifest: Manifest, error: ApiError) -> Iterator[str]:
    """A line for each field that is wrong; one for the whole object where no field is named."""
    if not error.causes:
        yield manifest.origin.problem(f"{manifest.name}: {error.message}")
    for cause in error.causes:
        yield manifest.origin.problem(cause.message, cause.field)


def _comes_along(run: _Applying, error: ApiError, obj: Object) -> bool:
    """Whether a dry run failed only for want of what would be created before: a namespace, a workflow, a file."""
    if error.status == 404 and (error.details or {}).get("kind") == "namespaces":
        return ("Namespace", obj["metadata"].get("namespace", "")) in run.batch
    return bool(error.causes) and all(_will_be_there(run, cause, obj) for cause in error.causes)


def _will_be_there(run: _Applying, cause: Cause, obj: Object) -> bool:
    if cause.field in {path for path, _, _ in manifests.named_files(obj)}:
        return True  # its file was read, and would have been sent
    if not cause.field.endswith("workflowRef.name"):
        return False
    spec = obj.get("spec") or {}
    spec = (spec.get("jobTemplate") or {}).get("spec") or {} if obj["kind"] == "Schedule" else spec
    return ("Workflow", str((spec.get("workflowRef") or {}).get("name"))) in run.batch


# -- namespaces and doubles --------------------------------------------------------------------------------------


def _placed(found: Iterable[Manifest], default: str, demanded: str | None, problems: list[str]) -> Iterator[Manifest]:
    """The manifests, each in its namespace; those in another than was demanded, or declared twice, are problems."""
    seen: dict[tuple[str, str | None, str], Manifest] = {}
    for manifest in found:
        placed = _in_namespace(manifest, default)
        metadata = placed.object["metadata"]
        key = (placed.object["kind"], metadata.get("namespace"), metadata["name"])
        if demanded and metadata.get("namespace", demanded) != demanded:
            said = f'is "{metadata["namespace"]}", but -n says "{demanded}"'
            problems.append(manifest.origin.problem(said, "metadata.namespace"))
        elif key in seen:
            first = seen[key].origin
            said = f"{manifest.name} is declared before, in {first.file}, document {first.document} (line {first.line})"
            problems.append(manifest.origin.problem(said))
        else:
            seen[key] = placed
            yield placed


def _in_namespace(manifest: Manifest, default: str) -> Manifest:
    metadata = dict(manifest.object["metadata"])
    if KINDS[manifest.object["kind"]].namespaced:
        metadata["namespace"] = metadata.get("namespace") or default
    else:
        metadata.pop("namespace", None)
    return replace(manifest, object={**manifest.object, "metadata": metadata})


def _keys(found: Iterable[Manifest]) -> Iterator[tuple[str, str]]:
    return ((manifest.object["kind"], manifest.object["metadata"]["name"]) for manifest in found)
