"""What the machine draws: jobs with all that they may ask for, robots, quotas, and how time goes on."""

from __future__ import annotations

from hypothesis import strategies as st

from casare_api.kinds import Object

from .machine import ROBOTS

POLICIES = st.fixed_dictionaries(
    {"onRobotLost": st.sampled_from(["Requeue", "Requeue", "Fail", "Wait"])},
    optional={
        "limit": st.just(2),
        "robotLostLimit": st.sampled_from([0, 1]),
        "backoff": st.just({"initial": "1s"}),
        "selfFence": st.just(True),
    },
)
KEYS: list[Object] = [{"concurrency": {"key": key, "limit": limit}} for key, limit in (("k", 1), ("k", 2), ("l", 1))]
SPECIAL: list[Object] = [
    {"lostAfter": "1s"},
    {"timeout": "5s", "gracePeriod": "1s"},
    {"startDeadline": "20s"},
    {"notBefore": "2026-01-01T00:01:00Z"},
    {"ttlAfterFinished": "1s"},
    {"priority": 0},
    {"cancel": True},
    *KEYS,
    *({"idempotencyKey": key} for key in "xy"),
]
# Of each, with any other, one of the robots that there are in the end has what is asked for.
DEMANDS: list[Object] = [
    {"capabilities": ["browser"]},
    *({"robotSelector": [{"key": "floor", "operator": operator}]} for operator in ("Exists", "DoesNotExist")),
    *({"robotSelector": [{"key": "floor", "operator": operator, "values": values}]}
      for operator, values in (("In", ["1"]), ("NotIn", ["1", "3"]), ("Gt", ["1"]), ("Lt", ["2"]))),
    {"tolerations": [{"key": "dirty", "operator": "Exists"}]},
    {"tolerations": [{"key": "dirty", "value": "very"}, {"key": "old", "operator": "Exists"}]},
    {"tolerations": [{"operator": "Exists"}]},
    {"prefer": [{"sameRobot": True}]},
    {"prefer": [{"labels": {"floor": "2"}}, {"sameRobot": True}]},
    {"prefer": [{"sameRobot": True}, {"labels": {"floor": "1"}}]},
]  # fmt: skip
TAINTS = st.sampled_from(
    [None, None, [{"key": "dirty"}], [{"key": "dirty", "value": "very"}], [{"key": "old"}, {"key": "dirty"}]]
)
LABELS = st.fixed_dictionaries({"floor": st.sampled_from(["1", "2", "3", None])})


def _job(policy: Object, special: list[Object], demands: list[Object]) -> Object:
    spec: Object = {"retry": policy}
    for one in special:
        spec |= one
    if policy.get("selfFence"):  # an agent ends what took too long by itself, and these have no clock for that
        spec = {key: value for key, value in spec.items() if key not in ("timeout", "lostAfter")}
    asked = {key: value for one in demands for key, value in one.items()}
    return spec | ({"requirements": asked} if asked else {})


# Most jobs have little that is special: others would hide it.
FEW_DEMANDS = st.just([]) | st.lists(st.sampled_from(DEMANDS), max_size=2)
JOBS = st.builds(_job, POLICIES, st.lists(st.sampled_from(SPECIAL), max_size=2), FEW_DEMANDS)
READY = st.builds(_job, POLICIES, st.just([]) | st.sampled_from([[key] for key in KEYS]), FEW_DEMANDS)  # at once
FENCED: Object = {
    "retry": {"onRobotLost": "Requeue", "selfFence": True},
    "requirements": {"tolerations": [{"operator": "Exists"}]},
}
PLAIN = st.builds(_job, POLICIES, st.just([]), st.just([]))
QUOTAS = st.fixed_dictionaries({}, optional={"maxRunning": st.integers(0, 2), "weight": st.integers(1, 3)})
SHARES = st.fixed_dictionaries({"weight": st.sampled_from([1, 4])}, optional={"maxRunning": st.integers(2, 3)})
MARKS = st.fixed_dictionaries({"labels": LABELS, "taints": TAINTS})
OUTCOMES = st.sampled_from(["Succeeded", "Succeeded", "Failed"])
SECONDS = st.sampled_from([1.0, 5.0, 11.0, 31.0, 100.0, 400.0, 5000.0, -2.0, -60.0])
NUMBER, FEW = st.integers(0, 1), st.integers(0, ROBOTS - 1)
SOME = st.lists(FEW, max_size=ROBOTS, unique=True)
DUTIES = st.sampled_from(["placement", "placement", "presence", "timers", "draining"])
DRAINS = st.sampled_from([
    None, {"deadline": "0", "then": "Requeue"}, {"deadline": "30s", "then": "Requeue"}, {"deadline": "0", "then": "Cancel"},
    {"deadline": "0", "then": "Wait"},
])  # fmt: skip
