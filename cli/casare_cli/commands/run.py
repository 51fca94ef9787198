"""`casare run`: submit a job of a workflow, or thousands of them, and look on if wanted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_api.kinds import Object
    from casare_cli.bulk import Wishes
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("run")(run)


def run(
    context: typer.Context,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's name.")],
    words: Annotated[
        list[str] | None,
        typer.Option("--parameter", "--param", "-p", metavar="KEY=VALUE", help="A parameter of the workflow."),
    ] = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, max=10_000_000, help="So many jobs.")] = None,
    rows: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE.csv", help="A job for each row; columns are parameters. - reads stdin."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--idempotency-prefix", metavar="P",
            help="Give each job the key P-NUMBER: run again, the command makes only what is missing.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until all are over; 1 where any has not succeeded.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its log, and exit as the job does.")] = False,
    priority: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=20, help="0 runs first, 20 last; else the workflow's.")
    ] = None,
    form: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="name: print each job/NAME.")] = "",
    namespace: options.Namespace = None,
) -> int:
    """Submit jobs of a workflow: one, --count of them, or one for each row of a CSV file (--from).

    Prints job/NAME; with --follow, its log. For many: how many were created, existed before and failed.
    """
    from casare_cli import bulk, parameters, targets

    name = targets.one(workflow, "Workflow")
    wishes = bulk.Wishes(count, rows, prefix, wait, priority, form)
    bulk.check(wishes, follow)
    with session.of(context).client(namespace) as client:
        schema = _workflow(client, name)["spec"].get("parameters")
        given = parameters.parse(words or (), schema)
        if wishes.is_many:
            return bulk.run(client, name, schema, given, wishes)
        return _one(client, name, given, wishes, follow)


def _one(client: Client, workflow: str, parameters: Object, wishes: Wishes, follow: bool) -> int:
    job = _create(client, _job(client, workflow, parameters, wishes.priority))
    if not follow:
        print(f"job/{job['metadata']['name']}", flush=True)
    if wishes.wait:
        from casare_cli import bulk

        return bulk.wait_for(client, workflow, {job["metadata"]["uid"]: job["metadata"]["name"]}, "")
    return _follow(client, job) if follow else 0


def _workflow(client: Client, name: str) -> Object:
    from casare_api.machinery.errors import ApiError
    from casare_cli.failures import Failure

    try:
        return client.get("Workflow", name)
    except ApiError as error:
        if error.status != 404:
            raise
    known = [obj["metadata"]["name"] for obj in client.list("Workflow", limit=20)["items"]]
    raise Failure(
        f'there is no workflow "{name}" in {client.config.namespace}; there are: {", ".join(known) or "none"}'
    )


def _job(client: Client, workflow: str, parameters: Object, priority: int | None) -> Object:
    spec: Object = {"workflowRef": {"name": workflow}}
    if parameters:
        spec["parameters"] = parameters
    if priority is not None:
        spec["priority"] = priority
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Job",
        "metadata": {"generateName": f"{workflow}-", "namespace": client.config.namespace},
        "spec": spec,
    }


def _create(client: Client, job: Object) -> Object:
    from casare_api.machinery.errors import ApiError
    from casare_cli.failures import Failure

    try:
        return client.create(job)
    except ApiError as error:
        if not error.causes:
            raise
        # The job's name is made up by the server and tells nobody anything: what is wrong does.
        raise Failure("; ".join(str(cause) for cause in error.causes)) from None


def _follow(client: Client, job: Object) -> int:
    from casare_cli import following

    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    try:
        ended = following.follow(client, namespace, name, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print(
            f"job/{name} goes on: 'casare logs job/{name} -f' shows it, 'casare cancel job/{name}' ends it",
            file=sys.stderr,
        )
        return 130
    return following.exit_code(ended)
