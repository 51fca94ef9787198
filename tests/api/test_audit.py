"""Who did what? Every write of people and programs is in the audit log, without secrets, and nobody changes it unseen."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from casare_store import embedded
from casare_store.connection import HISTORY_LOCK

from ..conftest import Server, running, until
from .commands import Casare, Run, ran
from .conftest import Api, Object, Robot, dumps, is_status

AUDIT = "/apis/fleet.casare.net/v1/audit"
INLINE = {"runner": "command", "args": ["true"]}


def rows(api: Api, **params: Any) -> list[Object]:
    """The rows about this namespace, the oldest first."""
    found = api.call("GET", AUDIT, params={"limit": "1000", **params})
    assert found.status_code == 200, found.text
    return [row for row in found.json()["items"][::-1] if row.get("namespace") == api.namespace]


def about(api: Api, kind: str, name: str) -> list[Object]:
    return rows(api, kind=kind, namespace=api.namespace, name=name)


def test_each_way_to_write_has_a_row_that_says_who_what_and_from_where(api: Api) -> None:
    made = api.create("Robot", "r", {"spec": {"tags": ["sap"]}})
    operator = api.issue_key("ops", "operator")
    changed = api.patch("Robot", "r", {"spec": {"desiredState": "Paused"}}, key=operator).json()
    api.changed("Robot", "r", {"status": {"agent": {"version": "9"}}}, "status")

    def put() -> bool:  # a duty may say something of it in between
        now = api.get("Robot", "r")
        said = api.call("PUT", api.path("Robot", "r"), {**now, "spec": {**now["spec"], "maxConcurrentJobs": 3}})
        return bool(said.status_code == 200)

    until(put, "it is replaced")
    applied = {"apiVersion": "fleet.casare.net/v1", "kind": "Robot", "metadata": {"name": "r"}, "spec": {"environment": "prod"}}
    said = api.call("PATCH", api.path("Robot", "r"), content=dumps(applied), params={"fieldManager": "x", "force": "true"},
                    headers={"content-type": "application/apply-patch+yaml"})  # fmt: skip
    assert said.status_code == 200, said.text
    api.delete("Robot", "r")
    found = about(api, "Robot", "r")
    assert [(row["verb"], row["effect"], row["actor"], row["from"]) for row in found] == [
        ("create", "created", "admin", "127.0.0.1"), ("patch", "changed", "ops", "127.0.0.1"),
        ("patch", "changed", "admin", "127.0.0.1"), ("update", "changed", "admin", "127.0.0.1"),
        ("patch", "changed", "admin", "127.0.0.1"), ("delete", "deleted", "admin", "127.0.0.1"),
    ]  # fmt: skip
    assert (found[0]["resourceVersion"], found[0]["uid"]) == (made["metadata"]["resourceVersion"], made["metadata"]["uid"])
    assert found[1]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert found[1]["fields"] == [{"field": "spec.desiredState", "from": "Active", "to": "Paused"}]
    assert (found[1]["role"], found[1]["keyNamespace"]) == ("operator", api.namespace) and found[1]["keyUID"]
    assert found[2]["resource"] == "robots/status" and {"field": "status.agent.version"} in found[2]["fields"]
    assert {"field": "spec.maxConcurrentJobs", "from": 1, "to": 3} in found[3]["fields"]
    assert {"field": "spec.environment", "from": "default", "to": "prod"} in found[4]["fields"]


def test_what_changes_nothing_has_no_row(api: Api) -> None:
    api.create("Robot", "r")
    api.patch("Robot", "r", {"spec": {"tags": ["x"]}}, params={"dryRun": "All"})
    assert api.patch("Robot", "r", {"spec": {"tags": ["finance"]}}).status_code == 200
    assert api.patch("Robot", "r", {"spec": {"tags": 1}}).status_code == 422
    assert [row["verb"] for row in about(api, "Robot", "r")] == ["create"]


def test_keys_jobs_that_are_retried_and_cancelled(api: Api) -> None:
    api.issue_key("k", "viewer")
    made, shown = about(api, "ApiKey", "k")
    assert {"field": "spec.role", "to": "viewer"} in made["fields"]
    assert (shown["resource"], shown["verb"]) == ("apikeys/token", "create")
    assert {"field": "spec.hash"} in shown["fields"]
    api.create("Job", "j", {"spec": {"workflow": INLINE, "notBefore": "2099-01-01T00:00:00Z"}})
    api.changed("Job", "j", {"spec": {"cancel": True}})
    again = api.call("POST", api.path("Job", "j", "retry")).json()["metadata"]["name"]
    assert {"field": "spec.cancel", "to": True} in about(api, "Job", "j")[1]["fields"]
    assert [(row["resource"], row["effect"]) for row in about(api, "Job", again)] == [("jobs/retry", "created")]


def test_many_jobs_of_one_request_are_one_row_a_batch_and_each_of_them_is_found(api: Api) -> None:
    items = [{"metadata": {"name": f"b-{n:03d}"}, "spec": {"workflow": INLINE}} for n in range(120)]
    assert api.call("POST", api.path("Job"), {"kind": "JobList", "items": items}).json()["created"] == 120
    assert api.call("DELETE", api.path("Job")).status_code == 200
    found = [row for row in rows(api) if row["kind"] == "Job"]
    assert len(found) < 12
    for effect in ("created", "deleted"):
        assert sum(row.get("count", 1) for row in found if row["effect"] == effect) == 120
    names = [name for row in found if row["effect"] == "created" for name in row.get("names") or [row["name"]]]
    assert names == [item["metadata"]["name"] for item in items]
    assert [row["effect"] for row in about(api, "Job", "b-077")] == ["created", "deleted"]
    assert about(api, "Job", "b-120") == []


def test_what_robots_report_is_nobodys_deed_and_what_a_robot_writes_of_itself_is(
    api: Api, robot: Callable[..., Robot]
) -> None:
    found = robot()
    found.report(agent={"version": "1"})
    job = api.create("Job", "j", {"spec": {"workflow": {**INLINE, "requirements": {"tags": [found.name]}}}})["metadata"]
    assigned = found.assigned(api, job["name"])
    assert found.say(assigned, "Running") == 200 and found.say(assigned, "Succeeded") == 200
    assert found.api.patch("Robot", found.name, {"spec": {"tags": [found.name, "own"]}}).status_code == 200
    assert [row["effect"] for row in about(api, "Job", "j")] == ["created"]
    own = about(api, "Robot", found.name)
    assert [(row["actor"], row["role"], row["verb"]) for row in own] == [("admin", "admin", "create"), (found.name, "robot", "patch")]


def test_no_secret_is_in_the_log(api: Api, shared: Server) -> None:
    word = "hunter2-is-no-good"
    coded = base64.b64encode(word.encode()).decode()
    api.create("Secret", "db", {"data": {"password": coded}})
    api.changed("Secret", "db", {"data": {"password": base64.b64encode((word + "!").encode()).decode()}})
    api.create("ConfigMap", "c", {"data": {"url": f"https://u:{word}@host/"}})
    schema = {"type": "object", "properties": {"pw": {"type": "string"}}}
    api.create("Workflow", "w", {"spec": {**INLINE, "args": [word], "env": [{"name": "PASSWORD", "value": word}], "parameters": schema}})
    api.changed("Workflow", "w", {"spec": {"env": [{"name": "PASSWORD", "value": word + "x"}], "timeout": "5m"}})
    api.create("Job", "j", {"spec": {"workflowRef": {"name": "w"}, "parameters": {"pw": word}}}, annotations={"note": word})
    api.changed("Job", "j", {"metadata": {"annotations": {"note": word + "?"}}, "spec": {"priority": 1}})
    key = api.issue_key("k", "viewer")
    assert api.call("GET", api.path("Secret", "db"), key=key).status_code == 403
    assert api.call("GET", api.path("Job"), key="crpa_" + word).status_code == 401
    with psycopg.connect(shared.database) as connection:
        text = "\n".join(str(row) for row in connection.execute("SELECT audit::text FROM audit"))
    for secret in (word, coded, key, key[5:], shared.admin_key):
        assert secret not in text
    assert "sha256:" not in text
    changed = [one for row in about(api, "Workflow", "w") for one in row["fields"]]
    assert {"field": "spec.env"} in changed and {"field": "spec.timeout", "to": "5m"} in changed
    assert {"field": "data.password"} in about(api, "Secret", "db")[1]["fields"]


def test_only_admins_of_the_whole_server_read_it(api: Api) -> None:
    for role in ("viewer", "operator", "admin"):
        assert is_status(api.call("GET", AUDIT, key=api.issue_key(role, role)), 403)
    assert is_status(api.call("GET", AUDIT, key="wrong"), 401) and is_status(api.http.get(AUDIT), 403)
    assert is_status(api.call("POST", AUDIT, {}), 405) and is_status(api.call("GET", AUDIT + "/x"), 404)
    for wrong in ({"limit": "x"}, {"after": "-1"}, {"since": "yesterday"}, {"kind": "Job"}, {"actor": "\0"}):
        assert is_status(api.call("GET", AUDIT, params=wrong), 400)


def test_rows_are_found_by_actor_and_time_and_come_in_pages(api: Api) -> None:
    key = api.issue_key("ann", "operator")
    for number in range(5):
        assert api.call("POST", api.path("Robot"), {"metadata": {"name": f"r{number}"}}, key=key).status_code == 201
    assert [row["name"] for row in rows(api, actor="ann")] == [f"r{number}" for number in range(5)]
    assert rows(api, actor="ann", since="1h") and not rows(api, actor="ann", since="2099-01-01T00:00:00Z")
    first = api.call("GET", AUDIT, params={"limit": "2"}).json()
    second = api.call("GET", AUDIT, params={"limit": "2", "before": first["metadata"]["continue"]}).json()
    numbers = [row["seq"] for row in (*first["items"], *second["items"])]
    assert numbers == list(range(first["end"]["seq"], first["end"]["seq"] - 4, -1))


# -- the command, on a log of its own that somebody tampers with ---------------------------------------------------------


@pytest.fixture(scope="module")
def own(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose log holds little; the module's tests do their worst to it and mend it again."""
    with running(postgres, tmp_path_factory.mktemp("audit")) as found:
        api = Api(found)
        for number in range(6):
            api.create("Robot", f"r{number}")
        api.changed("Robot", "r2", {"spec": {"desiredState": "Paused"}})
        api.close()
        yield found


