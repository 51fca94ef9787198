"""The official Python client, out of the kubeconfig that everybody has: it drives a fleet as it drives a cluster."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError, ResourceNotFoundError, UnprocessibleEntityError

from ..conftest import Server, until
from .conftest import kubeconfig, robot

GROUP, VERSION = "fleet.casare.net", "v1"
FIELDS = ("spec", "maxConcurrentJobs")


@pytest.fixture(scope="module")
def connection(wire: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An ApiClient as the kubeconfig makes it: over TLS that our own authority signed, with a token."""
    with connected(wire, wire.admin_key, tmp_path_factory.mktemp("python")) as found:
        yield found


def connected(server: Server, key: str, place: Path) -> Any:
    (place / "kubeconfig").write_text(kubeconfig(server, key, "default"))
    return config.new_client_from_config(str(place / "kubeconfig"))  # type: ignore[no-untyped-call]


@pytest.fixture
def core(connection: Any) -> Any:
    return client.CoreV1Api(connection)


@pytest.fixture
def custom(connection: Any, namespace: str) -> Any:
    return Robots(client.CustomObjectsApi(connection), namespace)


@pytest.fixture(scope="module")
def dynamic(connection: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = str(tmp_path_factory.mktemp("discovery") / "cache.json")
    return DynamicClient(connection, cache_file=cache)  # type: ignore[no-untyped-call]


@pytest.fixture
def robots(dynamic: Any) -> Any:
    return dynamic.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Robot")


class Robots:
    """The calls of CustomObjectsApi with the robots of one namespace filled in."""

    def __init__(self, api: Any, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: getattr(self.api, name)(GROUP, VERSION, self.namespace, "robots", *args, **more)

    def create(self, *names: str, **spec: Any) -> Any:
        """New robots; the last of them."""
        return [self.create_namespaced_custom_object(robot(name, **spec)) for name in names][-1]

    def names(self, **more: Any) -> list[str]:
        return names(self.list_namespaced_custom_object(**more))


def names(found: Any) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


def at(obj: Any, *path: str) -> Any:
    for key in path:
        obj = obj[key]
    return obj


# -- the typed APIs ----------------------------------------------------------------------------------------------


def test_the_kubeconfig_is_all_it_needs(connection: Any) -> None:
    version = client.VersionApi(connection).get_code()
    assert (version.major, version.git_version.startswith("v1.")) == ("1", True)
    assert connection.configuration.host.startswith("https://") and connection.configuration.verify_ssl


def test_a_wrong_token_is_unauthorized(wire: Server, tmp_path: Path) -> None:
    with (
        connected(wire, "crpa_nobody-has-this-key", tmp_path) as stranger,
        pytest.raises(ApiException, match="Unauthorized") as refused,
    ):
        client.CoreV1Api(stranger).list_namespace()
    assert refused.value.status == 401


def test_it_finds_our_group_by_discovery(connection: Any) -> None:
    listed: Any = client.ApisApi(connection).get_api_versions()
    groups = {group.name: group.preferred_version.version for group in listed.groups}
    resources = client.CustomObjectsApi(connection).get_api_resources(GROUP, VERSION)
    assert groups[GROUP] == VERSION and "coordination.k8s.io" in groups
    assert {"robots", "robots/status", "workflows", "jobs"} <= {each.name for each in resources.resources}


def test_namespaces_are_made_read_and_deleted(core: Any, namespace: str) -> None:
    name = f"{namespace}-python"
    made = core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels={"team": namespace})))
    assert (made.status.phase, made.spec.finalizers) == ("Active", ["kubernetes"])
    assert [each.metadata.name for each in core.list_namespace(label_selector=f"team={namespace}").items] == [name]
    core.delete_namespace(name)
    until(lambda: name not in [each.metadata.name for each in core.list_namespace().items], "the namespace is gone")


