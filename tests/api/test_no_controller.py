"""While no controller looks after them, jobs that wait say so, wherever a person looks; once one does, no more."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from casare_store import embedded

from ..conftest import Server, drop_database, new_database, until
from .commands import ran
from .conftest import Api, Object, work

SINCE = "no controller has looked after waiting jobs since 2026-01-02 03:04:05 UTC"
NOBODY = f"{SINCE}: is one running, and what does its log say?"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.fixture
def api(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The admin of a server without a controller, in the default namespace."""
    server = Server(new_database(postgres), tmp_path_factory.mktemp("alone"))
    try:
        server.run("apiserver", "-m", "casare_apiserver")
        until(server.is_ready, f"the apiserver is ready; {server.log('apiserver')}")
        found = Api(server)
        yield found
        found.close()
    finally:
        server.stop()
        drop_database(postgres, server.database)


def last_run(api: Api, at: str) -> None:
    """As if placement had run then, and not since."""
    with psycopg.connect(api.server.database) as connection:
        connection.execute("UPDATE duty_runs SET at = %s", (at,))


def long_ago(api: Api) -> None:
    last_run(api, "2026-01-02 03:04:05+00")


def said(job: Object) -> list[tuple[str, str]]:
    return [(each["rule"], each["message"]) for each in job["status"]["reasons"]]


def why(api: Api, name: str) -> Object:
    return dict(api.call("GET", api.path("Job", name, "why")).json())


def test_a_job_that_was_submitted_while_no_controller_ran_says_so_until_one_does(api: Api) -> None:
    long_ago(api)
    api.create("Job", "j", work())
    reason = {"rule": "controller", "message": NOBODY, "robots": 0}
    assert api.get("Job", "j")["status"]["reasons"] == [reason]
    answer = why(api, "j")
    assert answer["message"] == NOBODY and answer["reasons"][0] == reason
    assert "no robot has registered yet" in [each["message"] for each in answer["reasons"]], "and what else there is"
    api.server.run("controller", "-m", "casare_controller")
    until(lambda: [rule for rule, _ in said(api.get("Job", "j"))] == ["namespace"], "what placement says of robots")
    assert [each["rule"] for each in why(api, "j")["reasons"]] == ["namespace"]


def test_what_a_controller_said_of_robots_is_old_once_none_has_looked_for_long(api: Api) -> None:
    api.server.run("controller", "-m", "casare_controller")
    api.create("Job", "j", work())
    until(lambda: [rule for rule, _ in said(api.get("Job", "j"))] == ["namespace"], "what placement says of robots")
    api.server.kill("controller")
    assert [rule for rule, _ in said(api.get("Job", "j"))] == ["namespace"], "for a moment it still holds"
    long_ago(api)
    assert said(api.get("Job", "j")) == [("controller", NOBODY)]


def test_it_stands_before_what_else_a_job_waits_for(api: Api) -> None:
    api.create("Job", "held", work(notBefore="2999-01-01T00:00:00Z"))
    for name in ("keyed", "keyed-too"):
        api.create("Job", name, work(concurrency={"key": "sap"}))
    long_ago(api)
    jobs = {job["metadata"]["name"]: job for job in api.list("Job")["items"]}
    for name, rule in (("held", "notBefore"), ("keyed", "concurrency"), ("keyed-too", "concurrency")):
        assert [each for each, _ in said(jobs[name])] == ["controller", rule]
        assert jobs[name] == api.get("Job", name)
        assert why(api, name)["message"] == NOBODY


def test_people_see_it_in_lists_and_descriptions(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.create("Job", "j", work())
    long_ago(api)

    def casare(*words: str) -> str:
        return ran(capsys, "--server", api.server.url, "--key", api.key, *words).out

    for words in (("get", "jobs", "-o", "wide"), ("describe", "job/j"), ("why", "job/j")):
        assert NOBODY in casare(*words), words
    table = api.call("GET", api.path("Job"), headers={"accept": TABLE}).json()
    assert NOBODY in table["rows"][0]["cells"], "kubectl prints these"


def test_a_job_that_is_not_there_yet_would_hear_it_too(api: Api) -> None:
    long_ago(api)
    body = {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": "tried"}, **work()}
    tried = api.call("POST", api.path("Job"), body, params={"dryRun": "All", "why": "true"})
    assert tried.json()["message"] == NOBODY


def test_a_controller_that_has_nothing_to_do_is_there_all_the_same(api: Api) -> None:
    long_ago(api)
    api.server.run("controller", "-m", "casare_controller")

    def has_looked() -> bool:
        with psycopg.connect(api.server.database) as connection:
            found = connection.execute("SELECT at > clock_timestamp() - interval '1 day' FROM duty_runs").fetchone()
        return bool(found and found[0])

    until(has_looked, "placement has looked")
    api.server.kill("controller")
    api.create("Job", "j", work())
    assert said(api.get("Job", "j")) == [("placement", "placement looks at it in a moment")]


def test_a_database_whose_controller_is_only_just_starting_says_nothing_false(api: Api) -> None:
    last_run(api, "2999-01-01 00:00:00+00")
    api.create("Job", "j", work())
    assert said(api.get("Job", "j")) == [("placement", "placement looks at it in a moment")]
