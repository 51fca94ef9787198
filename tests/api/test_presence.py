"""What heartbeats carry is there to be read, and is no change of anything."""

from __future__ import annotations

from collections.abc import Callable

from casare_api.kinds import Object, dig
from casare_api.kinds.robot import load

from ..conftest import until
from .conftest import Api, Robot

MEASURED = {"cpuPercent": 12.5, "memoryPercent": 40, "diskPercent": 71.2, "running": 1}
APPLY = {"content-type": "application/apply-patch+yaml"}
AS_ME = {"fieldManager": "me", "force": "true"}
APPLIED = {"apiVersion": "fleet.casare.net/v1", "kind": "Robot", "spec": {"environment": "staging"}}


def telemetry(robot: Object) -> Object:
    return dict(robot["status"].get("telemetry") or {})


def test_what_a_robot_measures_is_read_in_get_and_list_and_moves_no_version(
    api: Api, robot: Callable[..., Robot]
) -> None:
    rob = robot()
    rob.report(telemetry={"cpuPercent": 1})
    until(lambda: api.get("Robot", rob.name)["status"]["phase"] == "Idle", "it is there")
    until(lambda: telemetry(api.get("Robot", rob.name)), "its first heartbeat is written")
    until(lambda: "Schedulable" in str(api.get("Robot", rob.name)["status"]["conditions"]), "duties have seen it")
    before = api.get("Robot", rob.name)["metadata"]
    rob.report(telemetry=MEASURED)
    until(lambda: telemetry(api.get("Robot", rob.name)) == MEASURED, "the last one counts")
    rob.report()
    (listed,) = api.list("Robot", fieldSelector=f"metadata.name={rob.name}")["items"]
    assert telemetry(listed) == MEASURED, "a heartbeat without any leaves it"
    assert api.get("Robot", rob.name)["metadata"] == before


def test_measurements_of_any_shape_poison_nothing(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    odd = {"cpuPercent": None, "memoryPercent": "many", "gpus": [{"name": 'a"b\n\\'}], "phase": "Busy"}
    rob.report(telemetry=odd)
    found = until(lambda: (one := api.get("Robot", rob.name)) and telemetry(one) and one, "it is written")
    assert telemetry(found) == odd and found["status"]["phase"] in ("Idle", "Pending", "Offline")
    assert load(found) == ""
    (listed,) = api.list("Robot", fieldSelector=f"metadata.name={rob.name}")["items"]
    assert telemetry(listed) == odd
    written = api.changed("Robot", rob.name, {"metadata": {"labels": {"a": "b"}}})
    assert written["metadata"]["labels"] == {"a": "b"}
    assert telemetry(api.get("Robot", rob.name)) == odd


def test_the_answer_to_a_write_shows_what_a_read_shows_and_history_does_not(
    api: Api, robot: Callable[..., Robot]
) -> None:
    """Whoever compares an object before and after what he wrote, as kubectl does, finds what he changed alone."""
    rob = robot()
    rob.report(telemetry=MEASURED)
    until(lambda: telemetry(api.get("Robot", rob.name)) == MEASURED, "it is written")
    path = api.path("Robot", rob.name)
    with api.watch("Robot", fieldSelector=f"metadata.name={rob.name}") as watch:
        answers = [
            api.patch("Robot", rob.name, {"metadata": {"labels": {"a": "b"}}}),
            api.patch("Robot", rob.name, {"metadata": {"labels": {"a": "b"}}}),
            api.patch("Robot", rob.name, {"metadata": {"labels": {"a": "c"}}}, params={"dryRun": "All"}),
            api.patch("Robot", rob.name, {"status": {"telemetry": {"cpuPercent": 99}}}, "status"),
            api.patch("Robot", rob.name, {"status": {"noted": "by hand"}}, "status"),
            api.call("PUT", path, {**api.get("Robot", rob.name), "spec": {"tags": ["sap"]}}),
            api.call("PATCH", path, APPLIED | {"metadata": {"name": rob.name}}, params=AS_ME, headers=APPLY),
        ]  # fmt: skip
        assert [(one.status_code, dig(one.json(), "status", "telemetry")) for one in answers] == [(200, MEASURED)] * len(answers)
        while (told := watch.next()["object"])["spec"].get("environment") != "staging":
            assert "telemetry" not in told["status"]
    assert "telemetry" not in told["status"]
