"""`casare why`: why does a job wait, and what would have to change?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_api.kinds import Object
    from casare_cli.manifests import Manifest
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("why")(why)


def why(
    context: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[job/]NAME...", help="Jobs that were submitted.")] = None,
    files: options.Files = None,
    form: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="yaml or json, for programs.")] = "",
    namespace: options.Namespace = None,
) -> int:
    """Tell why jobs wait: how many robots each rule keeps away, the place in the queue, what the nearest robots lack.

    With -f it is told of jobs in manifests that nobody has submitted; nothing is kept.
    """
    from casare_cli import targets
    from casare_cli.failures import Misuse

    if form not in ("", "yaml", "json"):
        raise Misuse(f'there is no output format "{form}" here; allowed: yaml, json')
    if bool(jobs) == bool(files):
        raise Misuse("which job? casare why job/NAME, or casare why -f job.yaml for one that is not submitted")
    names = [targets.one(job, "Job") for job in jobs or ()]
    with session.of(context).client(namespace) as client:
        if names:
            return _show([(f"job/{name}", client.why(name)) for name in names], form)
        return _of_files(client, files or [], namespace, form)


def _of_files(client: Client, files: list[str], namespace: str | None, form: str) -> int:
    """Tells of each job in the files; 1 where anything is wrong with one."""
    from casare_cli import manifests
    from casare_cli.failures import Failure

    reading = manifests.read(files, must_have_names=False)
    problems = list(reading.problems)
    found = [one for one in reading.manifests if one.object["kind"] == "Job"]
    if not found and not problems:
        raise Failure(f"there is no job in {', '.join(files)}")
    told = []
    for manifest in found:
        explanation = _asked(client, manifest, namespace, problems)
        if explanation is not None:
            told.append((_called(manifest.object), explanation))
    for line in problems:
        print(line, file=sys.stderr)
    _show(told, form)
    return 1 if problems else 0


def _asked(client: Client, manifest: Manifest, demanded: str | None, problems: list[str]) -> Object | None:
    """What the server says of a job that it does not have; None where it is wrong, which goes to `problems`."""
    from casare_api.machinery.errors import ApiError
    from casare_cli.files import FileProblem

    meta = dict(manifest.object.get("metadata") or {})
    if demanded and meta.get("namespace", demanded) != demanded:
        said = f'is "{meta["namespace"]}", but -n says "{demanded}"'
        problems.append(manifest.origin.problem(said, "metadata.namespace"))
        return None
    meta["namespace"] = meta.get("namespace") or client.config.namespace
    if not meta.get("name") and not meta.get("generateName"):
        meta["generateName"] = "job-"  # who only asks about it need not think of a name
    try:
        return client.why_of({**_without_files(manifest), "metadata": meta})
    except FileProblem as problem:
        problems.append(manifest.origin.problem(problem.message, problem.path))
        return None
    except ApiError as error:
        if error.reason == "AlreadyExists":  # it was submitted: told as it is
            return client.why(str(meta["name"]), str(meta["namespace"]))
        if error.status not in (400, 404, 422):
            raise
        causes = [manifest.origin.problem(cause.message, cause.field) for cause in error.causes]
        problems += causes or [manifest.origin.problem(f"{_called(manifest.object)}: {error}")]
        return None


def _without_files(manifest: Manifest) -> Object:
    """The job, whose workflow's files need not be sent: where it may run does not depend on them.

    Raises FileProblem for a file that is not there.
    """
    from casare_cli import files, manifests

    job = files.with_digests(manifest, lambda data: "")
    for _, spec in manifests.workflow_specs(job):
        spec.pop("files", None)
        if (spec.get("source") or {}).get("file"):
            spec["source"] = {"inline": "-"}
    return job


def _called(job: Object) -> str:
    meta = job.get("metadata") or {}
    return f"job/{meta.get('name') or meta.get('generateName') or '(without a name)'}"


def _show(told: list[tuple[str, Object]], form: str) -> int:
    from casare_cli import explaining, output

    if form and told:
        documents = [explanation for _, explanation in told]
        print(output.dumps(documents[0] if len(documents) == 1 else documents, form))
        return 0
    for number, (called, explanation) in enumerate(told):
        print(("\n" if number else "") + "\n".join(explaining.explained(explanation, called)))
    return 0