@pytest.fixture
def casare(own: Server, capsys: pytest.CaptureFixture[str]) -> Casare:
    def run(*words: str) -> Run:
        return ran(capsys, "--server", own.url, "--key", own.admin_key, *words)

    return run


def test_the_command_shows_what_was_done(casare: Casare) -> None:
    shown = casare("audit", "--object", "robot/r2")
    assert shown.code == 0 and "spec.desiredState=Active->Paused" in shown.lines[-1], shown.out
    assert "admin" in shown.lines[-1] and "127.0.0.1" in shown.lines[-1] and len(shown.lines) == 3
    listed = json.loads(casare("audit", "--limit", "3", "--actor", "admin", "-o", "json").out)["items"]
    assert [row["verb"] for row in listed] == ["create", "create", "patch"]
    assert casare("audit", "-o", "wide", "--since", "1h").code == 0
    assert casare("audit", "--object", "robot").code == 2 and casare("audit", "-o", "name").code == 2
    assert casare("audit", "verify", "--expect", "abc").code == 2


TAMPERING = {
    "a row is changed": ("UPDATE audit SET entry = replace(entry, 'Paused', 'Active') WHERE seq = (SELECT max(seq) FROM audit)",
                         "row 7 was changed"),
    "a row is filed elsewhere": ("UPDATE audit SET actor = 'somebody' WHERE seq = 3", "row 3 was changed"),
    "the first is missing": ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
    "one in the middle is missing": ("DELETE FROM audit WHERE seq = 4", "row 4 is missing"),
    "some in the middle are missing": ("DELETE FROM audit WHERE seq IN (4, 5)", "rows 4 to 5 are missing"),
    "the last is missing": ("DELETE FROM audit WHERE seq = 7", "row 7 is missing at the end"),
    "all are missing": ("DELETE FROM audit", "rows 1 to 7 are missing at the end"),
    "the first are missing, and the start was moved": (
        "DELETE FROM audit WHERE seq < 3; UPDATE heads SET audit_from_seq = 2, audit_from_hash = "
        "(SELECT hash FROM kept WHERE seq = 2)", "rows 1 to 2 are missing"),
}  # fmt: skip


