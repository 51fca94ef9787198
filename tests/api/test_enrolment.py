"""Computers that become robots by a join token: over HTTP, as agents and people do it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from ..conftest import until
from .conftest import Api, Object, Robot, in_phase, is_status, message, work

PATH = "/apis/fleet.casare.net/v1/enroll"


def issue(api: Api, name: str = "floor", **spec: Any) -> str:
    """A join token's secret."""
    api.create("JoinToken", name, {"spec": spec})
    made = api.call("POST", api.path("JoinToken", name, "token"))
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def join(api: Api, token: str, robot_id: str = "pc-07", **more: Any) -> httpx2.Response:
    return api.call("POST", PATH, {"robotId": robot_id, **more}, key=token)


def joined(api: Api, token: str, robot_id: str = "pc-07", **more: Any) -> Object:
    answer = join(api, token, robot_id, **more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def report(api: Api, key: str, name: str = "pc-07") -> httpx2.Response:
    return api.call("POST", api.path("Robot", name, "report"), {"agent": {"hostname": "h"}}, key=key)


def test_a_computer_swaps_a_token_for_a_robot_and_its_key(api: Api) -> None:
    token = issue(api, namePattern="pc-*", environment="production", labels={"site": "berlin"}, uses=2)
    assert token.startswith("cjt_") and len(token) >= 4 + 43
    said = joined(api, token, "PC 07", displayName="PC-07", environment="dev", tags=["sap"], slots=2,
                  agent={"hostname": "pc07"})  # fmt: skip
    robot = api.get("Robot", said["robotName"])
    assert robot["metadata"]["uid"] == said["robotUID"] and said["approved"] is True
    assert robot["metadata"]["labels"] == {"site": "berlin"}
    assert (robot["spec"]["robotId"], robot["spec"]["environment"]) == ("PC 07", "production")
    assert (robot["spec"]["tags"], robot["spec"]["maxConcurrentJobs"]) == (["sap"], 2)
    assert robot["status"]["agent"] == {"hostname": "pc07"} and robot["status"]["phase"] == "Pending"
    own = api.get("ApiKey", said["robotName"])
    assert own["spec"]["hash"] == digest(said["key"]) and own["spec"]["robotName"] == said["robotName"]
    assert [owner["uid"] for owner in own["metadata"]["ownerReferences"]] == [said["robotUID"]]
    assert report(api, said["key"], said["robotName"]).status_code == 200, "its key is good at once"
    status = api.get("JoinToken", "floor")["status"]
    assert (status["phase"], status["used"], status["usesLeft"]) == ("Active", 1, 1)
    assert [one["name"] for one in status["enrolled"]] == [said["robotName"]]
    shown = api.call("GET", api.path("JoinToken", "floor")).text
    assert token not in shown and said["key"] not in shown and status["hint"] == f"{token[:5]}...{token[-4:]}"
    assert is_status(api.call("POST", api.path("JoinToken", "floor", "token")), 409, "Conflict")


def test_who_asks_again_while_the_first_try_is_under_way_gets_its_answer(api: Api) -> None:
    """A try that took too long for its agent, which says it again: both are the same robot, and one use."""
    token = issue(api, uses=2)
    with ThreadPoolExecutor(8) as pool:
        for number in range(2):
            hashed = "sha256:" + f"{number + 1}" * 64
            codes = list(pool.map(lambda _, n=number, h=hashed: join(api, token, f"pc-{n}", keyHash=h).status_code, range(8)))
            assert sorted(codes) == [200] * 7 + [201]
    assert api.get("JoinToken", "floor")["status"]["used"] == 2


def test_a_token_is_good_for_so_many_and_no_more_however_many_ask_at_once(api: Api) -> None:
    token = issue(api, uses=3)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda number: join(api, token, f"pc-{number}").status_code, range(8)))
    assert sorted(codes) == [201] * 3 + [403] * 5
    assert api.get("JoinToken", "floor")["status"]["phase"] == "UsedUp"
    assert 'join token "floor" is used up (3 of 3)' in message(join(api, token, "pc-9"), 403)
    assert len(api.names("Robot")) == len(api.names("ApiKey")) == 3
    api.changed("JoinToken", "floor", {"spec": {"uses": 4}})
    joined(api, token, "pc-9")