def test_config_maps_are_made_changed_and_deleted(core: Any, namespace: str) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings"), data={"colour": "blue"})
    made = core.create_namespaced_config_map(namespace, body)  # a typed call does not say what its body is
    made.data["colour"] = "red"
    core.replace_namespaced_config_map("settings", namespace, made)
    patched = core.patch_namespaced_config_map("settings", namespace, {"data": {"size": "9"}})  # a strategic patch
    assert patched.data == {"colour": "red", "size": "9"}
    core.delete_namespaced_config_map("settings", namespace)
    assert core.list_namespaced_config_map(namespace).items == []


def test_a_stale_replace_is_a_conflict(core: Any, namespace: str) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="settings"), data={"n": "1"})
    stale = core.create_namespaced_config_map(namespace, body)
    core.patch_namespaced_config_map("settings", namespace, {"data": {"n": "2"}})
    with pytest.raises(ApiException, match="the object has been modified") as conflict:
        core.replace_namespaced_config_map("settings", namespace, stale)
    assert conflict.value.status == 409


def test_secrets_come_back_as_they_were_given(core: Any, namespace: str) -> None:
    meta = client.V1ObjectMeta(name="bank")
    made = core.create_namespaced_secret(namespace, client.V1Secret(metadata=meta, string_data={"pin": "ä 0815"}))
    found = core.read_namespaced_secret("bank", namespace)
    assert base64.b64decode(found.data["pin"]).decode() == "ä 0815"
    assert (found.type, found.metadata.resource_version) == ("Opaque", made.metadata.resource_version)
    assert [each.data for each in core.list_namespaced_secret(namespace).items] == [found.data]


def test_events_are_posted_and_found_by_their_object(core: Any, namespace: str) -> None:
    for name in ("pc-01", "pc-02"):
        about = client.V1ObjectReference(kind="Robot", name=name, namespace=namespace)
        meta = client.V1ObjectMeta(generate_name=f"{name}.")
        body = client.CoreV1Event(metadata=meta, involved_object=about, reason="Oiled", message="it squeaks no more", type="Normal")
        core.create_namespaced_event(namespace, body)
    found = core.list_namespaced_event(namespace, field_selector="involvedObject.name=pc-02").items
    assert [(each.involved_object.name, each.reason, each.type) for each in found] == [("pc-02", "Oiled", "Normal")]


def test_a_question_about_my_rights_is_answered(connection: Any, namespace: str) -> None:
    asked = client.V1ResourceAttributes(group=GROUP, resource="robots", verb="create", namespace=namespace)
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked)
    api: Any = client.AuthorizationV1Api(connection)
    assert api.create_self_subject_access_review(client.V1SelfSubjectAccessReview(spec=spec)).status.allowed is True


# -- custom objects ----------------------------------------------------------------------------------------------


def test_a_robot_is_created_and_read(custom: Any) -> None:
    made = custom.create("pc-01")
    found = custom.get_namespaced_custom_object("pc-01")
    assert (found["metadata"], found["spec"]) == (made["metadata"], made["spec"])
    assert made["spec"]["maxConcurrentJobs"] == 2 and made["spec"]["desiredState"] == "Active"


def test_a_robot_is_patched_by_a_merge_patch(custom: Any) -> None:
    custom.create("pc-01")
    changed = custom.patch_namespaced_custom_object("pc-01", {"spec": {"maxConcurrentJobs": 5, "tags": None}})
    assert changed["spec"]["maxConcurrentJobs"] == 5 and "tags" not in changed["spec"]


def test_a_robot_is_patched_by_a_json_patch(custom: Any) -> None:
    custom.create("pc-01")
    patch = [{"op": "test", "path": "/spec/tags/0", "value": "finance"}, {"op": "add", "path": "/spec/tags/-", "value": "sap"}]
    changed = custom.patch_namespaced_custom_object("pc-01", patch, _content_type="application/json-patch+json")
    assert changed["spec"]["tags"] == ["finance", "sap"]


