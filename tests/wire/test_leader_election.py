"""Leases: of several candidates exactly one leads, as in the Python client's own leader election; times keep every digit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from ..conftest import Server, until
from .conftest import kubeconfig

DURATION, DEADLINE, PERIOD = 3, 2, 0.1  # seconds: of a lease, until a leader gives up, between tries


class Stopped(Exception):
    """How a leader's work ends here: the client takes an error for the end of its leadership."""


class Candidate:
    """One candidate in a thread of its own; `told` is what became of all of them, in order."""

    def __init__(self, leases: Any, namespace: str, name: str, told: list[str]) -> None:
        self.name, self.told, self.leave = name, told, threading.Event()
        lock: Any = LeaseLock("leader", namespace, name)  # type: ignore[no-untyped-call]
        lock.api_instance = leases
        how: Any = electionconfig.Config(lock, DURATION, DEADLINE, 1, self.lead, self.stop)  # type: ignore[no-untyped-call]
        how.retry_period = PERIOD  # the client takes no less than a second at first
        election: Any = leaderelection.LeaderElection(how)  # type: ignore[no-untyped-call]
        self.thread = threading.Thread(target=election.run, name=name, daemon=True)
        self.thread.start()

    def lead(self) -> None:
        self.told.append(f"{self.name} leads")
        self.leave.wait()
        raise Stopped

    def stop(self) -> None:
        self.told.append(f"{self.name} stops")

    def end(self) -> None:
        self.leave.set()
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


@pytest.fixture
def leases(wire: Server, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "kubeconfig").write_text(kubeconfig(wire, wire.admin_key, "default"))
    with config.new_client_from_config(str(tmp_path / "kubeconfig")) as connection:  # type: ignore[no-untyped-call]
        yield client.CoordinationV1Api(connection)


@pytest.fixture
def candidate(leases: Any, namespace: str) -> Callable[[str], Candidate]:
    """Makes candidates for one lease, who all tell into one list."""
    told: list[str] = []
    return lambda name: Candidate(leases, namespace, name, told)


def test_one_of_two_leads_and_the_other_takes_over(candidate: Callable[[str], Candidate], leases: Any, namespace: str) -> None:
    both = {name: candidate(name) for name in ("anna", "ben")}
    told = both["anna"].told
    until(lambda: told, "somebody leads")
    first = told[0].split()[0]
    second = next(name for name in both if name != first)
    renewed = leases.read_namespaced_lease("leader", namespace)
    until(lambda: leases.read_namespaced_lease("leader", namespace).spec.renew_time > renewed.spec.renew_time, "it is renewed")
    assert told == [f"{first} leads"], "while the first goes on, the other waits"
    assert renewed.spec.holder_identity == first
    both[first].end()
    until(lambda: len(told) == 3, "the other takes over")
    assert told == [f"{first} leads", f"{first} stops", f"{second} leads"]
    assert leases.read_namespaced_lease("leader", namespace).spec.holder_identity == second
    both[second].end()


def test_of_many_that_take_a_lease_at_once_one_gets_it(leases: Any, namespace: str) -> None:
    """All saw the same version of the lease: the first write wins, the others are told of a conflict."""
    seen = leases.create_namespaced_lease(namespace, {"metadata": {"name": "leader"}, "spec": {}})
    results: list[int] = []

    def take(name: str) -> None:
        body = {"metadata": {"name": "leader", "resourceVersion": seen.metadata.resource_version}, "spec": {"holderIdentity": name}}
        try:
            leases.replace_namespaced_lease("leader", namespace, body)
            results.append(200)
        except ApiException as error:
            results.append(error.status or 0)

    threads = [threading.Thread(target=take, args=(f"candidate-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [200] + 7 * [409]


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.100000Z", "2026-12-31T23:59:59.999999Z"])
def test_the_microseconds_of_a_lease_come_back_byte_for_byte(leases: Any, namespace: str, time: str) -> None:
    assert come_back(leases, namespace, time) == {time}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.000000Z"),  # as Python writes a time
        ("2026-01-01T01:00:00.5+01:00", "2026-01-01T00:00:00.500000Z"),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456Z"),
    ],
)
def test_a_time_in_another_form_comes_back_in_the_one_that_go_reads(leases: Any, namespace: str, written: str, read: str) -> None:
    assert come_back(leases, namespace, written) == {read}


def come_back(leases: Any, namespace: str, time: str) -> set[str]:
    """The forms that a time has in all answers: of its create, of a read and of a list."""
    body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "me", "acquireTime": time, "renewTime": time}}
    raw: Any = client.CustomObjectsApi(leases.api_client)
    where = ("coordination.k8s.io", "v1", namespace, "leases")
    answers: list[Any] = [raw.create_namespaced_custom_object(*where, body)]
    answers.append(raw.get_namespaced_custom_object(*where, "leader"))
    answers += raw.list_namespaced_custom_object(*where)["items"]
    return {answer["spec"][field] for answer in answers for field in ("acquireTime", "renewTime")}
