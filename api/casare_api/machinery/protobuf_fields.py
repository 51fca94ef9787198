"""What is in a Kubernetes message? The fields of what clients send as protobuf: number, JSON name and type of each.

The numbers are those of Kubernetes' own ``generated.proto`` files, which never change. The types: ``string``,
``bytes``, ``bool``, ``int32``, ``int64``, ``Time``, ``MicroTime``, ``FieldsV1``, or the name of a message. Around
them ``[...]`` is a list and ``{...}`` a map from strings. A ``?`` marks what is a pointer in Go: there a zero, a
false and an empty text are said on purpose and kept; anywhere else they are what JSON leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal["one", "list", "map"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message; ``type`` is that of each element where there are several."""

    name: str
    type: str
    shape: Shape
    keeps_zero: bool


_META = "metadata ObjectMeta"

_TABLE: dict[str, dict[int, str]] = {
    "ObjectMeta": {
        1: "name string", 2: "generateName string", 3: "namespace string", 4: "selfLink string", 5: "uid string",
        6: "resourceVersion string", 7: "generation int64", 8: "creationTimestamp Time", 9: "deletionTimestamp Time",
        10: "deletionGracePeriodSeconds int64?", 11: "labels {string}", 12: "annotations {string}",
        13: "ownerReferences [OwnerReference]", 14: "finalizers [string]", 17: "managedFields [ManagedFieldsEntry]",
    },
    "OwnerReference": {
        1: "kind string", 3: "name string", 4: "uid string", 5: "apiVersion string", 6: "controller bool?",
        7: "blockOwnerDeletion bool?",
    },
    "ManagedFieldsEntry": {
        1: "manager string", 2: "operation string", 3: "apiVersion string", 4: "time Time", 6: "fieldsType string",
        7: "fieldsV1 FieldsV1", 8: "subresource string",
    },
    "DeleteOptions": {
        1: "gracePeriodSeconds int64?", 2: "preconditions Preconditions", 3: "orphanDependents bool?",
        4: "propagationPolicy string?", 5: "dryRun [string]",
        6: "ignoreStoreReadErrorWithClusterBreakingPotential bool?",
    },
    "Preconditions": {1: "uid string?", 2: "resourceVersion string?"},
    "Namespace": {1: _META, 2: "spec NamespaceSpec", 3: "status NamespaceStatus"},
    "NamespaceSpec": {1: "finalizers [string]"},
    "NamespaceStatus": {1: "phase string", 2: "conditions [NamespaceCondition]"},
    "NamespaceCondition": {
        1: "type string", 2: "status string", 4: "lastTransitionTime Time", 5: "reason string", 6: "message string",
    },
    "Event": {
        1: _META, 2: "involvedObject ObjectReference", 3: "reason string", 4: "message string",
        5: "source EventSource", 6: "firstTimestamp Time", 7: "lastTimestamp Time", 8: "count int32",
        9: "type string", 10: "eventTime MicroTime", 11: "series EventSeries", 12: "action string",
        13: "related ObjectReference", 14: "reportingComponent string", 15: "reportingInstance string",
    },
    "EventSource": {1: "component string", 2: "host string"},
    "EventSeries": {1: "count int32", 2: "lastObservedTime MicroTime"},
    "ObjectReference": {
        1: "kind string", 2: "namespace string", 3: "name string", 4: "uid string", 5: "apiVersion string",
        6: "resourceVersion string", 7: "fieldPath string",
    },
    "events.k8s.io/Event": {
        1: _META, 2: "eventTime MicroTime", 3: "series EventSeries", 4: "reportingController string",
        5: "reportingInstance string", 6: "action string", 7: "reason string", 8: "regarding ObjectReference",
        9: "related ObjectReference", 10: "note string", 11: "type string", 12: "deprecatedSource EventSource",
        13: "deprecatedFirstTimestamp Time", 14: "deprecatedLastTimestamp Time", 15: "deprecatedCount int32",
    },
    "ConfigMap": {1: _META, 2: "data {string}", 3: "binaryData {bytes}", 4: "immutable bool?"},
    "Secret": {1: _META, 2: "data {bytes}", 3: "type string", 4: "stringData {string}", 5: "immutable bool?"},
    "Lease": {1: _META, 2: "spec LeaseSpec"},
    "LeaseSpec": {
        1: "holderIdentity string?", 2: "leaseDurationSeconds int32?", 3: "acquireTime MicroTime",
        4: "renewTime MicroTime", 5: "leaseTransitions int32?", 6: "strategy string?", 7: "preferredHolder string?",
    },
    "Role": {1: _META, 2: "rules [PolicyRule]"},
    "ClusterRole": {1: _META, 2: "rules [PolicyRule]", 3: "aggregationRule AggregationRule"},
    "PolicyRule": {
        1: "verbs [string]", 2: "apiGroups [string]", 3: "resources [string]", 4: "resourceNames [string]",
        5: "nonResourceURLs [string]",
    },
    "AggregationRule": {1: "clusterRoleSelectors [LabelSelector]"},
    "LabelSelector": {1: "matchLabels {string}", 2: "matchExpressions [Requirement]"},
    "RoleBinding": {1: _META, 2: "subjects [Subject]", 3: "roleRef RoleRef"},
    "ClusterRoleBinding": {1: _META, 2: "subjects [Subject]", 3: "roleRef RoleRef"},
    "Subject": {1: "kind string", 2: "apiGroup string", 3: "name string", 4: "namespace string"},
    "RoleRef": {1: "apiGroup string", 2: "kind string", 3: "name string"},
    "SelfSubjectAccessReview": {1: _META, 2: "spec SelfSubjectAccessReviewSpec", 3: "status AccessStatus"},
    "SelfSubjectAccessReviewSpec": {
        1: "resourceAttributes ResourceAttributes", 2: "nonResourceAttributes NonResourceAttributes",
    },
    "SubjectAccessReview": {1: _META, 2: "spec SubjectAccessReviewSpec", 3: "status AccessStatus"},
    "SubjectAccessReviewSpec": {
        1: "resourceAttributes ResourceAttributes", 2: "nonResourceAttributes NonResourceAttributes",
        3: "user string", 4: "groups [string]", 5: "extra {ExtraValue}", 6: "uid string",
    },
    "ResourceAttributes": {
        1: "namespace string", 2: "verb string", 3: "group string", 4: "version string", 5: "resource string",
        6: "subresource string", 7: "name string", 8: "fieldSelector Selector", 9: "labelSelector Selector",
    },
    "NonResourceAttributes": {1: "path string", 2: "verb string"},
    "Selector": {1: "rawSelector string", 2: "requirements [Requirement]"},
    "Requirement": {1: "key string", 2: "operator string", 3: "values [string]"},
    "AccessStatus": {1: "allowed bool?", 2: "reason string", 3: "evaluationError string", 4: "denied bool"},
    "SelfSubjectRulesReview": {1: _META, 2: "spec RulesSpec", 3: "status RulesStatus"},
    "RulesSpec": {1: "namespace string"},
    "RulesStatus": {
        1: "resourceRules [ResourceRule]", 2: "nonResourceRules [NonResourceRule]", 3: "incomplete bool?",
        4: "evaluationError string",
    },
    "ResourceRule": {
        1: "verbs [string]", 2: "apiGroups [string]", 3: "resources [string]", 4: "resourceNames [string]",
    },
    "NonResourceRule": {1: "verbs [string]", 2: "nonResourceURLs [string]"},
    "SelfSubjectReview": {1: _META, 2: "status SelfSubjectReviewStatus"},
    "SelfSubjectReviewStatus": {1: "userInfo UserInfo"},
    "UserInfo": {1: "username string", 2: "uid string", 3: "groups [string]", 4: "extra {ExtraValue}"},
    "TokenReview": {1: _META, 2: "spec TokenReviewSpec", 3: "status TokenReviewStatus"},
    "TokenReviewSpec": {1: "token string", 2: "audiences [string]"},
    "TokenReviewStatus": {1: "authenticated bool", 2: "user UserInfo", 3: "error string", 4: "audiences [string]"},
    "TokenRequest": {1: _META, 2: "spec TokenRequestSpec", 3: "status TokenRequestStatus"},
    "TokenRequestSpec": {
        1: "audiences [string]", 3: "boundObjectRef BoundObjectReference", 4: "expirationSeconds int64?",
    },
    "BoundObjectReference": {1: "kind string", 2: "apiVersion string", 3: "name string", 4: "uid string"},
    "TokenRequestStatus": {1: "token string", 2: "expirationTimestamp Time"},
    "Scale": {1: _META, 2: "spec ScaleSpec", 3: "status ScaleStatus"},
    "ScaleSpec": {1: "replicas int32?"},  # no pointer, but nobody should have to guess that 0 was meant
    "ScaleStatus": {1: "replicas int32?", 2: "selector string"},
}  # fmt: skip