def test_a_token_ends(api: Api) -> None:
    token = issue(api, ttl="1s", uses=9)
    until(lambda: api.get("JoinToken", "floor")["status"]["phase"] == "Expired", "it says so")
    assert 'join token "floor" expired at' in message(join(api, token), 403)
    api.changed("JoinToken", "floor", {"spec": {"ttl": "1h", "revoked": True}})
    assert 'join token "floor" was revoked' in message(join(api, token), 403)
    api.changed("JoinToken", "floor", {"spec": {"revoked": False}})
    joined(api, token)
    api.delete("JoinToken", "floor")
    assert is_status(join(api, token, "pc-08"), 401)
    assert api.find("Robot", "pc-07") is not None, "who has joined stays"
    api.create("JoinToken", "short", {"spec": {"ttl": "0s"}})
    assert "is Expired" in message(api.call("POST", api.path("JoinToken", "short", "token")), 409)


def test_a_token_can_be_declared_with_a_hash_that_was_made_offline(api: Api) -> None:
    token = "cjt_" + secrets.token_urlsafe(32)
    api.create("JoinToken", "git", {"spec": {"hash": digest(token)}})
    joined(api, token)
    other = {"metadata": {"name": "copy"}, "spec": {"hash": digest(token)}}
    assert "another join token has this spec.hash" in message(api.call("POST", api.path("JoinToken"), other), 409)


def test_a_token_takes_over_no_robot(api: Api, robot: Callable[..., Robot]) -> None:
    rob, token = robot("pc"), issue(api, uses=9)
    assert "is there already" in message(join(api, token, rob.name), 409)
    api.create("Robot", "declared", {"spec": {"robotId": "PC_99"}})
    assert "is there already" in message(join(api, token, "PC_99"), 409), "a robotId is one robot's"
    first = joined(api, token, "pc-07")
    assert is_status(join(api, token, "pc-07"), 409), "nor one that joined by it"
    assert is_status(join(api, token, "pc-07", keyHash=digest("another")), 409)
    assert is_status(join(api, token, "pc-08", keyHash=digest(first["key"])), 409), "nor has one key two robots"
    assert api.get("JoinToken", "floor")["status"]["used"] == 1


def test_a_key_from_before_is_not_good_for_a_robot_that_joins_under_its_name(api: Api) -> None:
    token, old = issue(api), api.of(api.issue_key("old", "robot", robotName="pc-07"))
    assert old.call("POST", api.path("Robot"), {"metadata": {"name": "pc-07"}, "spec": {}}).status_code == 201
    api.delete("Robot", "pc-07")
    assert 'apikey "old" is for a robot "pc-07"' in message(join(api, token), 409)
    assert api.get("JoinToken", "floor")["status"]["used"] == 0 and api.names("Robot") == []
    api.changed("ApiKey", "old", {"spec": {"revoked": True}})
    joined(api, token)


def test_a_key_that_was_replaced_is_still_its_own(api: Api) -> None:
    first, token = api.issue_key("k", "viewer"), issue(api)
    assert api.call("POST", api.path("ApiKey", "k", "rotate"), {"overlap": "1h"}).status_code == 201
    assert "keyHash: another key has it" in message(join(api, token, keyHash=digest(first)), 409)
    assert api.names("Robot") == [] and api.names("ApiKey") == ["k"]
    assert api.call("POST", api.path("ApiKey", "k", "rotate"), {"overlap": "0s"}).status_code == 201
    joined(api, token, keyHash=digest(first))


