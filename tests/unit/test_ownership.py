"""Field ownership and server-side apply: the rules of a Kubernetes server by example, and what holds for any history."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery import fieldsets, managers, merging, ownership, structure
from casare_api.machinery.errors import ApiError
from casare_api.machinery.fieldsets import Fields, Path
from casare_api.machinery.lastapplied import ANNOTATION
from casare_api.machinery.ownable import complete, ownable
from casare_api.machinery.ownership import ApplyConflict, Entry, Object, Untyped

V1 = "fleet.casare.net/v1"
TEXT = {"type": "string"}
SPEC: dict[str, Any] = {
    "mode": TEXT,
    "slots": {"type": "integer"},
    "drain": {"type": "object", "properties": {"deadline": TEXT, "then": TEXT}},
    "args": {"type": "array", "items": TEXT},
    "tags": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
    "env": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "properties": {"name": TEXT, "value": TEXT, "from": TEXT}},
    },
    "ports": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "protocol"],
        "items": {
            "type": "object",
            "properties": {"port": {"type": "integer"}, "protocol": {**TEXT, "default": "TCP"}, "name": TEXT},
        },
    },
    "selector": {"type": "object", "additionalProperties": TEXT, "x-kubernetes-map-type": "atomic"},
    "limits": {"type": "object", "additionalProperties": TEXT},
    "rooms": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": TEXT, "b": TEXT}}},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": SPEC},
        "status": {"type": "object", "properties": {"phase": TEXT, "slots": {"type": "integer"}}},
    },
}
WHOLE = complete(SCHEMA)


def robot(spec: Any = None, **more: Any) -> Object:
    obj: Object = {"apiVersion": V1, "kind": "Robot", "metadata": {"name": "a1"} | more.pop("metadata", {})}
    return obj | ({} if spec is None else {"spec": spec}) | more


class Server:
    """What a server does with the results: keeps the object, with its entries in it. Sees to it that nobody's input
    is changed."""

    def __init__(self) -> None:
        self.obj: Object | None = None
        self.clock = 0

    def update(self, new: Object, manager: str, subresource: str = "") -> Object:
        before = copy.deepcopy((SCHEMA, self.obj, new))
        entries = ownership.updated(SCHEMA, self.obj, new, manager, self._now(), V1, subresource)
        assert (SCHEMA, self.obj, new) == before
        return self._keep(new, entries)

    def change(self, manager: str, **spec: Any) -> Object:
        """An update of the stored object, as a PATCH makes one."""
        assert self.obj is not None
        return self.update({**self.obj, "spec": {**self.obj.get("spec", {}), **spec}}, manager)

    def apply(self, config: Object, manager: str, force: bool = False, subresource: str = "") -> Object:
        before = copy.deepcopy((SCHEMA, self.obj, config))
        try:
            obj, entries = ownership.applied(SCHEMA, self.obj, config, manager, self._now(), V1, force, subresource)
        finally:
            assert (SCHEMA, self.obj, config) == before
        return self._keep(obj, entries)

    def owned(self, manager: str, operation: str = "Apply") -> Fields:
        return next((e["fieldsV1"] for e in self.entries if (e["manager"], e["operation"]) == (manager, operation)), {})

    @property
    def entries(self) -> list[Entry]:
        assert self.obj is not None
        entries: list[Entry] = self.obj["metadata"].get("managedFields", [])
        return entries

    @property
    def spec(self) -> Any:
        assert self.obj is not None
        return self.obj.get("spec")

    def _keep(self, obj: Object, entries: list[Entry] | None) -> Object:
        assert entries is None or entries == managers.ordered(entries)
        assert all(e["fieldsV1"] and fieldsets.checked(e["fieldsV1"]) == e["fieldsV1"] for e in entries or [])
        metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
        self.obj = {**obj, "metadata": metadata | ({"managedFields": entries} if entries else {})}
        return self.obj

    def _now(self) -> str:
        self.clock += 1
        return f"2026-01-01T{self.clock // 3600:02}:{self.clock // 60 % 60:02}:{self.clock % 60:02}Z"


@pytest.fixture
def server() -> Server:
    return Server()


# -- ordinary writes -----------------------------------------------------------------------------------------------


def test_whoever_creates_owns_all_but_what_the_server_keeps(server: Server) -> None:
    labels, annotations = {"site": "hamburg"}, {"a/b": "c"}
    metadata = {"namespace": "n", "uid": "u", "generation": 1, "creationTimestamp": "t", "resourceVersion": "7"}
    obj = robot({"mode": "x", "tags": ["b"]}, status={"phase": "p"})
    obj["metadata"] |= metadata | {"labels": labels, "annotations": annotations, "finalizers": ["f"]}
    server.update(obj, "kubectl")
    [entry] = server.entries
    assert entry == {
        "manager": "kubectl",
        "operation": "Update",
        "apiVersion": V1,
        "time": "2026-01-01T00:00:01Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {
                "f:labels": {".": {}, "f:site": {}},
                "f:annotations": {".": {}, "f:a/b": {}},
                "f:finalizers": {".": {}, 'v:"f"': {}},
            },
            "f:spec": {".": {}, "f:mode": {}, "f:tags": {".": {}, 'v:"b"': {}}},
        },
    }


def test_the_shapes_of_containers_decide_how_fine_ownership_is(server: Server) -> None:
    spec = {
        "args": ["x"],
        "selector": {"a": "b"},
        "limits": {"a": "b"},
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"port": 80}],
        "free": {"a": {"b": [1]}, "c": {}},
        "rooms": {},
    }
    server.update(robot(spec), "m")
    assert server.owned("m", "Update")["f:spec"] == {
        ".": {},
        "f:args": {},
        "f:selector": {},
        "f:limits": {".": {}, "f:a": {}},
        "f:env": {".": {}, 'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
        "f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}},
        "f:free": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:c": {}},
        "f:rooms": {},
    }


def test_references_to_owners_are_told_by_uid_and_are_one_thing_each(server: Server) -> None:
    server.update(robot(metadata={"ownerReferences": [{"uid": "u1", "kind": "Job", "name": "j"}]}), "m")
    assert server.owned("m", "Update") == {"f:metadata": {"f:ownerReferences": {".": {}, 'k:{"uid":"u1"}': {}}}}


def test_an_update_takes_what_it_changes_without_asking(server: Server) -> None:
    server.update(robot({"mode": "x", "slots": 1}), "a")
    server.change("b", slots=2, args=["z"])
    assert server.owned("a", "Update") == {"f:spec": {".": {}, "f:mode": {}}}
    assert server.owned("b", "Update") == {"f:spec": {"f:slots": {}, "f:args": {}}}


def test_what_is_removed_is_nobodys_and_an_entry_without_fields_goes(server: Server) -> None:
    server.update(robot({"mode": "x"}), "a")
    server.change("b", drain={"then": "Wait"})
    server.update(robot({"mode": "x"}), "c")
    assert [each["manager"] for each in server.entries] == ["a"]


def test_items_have_owners_of_their_own(server: Server) -> None:
    server.update(robot({"env": [{"name": "A", "value": "1"}], "tags": ["x"]}), "a")
    server.change("b", env=[{"name": "B"}, {"name": "A", "value": "2"}], tags=["y", "x"])
    assert server.owned("b", "Update") == {
        "f:spec": {
            "f:env": {'k:{"name":"A"}': {"f:value": {}}, 'k:{"name":"B"}': {".": {}, "f:name": {}}},
            "f:tags": {'v:"y"': {}},
        }
    }
    server.change("b", env=[{"name": "B"}], tags=["y"])
    assert server.owned("a", "Update")["f:spec"] == {".": {}, "f:env": {}, "f:tags": {}}


def test_another_order_of_items_is_no_change(server: Server) -> None:
    server.update(robot({"env": [{"name": "A"}, {"name": "B"}], "tags": ["x", "y"]}), "a")
    before = server.entries
    server.change("b", env=[{"name": "B"}, {"name": "A"}], tags=["y", "x"])
    assert server.entries is before


def test_an_entry_of_another_kind_of_write_is_another_entry(server: Server) -> None:
    server.apply(robot({"mode": "x"}), "m")
    server.change("m", slots=1)
    assert [(each["operation"], each["fieldsV1"]) for each in server.entries] == [
        ("Apply", {"f:spec": {"f:mode": {}}}),
        ("Update", {"f:spec": {"f:slots": {}}}),
    ]


def test_the_status_belongs_to_its_own_endpoint(server: Server) -> None:
    server.update(robot({"mode": "x"}), "kubectl")
    assert server.obj is not None
    server.update({**server.obj, "spec": {"mode": "y"}, "status": {"phase": "Idle"}}, "agent", "status")
    assert server.entries[1]["subresource"] == "status"
    assert server.owned("agent", "Update") == {"f:status": {".": {}, "f:phase": {}}}
    server.update({**server.obj, "status": {"phase": "Busy"}}, "kubectl")
    assert server.owned("agent", "Update") == {"f:status": {".": {}, "f:phase": {}}}


def test_a_value_that_its_owner_changes_leaves_the_entries_as_they_are(server: Server) -> None:
    server.update(robot({"mode": "x"}), "a")
    before = server.entries
    server.change("a", mode="y")
    assert server.entries is before


def test_time_moves_only_for_whoever_gained(server: Server) -> None:
    server.update(robot({"mode": "x", "slots": 1}), "a")
    server.change("b", mode="y")
    assert [(each["manager"], each["time"][-3:]) for each in server.entries] == [("a", "01Z"), ("b", "02Z")]
    server.change("a", args=["x"])
    assert [(each["manager"], each["time"][-3:]) for each in server.entries] == [("b", "02Z"), ("a", "03Z")]


def test_no_more_than_ten_updaters_are_told_apart(server: Server) -> None:
    server.update(robot({"free": {}}), "m0")
    for number in range(1, 13):
        server.change(f"m{number}", free={**server.spec["free"], f"x{number}": 1})
    names = [each["manager"] for each in server.entries]
    assert names == ["ancient-changes", *(f"m{number}" for number in range(4, 13))]
    assert server.entries[0]["time"].endswith("04Z")  # that of the youngest in it
    assert server.entries[0]["fieldsV1"]["f:spec"]["f:free"] == {".": {}, "f:x1": {}, "f:x2": {}, "f:x3": {}}


@pytest.mark.parametrize("nothing", [[], [{}]])
def test_nothing_as_entries_forgets_the_owners(server: Server, nothing: Any) -> None:
    server.update(robot({"mode": "x"}), "a")
    assert server.obj is not None
    new = {**server.obj, "metadata": {**server.obj["metadata"], "managedFields": nothing}}
    assert ownership.updated(SCHEMA, server.obj, new, "b", "t", V1) == []


def test_without_entries_nothing_is_tracked_until_the_first_apply(server: Server) -> None:
    old, new = robot({"mode": "x"}), robot({"mode": "y"})
    assert ownership.updated(SCHEMA, old, new, "b", "t", V1) is None
    server.obj = new
    with pytest.raises(ApplyConflict):
        server.apply(robot({"mode": "z"}), "gitops")
    server.apply(robot({"slots": 1}), "gitops")
    assert server.owned("before-first-apply", "Update") == {"f:spec": {".": {}, "f:mode": {}}}


def test_entries_that_a_write_brings_count_if_they_are_well_formed(server: Server) -> None:
    server.update(robot({"mode": "x", "slots": 1}), "a")
    assert server.obj is not None
    stored, [entry] = server.obj, server.entries
    mine = {**entry, "manager": "mine", "fieldsV1": {"f:spec": {"f:mode": {".": {}}}}}

    def bring(entries: Any, subresource: str = "") -> Any:
        new = {**stored, "metadata": {**stored["metadata"], "managedFields": entries}}
        return ownership.updated(SCHEMA, stored, new, "b", "t", V1, subresource)

    assert bring([mine]) == [{**mine, "fieldsV1": {"f:spec": {"f:mode": {}}}}]
    for bad in (
        {**mine, "operation": "Delete"},
        {**mine, "apiVersion": ""},
        {**mine, "fieldsType": "V2"},
        {**mine, "time": "yesterday"},
        {**mine, "fieldsV1": {"mode": {}}},
        {**mine, "manager": 1},
        "x",
    ):
        assert bring([bad]) is server.entries
    assert bring([mine], "status") is server.entries
    without = {**stored, "metadata": {"name": "a1"}}
    assert ownership.updated(SCHEMA, stored, without, "b", "t", V1) is server.entries


def test_a_list_whose_items_cant_be_told_apart_changes_no_owner(server: Server) -> None:
    server.update(robot({"mode": "x"}), "a")
    before = server.entries
    server.change("b", env=[{"value": "no name"}])
    assert server.entries is before


# -- apply ---------------------------------------------------------------------------------------------------------


def test_a_create_by_apply_owns_what_was_written_and_no_more(server: Server) -> None:
    spec = {
        "mode": "x",
        "slots": None,
        "drain": {},
        "args": [],
        "env": [{"name": "A", "value": "1"}],
        "tags": ["t"],
        "limits": {"a": "b"},
        "rooms": {"r": {"a": "1"}},
        "selector": {"a": "b"},
        "free": {"x": {"y": 1}},
    }
    obj = server.apply(robot(spec, metadata={"labels": {"l": "v"}, "creationTimestamp": None}), "gitops")
    assert server.owned("gitops") == {
        "f:metadata": {"f:labels": {"f:l": {}}},
        "f:spec": {
            "f:mode": {},
            "f:drain": {},
            "f:args": {},
            "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
            "f:tags": {'v:"t"': {}},
            "f:limits": {"f:a": {}},
            "f:rooms": {"f:r": {".": {}, "f:a": {}}},
            "f:selector": {},
            "f:free": {"f:x": {".": {}, "f:y": {}}},
        },
    }
    assert obj["spec"] == {key: value for key, value in spec.items() if key != "slots"}
    assert list(obj["metadata"]) == ["name", "labels", "managedFields"]


def test_what_the_applier_leaves_out_goes(server: Server) -> None:
    server.apply(robot({"mode": "x", "drain": {"then": "Wait"}, "tags": ["a", "b"]}), "gitops")
    server.apply(robot({"mode": "x", "tags": ["b"]}), "gitops")
    assert server.spec == {"mode": "x", "tags": ["b"]}


def test_a_struct_goes_with_the_defaults_in_it(server: Server) -> None:
    server.apply(robot({"mode": "x", "drain": {"deadline": "1h"}}), "gitops")
    server.obj = {**(server.obj or {}), "spec": {"mode": "x", "drain": {"deadline": "1h", "then": "Wait"}}}  # defaulted
    server.apply(robot({"mode": "x"}), "gitops")
    assert server.spec == {"mode": "x"}


def test_what_nobody_owns_in_metadata_and_status_is_the_servers_and_stays(server: Server) -> None:
    """Duties and reports write there and own nothing: a schedule would never fire again without its next time."""
    server.apply(robot({"mode": "x"}, metadata={"labels": {"a": "1"}, "finalizers": ["x/mine"]}), "me")
    ours = {"finalizers": ["x/mine", "x/ours"], "labels": {"a": "1", "b": "2"}, "annotations": {"by": "us"}}
    assert server.obj is not None
    server.obj = {**server.obj, "metadata": {**server.obj["metadata"], **ours}, "status": {"phase": "Idle"}}
    left = server.apply(robot({}), "me")
    assert left["metadata"]["finalizers"] == ["x/ours"] and left["metadata"]["labels"] == {"b": "2"}
    assert left["metadata"]["annotations"] == {"by": "us"} and left["status"] == {"phase": "Idle"}


def test_what_another_owns_stays(server: Server) -> None:
    server.apply(robot({"mode": "x", "slots": 1}), "one")
    server.apply(robot({"mode": "x"}), "two")  # the same value: shared
    server.change("three", drain={"then": "Wait"})
    server.apply(robot({"slots": 1}), "one")
    assert server.spec == {"mode": "x", "slots": 1, "drain": {"then": "Wait"}}
    assert server.owned("two") == {"f:spec": {"f:mode": {}}}


def test_another_value_for_what_others_own_is_a_conflict(server: Server) -> None:
    server.apply(robot({"slots": 1}), "kubectl")
    before = server.obj
    with pytest.raises(ApplyConflict) as caught:
        server.apply(robot({"slots": 2}), "gitops")
    assert caught.value.conflicts == (("kubectl", "Apply", V1, "", ".spec.slots"),)
    assert server.obj is before


def test_force_takes_over(server: Server) -> None:
    server.apply(robot({"slots": 1, "mode": "x"}), "kubectl")
    server.apply(robot({"slots": 2}), "gitops", force=True)
    assert server.spec == {"slots": 2, "mode": "x"}
    assert server.owned("kubectl") == {"f:spec": {"f:mode": {}}}
    assert server.owned("gitops") == {"f:spec": {"f:slots": {}}}


def test_an_updated_field_is_the_updaters_until_it_is_forced_back(server: Server) -> None:
    server.apply(robot({"slots": 1}), "gitops")
    server.change("kubectl-edit", slots=5)
    with pytest.raises(ApplyConflict, match="kubectl-edit"):
        server.apply(robot({"slots": 1}), "gitops")
    server.apply(robot({"slots": 1}), "gitops", force=True)
    assert [each["manager"] for each in server.entries] == ["gitops"]


def test_appliers_of_different_items_leave_each_other_alone(server: Server) -> None:
    server.apply(robot({"env": [{"name": "A", "value": "1"}], "tags": ["a"]}), "one")
    server.apply(robot({"env": [{"name": "B", "value": "2"}], "tags": ["b"]}), "two")
    assert {each["name"] for each in server.spec["env"]} == {"A", "B"}
    server.apply(robot({"mode": "x"}), "one")
    assert server.spec == {"env": [{"name": "B", "value": "2"}], "tags": ["b"], "mode": "x"}


def test_an_item_in_which_another_owns_a_field_stays_with_its_key(server: Server) -> None:
    server.apply(robot({"env": [{"name": "A", "value": "1"}]}), "one")
    server.change("two", env=[{"name": "A", "value": "1", "from": "f"}])
    server.apply(robot({"mode": "x"}), "one")
    assert server.spec["env"] == [{"name": "A", "from": "f"}]


def test_what_counts_as_one_is_owned_and_replaced_as_one(server: Server) -> None:
    server.apply(robot({"args": ["a"], "selector": {"a": "1"}}), "one")
    with pytest.raises(ApplyConflict) as caught:
        server.apply(robot({"args": ["a", "b"], "selector": {"b": "2"}}), "two")
    assert [each.field for each in caught.value.conflicts] == [".spec.args", ".spec.selector"]
    server.apply(robot({"args": ["b"], "selector": {"b": "2"}}), "one")
    assert server.spec == {"args": ["b"], "selector": {"b": "2"}}


def test_a_key_that_is_left_to_its_default_is_that_key(server: Server) -> None:
    server.update(robot({"ports": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]}), "a")
    server.apply(robot({"ports": [{"port": 80, "name": "web"}]}), "gitops")
    assert server.spec["ports"] == [{"port": 80, "protocol": "TCP", "name": "web"}, {"port": 80, "protocol": "UDP"}]


@pytest.mark.parametrize(
    ("live", "config", "result"),
    [
        ("ab", "ba", "ba"),
        ("aXb", "ba", "Xba"),
        ("Xa", "na", "Xna"),
        ("aX", "an", "aXn"),
        ("XaYbZ", "ab", "XaYbZ"),
        ("XaYbZ", "bca", "XYbZca"),
        ("", "ba", "ba"),
        ("XY", "a", "XYa"),
    ],
)
def test_items_come_in_the_order_of_the_configuration_and_others_keep_their_place(
    live: str, config: str, result: str
) -> None:
    tags = merging.merged(SPEC["tags"], list(live), list(config))
    assert "".join(tags) == result
    assert merging.merged(SPEC["tags"], tags, list(config)) == tags


def test_keys_keep_the_order_they_had(server: Server) -> None:
    server.update(robot({"slots": 1, "limits": {"b": "1"}}), "a")
    obj = server.apply(robot({"mode": "x", "limits": {"a": "1", "b": "1"}}, metadata={"labels": {"l": "v"}}), "gitops")
    assert list(obj) == ["apiVersion", "kind", "metadata", "spec"]
    assert json.dumps(obj["spec"]) == json.dumps({"slots": 1, "limits": {"b": "1", "a": "1"}, "mode": "x"})


def test_the_servers_metadata_stays_whatever_the_configuration_says(server: Server) -> None:
    server.update(robot({"mode": "x"}, metadata={"uid": "u", "resourceVersion": "7", "namespace": "n"}), "a")
    obj = server.apply(robot(metadata={"resourceVersion": "1", "namespace": "n", "uid": "u"}), "gitops")
    assert obj["metadata"] | {"managedFields": []} == {
        "name": "a1",
        "uid": "u",
        "resourceVersion": "7",
        "namespace": "n",
        "managedFields": [],
    }
    assert [each["manager"] for each in server.entries] == ["a"]  # who applies nothing owns nothing


def test_apply_to_the_main_endpoint_leaves_the_status_alone_and_the_other_way_round(server: Server) -> None:
    server.update(robot({"mode": "x"}), "a")
    server.apply(robot({"mode": "y"}, status={"phase": "Idle"}), "agent", subresource="status")
    assert server.obj is not None
    assert (server.spec, server.obj["status"]) == ({"mode": "x"}, {"phase": "Idle"})
    server.apply(robot({"mode": "x"}, status={"phase": "Busy"}), "agent")
    assert server.obj["status"] == {"phase": "Idle"}
    assert [(each["manager"], each.get("subresource")) for each in server.entries] == [
        ("agent", "status"),
        ("agent", None),
        ("a", None),
    ]
    server.apply(robot(), "agent", subresource="status")
    assert "status" not in server.obj


def test_the_same_configuration_twice_changes_nothing(server: Server) -> None:
    config = robot({"mode": "x", "env": [{"name": "A"}]}, metadata={"labels": {"l": "v"}})
    once = server.apply(config, "gitops")
    assert server.apply(config, "gitops") == once
    server.apply(robot({"mode": "y", "env": [{"name": "A"}]}, metadata={"labels": {"l": "v"}}), "gitops")
    assert server.entries[0]["time"].endswith("03Z")  # who applies another value did something


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"zzz": 1}, ".spec.zzz: field not declared in schema"),
        ({"drain": {"zzz": 1}}, ".spec.drain.zzz: field not declared in schema"),
        ({"env": [{"name": "A", "zzz": 1}]}, '.spec.env[name="A"].zzz: field not declared in schema'),
        ({"drain": []}, ".spec.drain: expected map, got []"),
        ({"tags": {"a": 1}}, '.spec.tags: expected list, got {"a": 1}'),
        ({"mode": ["a"]}, '.spec.mode: expected scalar, got ["a"]'),
        ({"args": [["a"]]}, '.spec.args[0]: expected scalar, got ["a"]'),
        ({"tags": ["a", "a"]}, '.spec.tags: duplicate entries for key [="a"]'),
        ({"env": [{"name": "A"}, {"name": "A"}]}, '.spec.env: duplicate entries for key [name="A"]'),
        ({"env": [{"value": "A"}]}, '.spec.env: element 0: an item lacks its key "name", which has no default'),
        ({"env": ["A"]}, '.spec.env: element 0: a keyed list has objects as items, not "A"'),
        ({"tags": [["a"]]}, '.spec.tags: element 0: a set has plain values as items, not ["a"]'),
        ([], ".spec: expected map, got []"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(server: Server, spec: Any, said: str) -> None:
    with pytest.raises(Untyped) as caught:
        server.apply(robot(spec), "gitops")
    assert str(caught.value) == said


def test_a_configuration_nested_too_deep_is_refused(server: Server) -> None:
    inner: Any = {}
    for _ in range(1000):
        inner = {"a": [inner]}
    with pytest.raises(ApiError, match="deeper"):
        ownership.applied(SCHEMA, None, robot({"free": inner}), "gitops", "t", V1, False)


def test_metadata_is_that_of_kubernetes(server: Server) -> None:
    with pytest.raises(Untyped, match=r"\.metadata: expected map"):
        server.apply({**robot(), "metadata": []}, "gitops")
    with pytest.raises(Untyped, match=r"\.metadata\.lables: field not declared in schema"):
        server.apply(robot(metadata={"lables": {}}), "gitops")


def test_where_nothing_is_declared_anything_goes() -> None:
    for schema in ({}, {"type": "object"}):
        obj, [entry] = ownership.applied(schema, None, robot({"a": {"b": [1]}}), "m", "t", V1, False)
        assert obj["spec"] == {"a": {"b": [1]}}
        assert entry["fieldsV1"] == {"f:spec": {".": {}, "f:a": {".": {}, "f:b": {}}}}


# -- what is said --------------------------------------------------------------------------------------------------


def refusal(server: Server, config: Object, manager: str = "gitops", subresource: str = "") -> ownership.ApplyConflict:
    with pytest.raises(ApplyConflict) as caught:
        server.apply(config, manager, subresource=subresource)
    return caught.value


def test_one_conflict_in_the_words_of_a_kubernetes_server(server: Server) -> None:
    server.apply(robot({"slots": 1}), "kubectl")
    error = ownership.conflict_error(refusal(server, robot({"slots": 2})))
    assert error.body() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Apply failed with 1 conflict: conflict with "kubectl": .spec.slots',
        "reason": "Conflict",
        "details": {
            "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".spec.slots"}]
        },
        "code": 409,
    }


def test_several_conflicts_in_the_words_of_a_kubernetes_server(server: Server) -> None:
    server.apply(robot({"slots": 1, "env": [{"name": "A", "value": "1"}]}), "b")
    server.change("a", mode="x")
    config = robot({"slots": 2, "mode": "y", "env": [{"name": "A", "value": "2"}]})
    assert ownership.conflict_error(refusal(server, config)).message == (
        'Apply failed with 3 conflicts: conflicts with "a" using fleet.casare.net/v1:\n'
        "- .spec.mode\n"
        'conflicts with "b":\n'
        "- .spec.slots\n"
        '- .spec.env[name="A"].value'
    )


def test_a_conflict_over_the_status_names_the_subresource(server: Server) -> None:
    server.update(robot({"mode": "x"}), "a")
    assert server.obj is not None
    server.update({**server.obj, "status": {"phase": "Idle"}}, "agent", "status")
    conflict = refusal(server, robot(status={"phase": "Busy"}), subresource="status")
    [cause] = ownership.conflict_error(conflict).causes
    assert cause.message == 'conflict with "agent" with subresource "status" using fleet.casare.net/v1'


# -- from client-side to server-side apply -------------------------------------------------------------------------


def annotated(config: Object) -> Object:
    """What `kubectl apply` creates."""
    told = orjson.dumps(config).decode() + "\n"
    return {**config, "metadata": {**config["metadata"], "annotations": {ANNOTATION: told}}}


def test_the_migration_that_kubectl_makes(server: Server) -> None:
    """As recorded: the SSA patch, the annotation to a manager of its own, the entries rewritten, the SSA patch again."""
    config = robot({"mode": "x", "slots": 1})
    server.update(annotated(config), "kubectl-client-side-apply")
    server.apply(config, "kubectl")

    note = {ANNOTATION: server.obj["metadata"]["annotations"][ANNOTATION]} if server.obj else {}
    server.apply(robot(metadata={"annotations": note}), "kubectl-last-applied")
    assert server.obj is not None

    by_name = {each["manager"]: each for each in server.entries}
    client_side = by_name.pop("kubectl-client-side-apply")
    both = fieldsets.union(by_name["kubectl"]["fieldsV1"], client_side["fieldsV1"])
    rewritten = [{**by_name["kubectl"], "fieldsV1": both}, by_name["kubectl-last-applied"]]
    server.update({**server.obj, "metadata": {**server.obj["metadata"], "managedFields": rewritten}}, "kubectl-patch")
    assert [each["manager"] for each in server.entries] == ["kubectl", "kubectl-last-applied"]

    server.apply(config, "kubectl")
    assert server.owned("kubectl") == {"f:spec": {"f:mode": {}, "f:slots": {}}}
    assert server.obj["metadata"]["annotations"] == note
    server.apply(robot({"mode": "y"}), "kubectl")
    assert server.spec == {"mode": "y"}


def test_what_somebody_applied_from_his_side_is_no_conflict_when_he_applies_from_the_servers(server: Server) -> None:
    server.update(annotated(robot({"mode": "x", "slots": 1})), "kubectl-client-side-apply")
    with pytest.raises(ApplyConflict):
        server.apply(robot({"mode": "y"}), "gitops")
    obj = server.apply(robot({"mode": "y", "slots": 1}), "kubectl")
    assert server.spec == {"mode": "y", "slots": 1}
    assert orjson.loads(obj["metadata"]["annotations"][ANNOTATION]) == robot({"mode": "y", "slots": 1})


def test_what_others_changed_since_is_a_conflict_even_so(server: Server) -> None:
    server.update(annotated(robot({"mode": "x", "slots": 1})), "kubectl-client-side-apply")
    server.change("scaler", slots=5)
    conflict = refusal(server, robot({"mode": "y", "slots": 1}), "kubectl")
    assert [each.field for each in conflict.conflicts] == [".spec.slots"]


@pytest.mark.parametrize(
    "note", ["{", "[]", "{}", '{"a":' * 500 + "1" + "}" * 500, '{"apiVersion":"other/v1"}', '{"metadata":1}', ""]
)
def test_an_annotation_that_says_nothing_allows_nothing(server: Server, note: str) -> None:
    server.update(robot({"mode": "x"}, metadata={"annotations": {ANNOTATION: note}}), "a")
    with pytest.raises(ApplyConflict):
        server.apply(robot({"mode": "y"}), "kubectl")


# -- what holds for any history ------------------------------------------------------------------------------------

WORDS = st.sampled_from(["a", "b", "c"])
FREE = st.recursive(
    WORDS | st.integers(0, 2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


ENV = st.lists(
    st.fixed_dictionaries({"name": WORDS}, optional={"value": WORDS, "from": WORDS}),
    max_size=3,
    unique_by=lambda item: item["name"],
)
SPECS = some(
    mode=WORDS,
    slots=st.integers(0, 2),
    drain=some(deadline=WORDS, then=WORDS),
    args=st.lists(WORDS, max_size=2),
    tags=st.lists(WORDS, max_size=3, unique=True),
    env=ENV,
    selector=st.dictionaries(WORDS, WORDS, max_size=2),
    limits=st.dictionaries(WORDS, WORDS, max_size=2),
    rooms=st.dictionaries(WORDS, some(a=WORDS, b=WORDS), max_size=2),
    free=st.dictionaries(WORDS, FREE, max_size=2),
)
METADATA = some(labels=st.dictionaries(WORDS, WORDS, max_size=2), finalizers=st.lists(WORDS, max_size=2, unique=True))
CONFIGS = st.builds(lambda spec, metadata: robot(spec, metadata=metadata), SPECS, METADATA)
MANAGERS = st.sampled_from(["m1", "m2", "m3"])
HISTORIES = st.lists(st.tuples(st.booleans(), MANAGERS, CONFIGS), max_size=5)


def after(history: list[tuple[bool, str, Object]]) -> Server:
    server = Server()
    for by_apply, manager, obj in history:
        if by_apply:
            server.apply(obj, manager, force=True)
        else:
            server.update(obj, manager)
    return server


def part(obj: Object | None) -> Object:
    return ownable(obj, "") if obj else {"metadata": {}}


def members(obj: Object | None) -> set[Path]:
    """All paths of an object that can belong to somebody."""
    found = structure.compare(WHOLE, {"metadata": {}}, part(obj)).touched
    return set(fieldsets.paths(found))


def value_at(obj: Object, path: Path) -> Any:
    schema: Any = WHOLE
    value: Any = part(obj)
    for step in path:
        if step.startswith("f:"):
            schema, value = structure.below(schema, step[2:]), value[step[2:]]
        else:
            schema, value = structure.items_of(schema), structure.by_step(schema, value)[step]
    parts = structure.has_fields(schema, value) or structure.has_items(schema, value)
    return type(value) if parts else value


def owners(entries: list[Entry]) -> dict[managers.Identity, set[Path]]:
    return {managers.identity(each): set(fieldsets.paths(each["fieldsV1"])) for each in entries}


@given(CONFIGS, CONFIGS)
def test_a_comparison_finds_what_was_added_altered_and_removed(old: Object, new: Object) -> None:
    was, now = members(old), members(new)
    altered = {path for path in was & now if value_at(old, path) != value_at(new, path)}
    changes = structure.compare(WHOLE, part(old), part(new))
    assert set(fieldsets.paths(changes.touched)) == (now - was) | altered
    everything = structure.compare(WHOLE, {"metadata": {}}, part(old)).touched
    assert was - set(fieldsets.paths(fieldsets.without(everything, changes.gone))) == was - now


@given(HISTORIES, MANAGERS, CONFIGS)
def test_an_update_owns_what_it_changed_and_nobody_else_does(history: Any, manager: str, new: Object) -> None:
    server = after(history)
    old, before = server.obj, owners(server.entries) if server.obj else {}
    server.update(new, manager)
    if old is not None and not before:
        assert not server.entries
        return
    changed = {
        path for path in members(new) if path not in members(old) or value_at(old or {}, path) != value_at(new, path)
    }
    now, me = owners(server.entries), (manager, "Update", V1, "")
    removed = members(old) - members(new)
    for identity in {*before, *now, me}:
        expected = before.get(identity, set()) - changed - removed
        assert now.get(identity, set()) == (expected | changed if identity == me else expected)


@given(HISTORIES, CONFIGS, MANAGERS, st.booleans())
def test_applied_twice_is_applied_once(history: Any, config: Object, manager: str, force: bool) -> None:
    server = after(history)
    try:
        once = server.apply(config, manager, force)
    except ApplyConflict:
        return
    twice = server.apply(config, manager, False)
    assert orjson.dumps(twice) == orjson.dumps(once)


@given(HISTORIES, CONFIGS, MANAGERS)
def test_apply_wants_what_is_written_and_owns_just_that(history: Any, config: Object, manager: str) -> None:
    server = after(history)
    obj = server.apply(config, manager, force=True)
    wanted = {path for path in members(config) if value_at(config, path) is not dict}
    assert all(path in members(obj) and value_at(obj, path) == value_at(config, path) for path in wanted)
    assert set(fieldsets.paths(server.owned(manager))) <= members(config)
    plain = {path for path in wanted if value_at(config, path) is not list}
    assert plain <= set(fieldsets.paths(server.owned(manager)))


@given(HISTORIES, CONFIGS, CONFIGS, MANAGERS)
def test_what_is_left_out_goes_unless_somebody_owns_it(
    history: Any, first: Object, second: Object, manager: str
) -> None:
    server = after(history)
    server.apply(first, manager, force=True)
    last = set(fieldsets.paths(server.owned(manager)))
    obj = server.apply(second, manager, force=True)
    owned = set().union(*owners(server.entries).values())
    for path in last:
        cared_for = any(other[: len(path)] == path for other in owned)
        is_key = path[-1] == "f:name" and path[-2].startswith("k:")
        assert path not in members(obj) or cared_for or is_key


@settings(max_examples=200)
@given(HISTORIES, CONFIGS, MANAGERS)
def test_apply_without_force_takes_nothing_from_anybody(history: Any, config: Object, manager: str) -> None:
    server = after(history)
    old = server.obj
    before = owners(server.entries) if old else {}
    try:
        new = server.apply(config, manager)
    except ApplyConflict as conflict:
        assert before or {each.manager for each in conflict.conflicts} == {ownership.BEFORE_APPLY}
        assert all(each.manager != manager or each.operation == "Update" for each in conflict.conflicts)
        assert server.obj is old
        return
    now = owners(server.entries)
    for identity, paths in before.items():
        if identity != (manager, "Apply", "", ""):
            assert now[identity] == paths
            assert all(value_at(new, path) == value_at(old or {}, path) for path in paths & members(old))


@given(CONFIGS, CONFIGS)
def test_the_order_of_appliers_does_not_matter_if_they_agree(one: Object, other: Object) -> None:
    def both(*configs: tuple[Object, str]) -> Server | None:
        server = Server()
        try:
            for config, manager in configs:
                server.apply(config, manager)
        except ApplyConflict:
            return None
        return server

    forth, back = both((one, "m1"), (other, "m2")), both((other, "m2"), (one, "m1"))
    assert (forth is None) == (back is None)
    if forth is not None and back is not None:
        assert owners(forth.entries) == owners(back.entries)
        assert members(forth.obj) == members(back.obj)
        assert all(value_at(forth.obj or {}, path) == value_at(back.obj or {}, path) for path in members(forth.obj))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["Apply", "FieldsV1", "f:spec", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([".", "f:a", "k:{}", "v:"]), inner),
    max_leaves=6,
)
ENTRY_KEYS = ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"]


@given(HISTORIES, JSON | st.lists(st.dictionaries(st.sampled_from(ENTRY_KEYS), JSON)), st.data())
def test_whatever_is_sent_as_entries_breaks_nothing(history: Any, sent: Any, data: Any) -> None:
    server = after(history)
    entries = copy.deepcopy(server.entries) if server.obj else []
    for entry in entries:
        entry[data.draw(st.sampled_from(ENTRY_KEYS))] = data.draw(JSON)
    for given_entries in (sent, entries):
        server.update(robot({"mode": "x"}, metadata={"managedFields": given_entries}), "m")


@given(HISTORIES, CONFIGS, MANAGERS)
def test_a_refusal_names_each_field_and_its_owner(history: Any, config: Object, manager: str) -> None:
    server = after(history)
    try:
        server.apply(config, manager)
    except ApplyConflict as conflict:
        owned = {
            (*who(each), fieldsets.text(path)) for each in server.entries for path in fieldsets.paths(each["fieldsV1"])
        }
        assert owned >= {tuple(each) for each in conflict.conflicts} or not owned
        assert len(set(conflict.conflicts)) == len(conflict.conflicts)
        error = ownership.conflict_error(conflict)
        assert [cause.field for cause in error.causes] == [each.field for each in conflict.conflicts]
        assert all(each.field in error.message for each in conflict.conflicts)


def who(entry: Entry) -> tuple[str, ...]:
    return entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", "")