def test_a_robot_is_replaced(custom: Any) -> None:
    made = custom.create("pc-01")
    made["spec"] = {"displayName": "The first"}
    replaced = custom.replace_namespaced_custom_object("pc-01", made)
    assert replaced["spec"]["displayName"] == "The first" and replaced["spec"]["maxConcurrentJobs"] == 1
    assert replaced["metadata"]["generation"] == 2


def test_a_robots_status_is_read_patched_and_replaced_apart(custom: Any) -> None:
    made = custom.create("pc-01")
    message = {"type": "Oiled", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patched = custom.patch_namespaced_custom_object_status("pc-01", {"status": {"conditions": [message]}, "spec": {"tags": []}})
    assert patched["spec"] == made["spec"] and message in patched["status"]["conditions"]

    def replace() -> Any:
        found = custom.get_namespaced_custom_object_status("pc-01")
        found["status"]["conditions"] = [{**message, "status": "False"}]
        try:
            return custom.replace_namespaced_custom_object_status("pc-01", found)
        except ApiException as error:  # a duty has said something of the robot meanwhile
            assert error.status == 409
            return None

    replaced = until(replace, "it is replaced")
    found = custom.get_namespaced_custom_object_status("pc-01")
    assert {**message, "status": "False"} in found["status"]["conditions"]
    assert found["metadata"]["generation"] == made["metadata"]["generation"] == replaced["metadata"]["generation"]


def test_robots_are_deleted_one_and_all(custom: Any) -> None:
    custom.create("pc-01", "pc-02", "pc-03")
    assert custom.delete_namespaced_custom_object("pc-01")["status"] == "Success"
    assert names(custom.delete_collection_namespaced_custom_object()) == ["pc-02", "pc-03"]
    assert custom.names() == []


def test_a_missing_robot_is_not_found(custom: Any) -> None:
    with pytest.raises(ApiException, match=r'robots\.fleet\.casare\.net \\"nope\\" not found') as missing:
        custom.get_namespaced_custom_object("nope")
    assert missing.value.status == 404


def test_robots_are_listed_by_label_and_field(custom: Any) -> None:
    custom.create("pc-01", "pc-02")
    custom.patch_namespaced_custom_object("pc-02", {"metadata": {"labels": {"site": "paris"}}})
    assert custom.names(label_selector="site in (paris,rome)") == ["pc-02"]
    assert custom.names(field_selector="metadata.name!=pc-02") == ["pc-01"]


def test_robots_of_all_namespaces_are_listed_together(custom: Any, namespace: str) -> None:
    custom.create("pc-01")
    label = {"metadata": {"labels": {"of": namespace}}}
    custom.patch_namespaced_custom_object("pc-01", label)
    found = custom.api.list_cluster_custom_object(GROUP, VERSION, "robots", label_selector=f"of={namespace}")
    everywhere = custom.api.list_custom_object_for_all_namespaces(GROUP, VERSION, "robots", label_selector=f"of={namespace}")
    assert names(found) == names(everywhere) == ["pc-01"]


def test_a_long_list_comes_in_pages_of_one_moment(custom: Any) -> None:
    wanted = [f"pc-{number:02}" for number in range(7)]
    custom.create(*wanted)
    page = custom.list_namespaced_custom_object(limit=3)
    first, seen = page["metadata"], names(page)
    assert first["remainingItemCount"] == 4
    custom.create("pc-001", "pc-99")  # not part of that moment
    while page["metadata"].get("continue"):
        page = custom.list_namespaced_custom_object(limit=3, _continue=page["metadata"]["continue"])
        assert page["metadata"]["resourceVersion"] == first["resourceVersion"]
        seen += names(page)
    assert seen == wanted


# -- the dynamic client ------------------------------------------------------------------------------------------


def test_the_dynamic_client_finds_kinds_by_discovery(dynamic: Any) -> None:
    found = dynamic.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Robot")
    assert (found.name, found.namespaced, found.short_names) == ("robots", True, ["rb"]) and "status" in found.subresources
    assert dynamic.version["kubernetes"]["major"] == "1"
    with pytest.raises(ResourceNotFoundError):
        dynamic.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Unicorn")


def test_the_dynamic_client_creates_patches_replaces_and_deletes(robots: Any, namespace: str) -> None:
    robots.create(body=robot("pc-01"), namespace=namespace)
    merge = {"content_type": "application/merge-patch+json", "namespace": namespace}
    robots.patch(body={"metadata": {"name": "pc-01"}, "spec": {"maxConcurrentJobs": 4}}, **merge)
    found = robots.get(name="pc-01", namespace=namespace)
    assert found.spec.maxConcurrentJobs == 4
    found.spec.maxConcurrentJobs = 6
    assert robots.replace(body=found.to_dict(), namespace=namespace).spec.maxConcurrentJobs == 6
    robots.delete(name="pc-01", namespace=namespace)
    with pytest.raises(NotFoundError):
        robots.get(name="pc-01", namespace=namespace)


def test_the_dynamic_client_patches_a_status(robots: Any, namespace: str) -> None:
    robots.create(body=robot("pc-01"), namespace=namespace)
    body = {"metadata": {"name": "pc-01"}, "status": {"agent": {"version": "9"}}}
    robots.status.patch(body=body, namespace=namespace, content_type="application/merge-patch+json")
    assert robots.status.get(name="pc-01", namespace=namespace).status.agent.version == "9"


def test_server_side_apply_makes_an_object_and_then_nothing(robots: Any, namespace: str) -> None:
    made = robots.server_side_apply(body=robot("pc-01"), namespace=namespace, field_manager="git")
    again = robots.server_side_apply(body=robot("pc-01"), namespace=namespace, field_manager="git")
    assert made.metadata.resourceVersion == again.metadata.resourceVersion
    assert [(entry.manager, entry.operation) for entry in made.metadata.managedFields] == [("git", "Apply")]


def test_server_side_apply_meets_a_conflict_and_may_force_it(robots: Any, namespace: str) -> None:
    robots.server_side_apply(body=robot("pc-01"), namespace=namespace, field_manager="git")
    other = {**robot("pc-01", maxConcurrentJobs=9)}
    with pytest.raises(ConflictError) as conflict:
        robots.server_side_apply(body=other, namespace=namespace, field_manager="ops")
    assert 'conflict with \\"git\\": .spec.maxConcurrentJobs' in str(conflict.value.body)
    forced = robots.server_side_apply(body=other, namespace=namespace, field_manager="ops", force_conflicts=True)
    assert forced.spec.maxConcurrentJobs == 9


def test_an_apply_without_a_manager_is_refused(robots: Any, namespace: str) -> None:
    with pytest.raises(UnprocessibleEntityError, match="fieldManager: Required value: is required for apply patch"):
        robots.server_side_apply(body=robot("pc-01"), namespace=namespace)


def test_the_dynamic_client_watches_from_a_list_of_the_server(robots: Any, namespace: str) -> None:
    """A WatchList: what there is, a bookmark that says where it ends, and what happens then."""
    robots.create(body=robot("pc-01"), namespace=namespace)
    seen = []
    how = {"send_initial_events": True, "resource_version_match": "NotOlderThan", "allow_watch_bookmarks": True}
    watcher: Any = watch.Watch()  # type: ignore[no-untyped-call]
    for event in robots.watch(namespace=namespace, watcher=watcher, timeout=20, **how):
        if event["type"] == "BOOKMARK" and len(seen) > 1:
            continue  # one comes every 30 s
        seen.append((event["type"], event["raw_object"]["metadata"].get("name")))
        if event["type"] == "BOOKMARK":
            assert at(event["raw_object"], "metadata", "annotations") == {"k8s.io/initial-events-end": "true"}
            robots.create(body=robot("pc-02"), namespace=namespace)
        if seen[-1] == ("ADDED", "pc-02"):
            watcher.stop()
    assert seen == [("ADDED", "pc-01"), ("BOOKMARK", None), ("ADDED", "pc-02")]
