"""A namespace's Quota: how many jobs may wait, what it is told beyond that, and what is counted when it is read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .conftest import Api, Robot, in_phase, is_status, message, sample, until, work

Object = dict[str, Any]


def quota(api: Api, **spec: Any) -> Object:
    return api.create("Quota", "default", {"spec": spec})


def submit(api: Api, name: str, **spec: Any) -> int:
    return int(api.call("POST", api.path("Job"), sample("Job", name, work(**spec))).status_code)


def used(api: Api) -> Object:
    return dict(api.get("Quota", "default")["status"]["used"])


def test_a_namespace_has_one_quota_of_one_name(api: Api) -> None:
    refused = api.call("POST", api.path("Quota"), sample("Quota", "mine", {"spec": {}}))
    assert 'metadata.name: Invalid value: a namespace has one Quota, named "default"' in message(refused, 422)
    assert quota(api)["spec"] == {"weight": 1, "agingInterval": "5m"}


def test_no_more_jobs_wait_than_the_quota_allows(api: Api) -> None:
    quota(api, maxQueued=3)
    assert [submit(api, f"j{number}") for number in range(5)] == [201, 201, 201, 429, 429]
    refused = api.call("POST", api.path("Job"), sample("Job", "j5", work()))
    assert is_status(refused, 429, "TooManyRequests") and refused.headers["retry-after"] == "1"
    body = refused.json()
    assert body["details"]["retryAfterSeconds"] == 1
    assert f'namespace "{api.namespace}" has as many jobs waiting as its Quota allows (spec.maxQueued: 3)' in body["message"]
    assert used(api) == {"running": 0, "queued": 3}


def test_of_many_at_once_exactly_as_many_are_taken(api: Api) -> None:
    quota(api, maxQueued=25)
    with ThreadPoolExecutor(16) as many:
        codes = list(many.map(lambda number: submit(api, f"j{number}"), range(60)))
    assert sorted(codes) == [201] * 25 + [429] * 35 and used(api)["queued"] == 25


def test_of_a_list_the_first_are_taken_and_each_of_the_others_is_told(api: Api) -> None:
    quota(api, maxQueued=40)
    jobs = [sample("Job", f"j{number}", work()) for number in range(100)]
    said = api.call("POST", api.path("Job"), {"kind": "JobList", "items": jobs}).json()
    assert (said["created"], said["failed"]) == (40, 60)
    assert [one["code"] for one in said["items"]] == [201] * 40 + [429] * 60
    assert said["items"][99]["reason"] == "TooManyRequests" and "spec.maxQueued: 40" in said["items"][99]["message"]


def test_jobs_for_later_wait_too_and_those_that_end_make_room(api: Api) -> None:
    quota(api, maxQueued=2)
    assert submit(api, "later", notBefore="2999-01-01T00:00:00Z") == 201
    assert submit(api, "keyed", concurrency={"key": "k"}) == 201
    assert submit(api, "more") == 429
    api.changed("Job", "later", {"spec": {"cancel": True}})
    until(lambda: submit(api, "more") == 201, "there is room again")
    assert used(api)["queued"] == 2


def test_a_quota_that_is_changed_holds_at_once_for_what_comes(api: Api) -> None:
    assert [submit(api, f"j{number}") for number in range(4)] == [201] * 4
    quota(api, maxQueued=2)
    assert submit(api, "x") == 429 and len(api.names("Job")) == 4, "what waits already stays"
    api.changed("Quota", "default", {"spec": {"maxQueued": 5}})
    until(lambda: submit(api, "x") == 201, "one more")
    assert submit(api, "y") == 429
    api.delete("Quota", "default")
    assert submit(api, "y") == 201


def test_another_namespace_is_not_counted(api: Api) -> None:
    quota(api, maxQueued=1)
    other = Api(api.server, f"{api.namespace}-b")
    other.create("Namespace", other.namespace, {})
    assert [submit(other, f"j{number}") for number in range(3)] == [201] * 3
    assert [submit(api, f"j{number}") for number in range(2)] == [201, 429]
    assert other.delete("Namespace", other.namespace).status_code == 200


def test_a_job_that_comes_back_to_a_full_queue_is_not_refused(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    api.create("Job", "j", work(rob, retry={"limit": 1, "backoff": {"initial": "1h"}}))
    job = rob.assigned(api, "j")
    assert rob.say(job, "Running") == 200
    quota(api, maxQueued=1)
    assert submit(api, "waits") == 201
    assert used(api) == {"running": 1, "queued": 1}
    assert rob.say(job, "Failed") == 200
    in_phase(api, "j", "Queued")
    assert used(api) == {"running": 0, "queued": 2} and submit(api, "more") == 429


def test_what_is_used_is_counted_and_never_kept(api: Api) -> None:
    quota(api, maxQueued=9)
    api.changed("Quota", "default", {"status": {"used": {"running": 77, "queued": 77}}}, "status")
    submit(api, "j")
    assert used(api) == {"running": 0, "queued": 1}
    (listed,) = api.list("Quota")["items"]
    assert listed["status"]["used"] == {"running": 0, "queued": 1}


def test_a_job_remembers_the_ageing_that_it_was_submitted_under(api: Api) -> None:
    before = api.create("Job", "before", work())
    quota(api, agingInterval="1h")
    under = api.create("Job", "under", work())
    api.changed("Quota", "default", {"spec": {"agingInterval": "300s"}})
    same = api.create("Job", "same", work())
    assert [one["status"].get("agingInterval") for one in (before, under, same)] == [None, "1h", None]
    assert api.get("Job", "under")["status"]["agingInterval"] == "1h"


def test_a_namespace_reads_its_quota_and_does_not_write_it(api: Api) -> None:
    quota(api, weight=2)
    path = api.path("Quota", "default")
    for role in ("viewer", "operator", "admin"):
        own = api.of(api.issue_key(role, role))
        assert own.get("Quota", "default")["spec"]["weight"] == 2 and own.names("Quota") == ["default"]
        for refused in (own.patch("Quota", "default", {"spec": {"weight": 9}}), own.delete("Quota", "default"),
                        own.call("PUT", path, api.get("Quota", "default")),
                        own.call("POST", api.path("Quota"), sample("Quota", "default", {"spec": {"weight": 9}}))):  # fmt: skip
            why = message(refused, 403)
            assert why.endswith("what a namespace gets of the fleet is decided by admins of the whole server")
    assert api.get("Quota", "default")["spec"]["weight"] == 2


def test_a_status_that_is_written_leaves_a_jobs_rank_as_it_is(api: Api) -> None:
    before = api.create("Job", "plain", work())["status"]
    quota(api, agingInterval="1h")
    under = api.create("Job", "under", work())["status"]
    told = {"queuedTime": "2020-01-01T00:00:00Z", "agingInterval": "7m", "message": "looked at"}
    for name, status in (("plain", before), ("under", under)):
        found = api.changed("Job", name, {"status": told}, "status")["status"]
        assert (found["queuedTime"], found.get("agingInterval")) == (status["queuedTime"], status.get("agingInterval"))
        assert found["message"] == "looked at"
    gone = api.changed("Job", "under", {"status": {"agingInterval": None}}, "status")["status"]
    assert (gone["queuedTime"], gone["agingInterval"]) == (under["queuedTime"], "1h")