# The message of each kind that clients send. DeleteOptions are sent with the group and version of what they delete.
_KINDS = {
    "v1": ("Namespace", "Event", "ConfigMap", "Secret"),
    "coordination.k8s.io/v1": ("Lease",),
    "authorization.k8s.io/v1": ("SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"),
    "authentication.k8s.io/v1": ("SelfSubjectReview", "TokenReview", "TokenRequest"),
    "autoscaling/v1": ("Scale",),
    "rbac.authorization.k8s.io/v1": ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
}


def _field(text: str) -> Field:
    name, word = text.split()
    shape: Shape = {"[": "list", "{": "map"}.get(word[0], "one")  # type: ignore[assignment]
    return Field(name, word.strip("[]{}?"), shape, word.endswith("?"))


MESSAGES: dict[str, dict[int, Field]] = {
    message: {number: _field(text) for number, text in fields.items()} for message, fields in _TABLE.items()
}
KINDS: dict[tuple[str, str], str] = {
    (version, kind): kind for version, kinds in _KINDS.items() for kind in kinds
} | {("events.k8s.io/v1", "Event"): "events.k8s.io/Event"}


def message_of(api_version: str, kind: str) -> str | None:
    """The name of the message that an object of this kind is sent as, None for a kind that has none."""
    return kind if kind == "DeleteOptions" else KINDS.get((api_version, kind))