def test_who_lost_the_answer_asks_again_with_its_own_key(api: Api) -> None:
    key, token = "crpa_" + secrets.token_urlsafe(32), issue(api)
    first = joined(api, token, keyHash=digest(key))
    assert "key" not in first and report(api, key).status_code == 200
    again = join(api, token, keyHash=digest(key))
    assert again.status_code == 200 and again.json() == first, "though the token is used up"
    assert api.get("JoinToken", "floor")["status"]["used"] == 1
    api.changed("JoinToken", "floor", {"spec": {"uses": 5}})
    api.create("ApiKey", "pc-08")  # somebody's key of that name is left alone
    joined(api, token, "pc-08", keyHash=digest(key + "8"))
    assert api.get("ApiKey", "pc-08")["spec"]["role"] == "viewer" and report(api, key + "8", "pc-08").status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [({}, 422, "robotId"), ({"robotId": ""}, 422, "robotId"), ({"robotId": "x", "slots": 101}, 422, "slots"),
     ({"robotId": "x", "keyHash": "md5:1"}, 422, "keyHash"), ({"robotId": "x", "colour": 1}, 422, "colour"),
     ({"robotId": "x", "environment": "Not so"}, 422, "spec.environment"), ({"robotId": "a\0b"}, 400, "NUL"),
     ([], 422, ""), ({"robotId": "laptop"}, 403, 'robots named "pc-*"')],
)  # fmt: skip
def test_a_bad_request_costs_nothing(api: Api, body: Any, code: int, words: str) -> None:
    token = issue(api, namePattern="pc-*" if code == 403 else "*x")
    assert words in message(api.call("POST", PATH, body, key=token), code)
    assert api.get("JoinToken", "floor")["status"]["used"] == 0 and api.names("Robot") == []


def test_without_a_token_there_is_nothing_to_see(api: Api) -> None:
    unknown = "this is no join token of this server"
    for key in ("x", "cjt_" + "x" * 43, "cjt_" + "x" * 500, api.key):
        assert unknown in message(api.call("POST", PATH, {"robotId": "x"}, key=key), 401)
    token = issue(api)
    assert is_status(api.call("GET", PATH, key=token), 405)
    assert is_status(api.call("GET", api.path("Robot"), key=token), 401), "a token is no key"
    assert is_status(api.call("POST", PATH, content=b"{" + b" " * 70_000, key=token), 413)
    assert is_status(api.call("POST", PATH, content=b"{", key=token), 400)


def test_a_robot_waits_until_somebody_approves_it(api: Api) -> None:
    said = joined(api, issue(api, approval="Manual"), tags=["pc-07"])
    own = api.of(said["key"])
    assert said["approved"] is False
    job = api.create("Job", "j", {"spec": {"workflow": {"runner": "command", "args": ["true"], "requirements": {
        "robotName": "pc-07"}}}})  # fmt: skip
    for _ in range(3):
        answer = report(api, said["key"])
        assert (answer.status_code, answer.json()["approved"]) == (200, False), "it is told to wait, not refused"
    robot = api.get("Robot", "pc-07")
    assert robot["status"]["phase"] == "Pending" and robot["status"]["agent"] == {"hostname": "h"}
    conditions = {one["type"]: one["status"] for one in robot["status"]["conditions"]}
    assert conditions in ({"Approved": "False"}, {"Approved": "False", "Schedulable": "False"})
    for notes in ({"approved": "true"}, {"approved": None}, {"enrolled-by": None}):
        patch = {"metadata": {"annotations": {f"fleet.casare.net/{key}": to for key, to in notes.items()}}}
        assert is_status(own.patch("Robot", "pc-07", patch), 403), "it can't let itself in"
    assert is_status(own.patch("Robot", "pc-07", {"spec": {"environment": "production"}}), 403)
    assert own.patch("Robot", "pc-07", {"spec": {"tags": ["more"]}}).status_code == 200
    until(lambda: "unapproved" in str(api.get("Job", "j")["status"].get("reasons")), "the job says why it waits")
    operator = api.of(api.issue_key("op", "operator"))
    approve = {"metadata": {"annotations": {"fleet.casare.net/approved": "true"}}}
    robot = operator.changed("Robot", "pc-07", approve)
    assert [one["status"] for one in robot["status"]["conditions"] if one["type"] == "Approved"] == ["True"]

    def given() -> bool:
        answer = report(api, said["key"])
        assert answer.status_code in (200, 503) and "approved" not in answer.json()
        return bool(api.get("Job", "j")["status"]["phase"] == "Assigned")

    until(given, "it gets the job")
    assert api.get("Job", "j")["metadata"]["uid"] == job["metadata"]["uid"]


