"""kubectl can ask why a job waits: by the path, as it has no word of its own for that."""

from __future__ import annotations

from ..api.conftest import Api, work
from .conftest import Kubectl


def test_kubectl_asks_why_a_job_waits_by_its_path(newest_kubectl: Kubectl, api: Api) -> None:
    api.create("Job", "j", work())
    said = newest_kubectl("get", "--raw", api.path("Job", "j", "why")).json()
    assert (said["kind"], said["metadata"]["name"], said["phase"]) == ("JobExplanation", "j", "Queued")
    assert said["place"]["position"] == 1 and said["message"]
