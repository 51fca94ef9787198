"""A schedule makes each of its jobs exactly once, and what it did not make is on record."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from ..conftest import until
from .conftest import NOWHERE, Api, Object, is_status, work


def soon() -> str:
    """A moment that is still to come when the schedule is made, however busy the machine: one that is over never fires."""
    return (datetime.now(UTC) + timedelta(seconds=3)).strftime("%Y-%m-%dT%H:%M:%SZ")


def schedule(api: Api, name: str = "s", **spec: object) -> Object:
    return api.create("Schedule", name, {"spec": {"jobTemplate": work(), **spec}})


def fires(api: Api, schedule: str = "s") -> list[Object]:
    return list(api.list("Fire", fieldSelector=f"spec.scheduleName={schedule}")["items"])


def test_each_fire_happens_once_with_two_controllers_at_work(api: Api) -> None:
    api.server.run("controller-2", "-m", "casare_controller")
    try:
        names = [f"s{number}" for number in range(5)]
        for name in names:
            schedule(api, name, every="1s")
        until(lambda: all(len(fires(api, name)) >= 4 for name in names), "each has fired four times")
        for name in names:
            api.changed("Schedule", name, {"spec": {"suspend": True}})
    finally:
        process = api.server.processes.pop("controller-2")
        process.terminate()
        process.wait(timeout=20)
    jobs = api.list("Job")["items"]
    for name in names:
        made = fires(api, name)
        moments = [fire["spec"]["scheduledTime"] for fire in made]
        assert len(set(moments)) == len(moments)
        fired = Counter(fire["status"]["jobName"] for fire in made if fire["status"]["outcome"] == "Fired")
        owned = Counter(
            job["metadata"]["name"] for job in jobs if job["metadata"]["ownerReferences"][0]["name"] == name
        )
        assert fired == owned and set(fired.values()) == {1}


def test_a_job_it_makes_is_a_job_like_any_other(api: Api) -> None:
    api.create(
        "Workflow",
        "w",
        {"spec": {"runner": "command", "args": ["true"], "priority": 2, "requirements": {"tags": [NOWHERE]}}},
    )
    at = soon()
    template = {
        "metadata": {"labels": {"team": "finance"}},
        "spec": {"workflowRef": {"name": "w"}, "parameters": {"when": "{{ scheduledTime }}"}},
    }
    made = schedule(api, at=at, jobTemplate=template)
    assert made["status"]["nextFireTime"] == at
    until(lambda: api.names("Job"), "it fires")
    (job,) = api.list("Job")["items"]
    assert job["spec"]["priority"] == 2 and job["spec"]["parameters"] == {"when": at}
    assert job["metadata"]["labels"] == {"team": "finance", "fleet.casare.net/schedule": "s"}
    assert job["spec"]["workflowRef"]["revision"] and job["status"]["phase"] == "Queued"
    after = api.get("Schedule", "s")["status"]
    assert after["lastFireTime"] == at and "nextFireTime" not in after, "once is once"
    (fire,) = fires(api)
    assert fire["status"] == {**fire["status"], "outcome": "Fired", "jobName": job["metadata"]["name"]}
    api.delete("Job", job["metadata"]["name"])
    assert fires(api), "the record outlives its job"


def test_what_it_can_not_make_is_skipped_with_the_reason(api: Api) -> None:
    schedule(api, at=soon(), jobTemplate={"spec": {"workflowRef": {"name": "missing"}}})
    until(lambda: fires(api), "it is recorded")
    assert fires(api)[0]["status"]["outcome"] == "Skipped"
    assert 'there is no workflow "missing"' in fires(api)[0]["status"]["reason"]
    assert api.names("Job") == []


def test_one_that_forbids_company_waits_for_its_job(api: Api) -> None:
    schedule(api, every="1s", concurrencyPolicy="Forbid")
    until(lambda: len(fires(api)) >= 2, "it has fired twice")
    outcomes = Counter(fire["status"]["outcome"] for fire in fires(api))
    assert outcomes["Fired"] == 1 and len(api.names("Job")) == 1


def test_a_suspended_one_does_not_fire_and_knows_when_it_goes_on(api: Api) -> None:
    assert "nextFireTime" not in schedule(api, every="1s", suspend=True)["status"]
    schedule(api, "other", every="1s")
    until(lambda: len(fires(api, "other")) >= 2, "another one fires")
    assert fires(api) == []
    again = api.changed("Schedule", "s", {"spec": {"suspend": False}})
    assert again["status"]["nextFireTime"] > again["metadata"]["creationTimestamp"]
    until(lambda: fires(api), "it goes on")


def test_a_new_rule_counts_from_now(api: Api) -> None:
    before = schedule(api, cron="0 3 1 1 *")["status"]["nextFireTime"]
    after = api.changed("Schedule", "s", {"spec": {"cron": "0 4 1 1 *"}})["status"]["nextFireTime"]
    assert before[:10] == after[:10] and before[11:13] == "03" and after[11:13] == "04"
    same = api.changed("Schedule", "s", {"metadata": {"labels": {"a": "b"}}})
    assert same["status"]["nextFireTime"] == after
    assert is_status(api.patch("Schedule", "s", {"spec": {"cron": "nonsense"}}), 422)


def test_its_jobs_and_fires_go_with_it(api: Api) -> None:
    schedule(api, at=soon())
    until(lambda: api.names("Job"), "it fires")
    api.delete("Schedule", "s")
    until(lambda: api.names("Job") == [] and fires(api) == [], "all are collected")