def test_a_robot_that_is_deleted_does_not_come_back_by_its_own_key(api: Api) -> None:
    said = joined(api, issue(api, uses=5))
    own, robot = api.of(said["key"]), {"metadata": {"name": "pc-07"}, "spec": {}}
    assert report(api, said["key"]).status_code == 200
    api.delete("Robot", "pc-07")
    assert own.call("POST", api.path("Robot"), robot).status_code in (401, 403)
    api.create("Robot", "pc-07", {"spec": {}})  # a new one of this name is not its own
    assert report(api, said["key"]).status_code in (401, 404)
    jobs = own.call("GET", own.path("Job"), params={"fieldSelector": f"status.robotUID={said['robotUID']}"})
    assert jobs.status_code in (401, 404), "nor are the new one's jobs its own"
    until(lambda: api.find("ApiKey", "pc-07") is None, "its key goes with it")
    told = report(api, said["key"])
    assert 'robot "pc-07" was deleted, and its key with it' in message(told, 401)
    assert told.json()["details"]["causes"][0]["reason"] == "RobotDeleted"
    assert is_status(report(api, said["key"] + "x"), 401) and "deleted" not in report(api, said["key"] + "x").text


def test_a_robots_own_key_is_its_own_whatever_becomes_of_its_owner(api: Api) -> None:
    token = issue(api, uses=5, approval="Manual")
    said = joined(api, token)
    own, robot = api.of(said["key"]), {"metadata": {"name": "pc-07"}, "spec": {"environment": "production"}}
    api.changed("ApiKey", "pc-07", {"metadata": {"ownerReferences": None}})
    for uid in (None, "01900000-0000-7000-8000-000000000001"):
        api.patch("ApiKey", "pc-07", {"status": {"robotUID": uid}}, "status")
    key = api.get("ApiKey", "pc-07")
    assert key["status"]["robotUID"] == said["robotUID"] and "ownerReferences" not in key["metadata"]
    assert report(api, said["key"]).status_code == 200
    api.delete("Robot", "pc-07")
    for answer in (own.call("POST", api.path("Robot"), robot), report(api, said["key"]), own.call("GET", api.path("Job"))):
        assert 'robot "pc-07" was deleted, and its key with it' in message(answer, 401)
        assert answer.json()["details"]["causes"][0]["reason"] == "RobotDeleted"
    again = joined(api, token)
    api.changed("ApiKey", "pc-07", {"spec": {"description": "it is looked at again"}})
    assert is_status(report(api, said["key"]), 401) and report(api, again["key"]).status_code == 200
    assert api.find("ApiKey", "pc-07") is not None, "nothing took it away"


def test_a_key_that_was_deleted_says_nothing_of_its_robot(api: Api) -> None:
    said = joined(api, issue(api))
    api.delete("ApiKey", "pc-07")
    told = message(report(api, said["key"]), 401)
    assert "deleted" not in told and api.find("Robot", "pc-07") is not None


def test_a_job_that_ran_on_a_robot_that_joined_goes_on_elsewhere(api: Api) -> None:
    said = joined(api, issue(api), tags=["pc-07"])
    until(lambda: report(api, said["key"]).status_code == 200, "it is there")
    body = work()
    body["spec"]["workflow"]["requirements"] = {"tags": ["pc-07"]}
    api.create("Job", "j", body)

    def assigned() -> bool:
        report(api, said["key"])
        return bool(api.get("Job", "j")["status"]["phase"] == "Assigned")

    until(assigned, "it has the job")
    api.delete("Robot", "pc-07")
    in_phase(api, "j", "Queued")