@pytest.mark.parametrize("done", TAMPERING)
def test_a_changed_or_missing_row_is_found(own: Server, casare: Casare, done: str) -> None:
    how, told = TAMPERING[done]
    whole = casare("audit", "verify")
    assert whole.code == 0 and "the audit log is whole: 7 rows" in whole.out, whole.err
    with kept(own) as connection:
        connection.execute(how)
        found = casare("audit", "verify")
        assert found.code == 1 and "tampered with" in found.err and told in found.err, found.err


def test_a_log_that_was_cut_off_with_all_that_tells_of_it_is_found_by_a_hash_that_was_kept(
    own: Server, casare: Casare
) -> None:
    end = casare("audit", "verify").out.split()[-1]
    assert casare("audit", "verify", "--expect", end).code == 0
    with kept(own) as connection:
        connection.execute("DELETE FROM audit WHERE seq > 5")
        connection.execute("UPDATE heads SET (audit_seq, audit_hash) = (SELECT seq, hash FROM audit WHERE seq = 5)")
        assert casare("audit", "verify").code == 0  # a chain can't tell by itself that it was longer
        found = casare("audit", "verify", "--expect", end)
        assert found.code == 1 and "cut off" in found.err


class kept:
    """A connection to the log, which is afterwards as it was."""

    def __init__(self, server: Server) -> None:
        self.connection = psycopg.connect(server.database, autocommit=True)

    def __enter__(self) -> psycopg.Connection[Any]:
        self.connection.execute("CREATE TABLE kept AS SELECT * FROM audit")
        self.connection.execute("CREATE TABLE kept_heads AS SELECT * FROM heads")
        return self.connection

    def __exit__(self, *error: object) -> None:
        with self.connection.transaction():  # between two batches: one under way would write the head that it has read
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (HISTORY_LOCK,))
            self.connection.execute("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; DROP TABLE kept")
            self.connection.execute(
                "UPDATE heads h SET audit_seq = k.audit_seq, audit_hash = k.audit_hash, "
                "audit_from_seq = k.audit_from_seq, audit_from_hash = k.audit_from_hash FROM kept_heads k"
            )
            self.connection.execute("DROP TABLE kept_heads")
        self.connection.close()


def test_who_speaks_for_a_robot_is_in_the_log_and_the_robot_itself_is_not(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    spec = {"workflow": {"runner": "command", "args": ["true"], "requirements": {"robotName": rob.name}}}
    api.create("Job", "j", {"spec": spec})
    assert rob.say(rob.assigned(api, "j"), "Running") == 200
    uid = api.get("Job", "j")["metadata"]["uid"]
    for key in (rob.api.key, api.issue_key("ops", "operator")):
        said = api.call("POST", f"{api.path('Job', 'j')}/log", key=key, content=b"x", params={"uid": uid, "attempt": "1", "seq": "1"})
        assert said.status_code == 204, said.text
    (row,) = [row for row in about(api, "Job", "j") if row["resource"] == "jobs/log"]
    assert (row["actor"], row["verb"]) == ("ops", "create")