# -- two agents with one key ---------------------------------------------------------------------------------------


def test_one_of_two_agents_with_the_same_key_is_the_robot_until_it_leaves(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()

    def says(instance: str, place: str = "", **more: Any) -> httpx2.Response:
        who = {"instance": instance, "place": place, "hostname": f"host-{place}", "pid": 7, "startedTime": "then"}
        about = {"agent": who} if place else {}
        return rob.api.call("POST", rob.path, {**about, **more}, params={"instance": instance})

    def is_there(instance: str, place: str = "") -> None:
        until(lambda: says(instance, place).status_code == 200, f"{instance} is the robot")

    is_there("a1", "one")
    is_there("a1")
    until(lambda: api.get("Robot", rob.name)["status"]["phase"] == "Idle", "it is there")
    job = api.create("Job", "j", work(rob))
    until(lambda: says("a1").status_code == 200 and api.get("Job", "j")["status"]["phase"] == "Assigned", "a job")
    job = api.get("Job", "j")
    meta = {key: job["metadata"][key] for key in ("namespace", "name", "uid")}
    lost = {"jobs": [{**meta, "attempt": 1, "phase": "Lost"}]}
    refused = says("b1", "two", **lost)
    assert message(refused, 409).startswith(f'robot "{rob.name}" is run by another agent on host-one (pid 7, started then)')
    assert is_status(says("b1", leaving=True), 409), "nor does it say that the robot leaves"
    assert says("b1").json()["details"]["causes"][0]["reason"] == "AgentUnknown"
    assert api.get("Job", "j")["status"]["phase"] == "Assigned", "what it says of jobs is not believed"
    is_there("a1")
    is_there("a2", "one")  # it was started again, which need not wait
    assert is_status(says("a1", "two"), 409), "the one before is not believed any more"
    assert says("a2", leaving=True).status_code == 200
    is_there("b1", "two")
    assert api.get("Robot", rob.name)["status"]["agent"]["hostname"] == "host-two"
    assert is_status(says("a2", "one"), 409)
    assert rob.report()["robotUID"] == rob.uid, "a release that says no instance is believed as before"


# -- names that people give ----------------------------------------------------------------------------------------


def test_robots_that_are_called_the_same_are_told_apart(api: Api) -> None:
    def shown(name: str) -> str:
        (listed,) = [one for one in api.list("Robot")["items"] if one["metadata"]["name"] == name]
        (paged,) = [one for one in api.list("Robot", limit=50)["items"] if one["metadata"]["name"] == name]
        (found,) = {one["status"]["displayName"] for one in (api.get("Robot", name), listed, paged)}
        return str(found)

    uid = {name: api.create("Robot", name, {"spec": {"displayName": 'PC "01"'}})["metadata"]["uid"] for name in "ab"}
    api.create("Robot", "c", {"spec": {"robotId": "PC_03"}})
    ends = {name: uid[name][-8:] for name in uid}
    assert ends["a"] != ends["b"]
    assert (shown("a"), shown("b"), shown("c")) == (f'PC "01" ({ends["a"]})', f'PC "01" ({ends["b"]})', "PC_03")
    elsewhere = Api(api.server, "default")
    elsewhere.create("Robot", f"x-{api.namespace}", {"spec": {"displayName": "PC_03"}})
    assert shown("c") == "PC_03", "another namespace is another place"
    elsewhere.delete("Robot", f"x-{api.namespace}")
    table = api.call("GET", api.path("Robot"), headers={"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).json()
    columns = [one["name"] for one in table["columnDefinitions"]]
    assert {row["cells"][columns.index("Display")] for row in table["rows"]} == {shown(name) for name in "abc"}
    api.changed("Robot", "a", {"spec": {"displayName": "PC-02"}})
    assert (shown("a"), shown("b")) == ("PC-02", 'PC "01"')
    assert api.call("GET", api.path("Robot", "b")).text.count("displayName") == 2, "in spec and status, once each"
    api.delete("Robot", "a")
