"""Role, ClusterRole, RoleBinding, ClusterRoleBinding: who may do what, as in Kubernetes.

A role is a list of rules, a binding gives it to keys, people and groups: within one namespace, or everywhere. What they
come to is decided in `decisions.policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from casare_api.kinds.kind import AGE, NAME, Cell, Column, Kind, Model, Object, ObjectMeta, column

RBAC = "rbac.authorization.k8s.io"
MOST_RULES, MOST_WORDS, MOST_SUBJECTS = 1000, 1000, 1000
Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
# "" is the core group.
GroupName = Annotated[str, StringConstraints(max_length=253)]
_ALL = '"*" means all.'


def _wrong(field: str, reason: str, why: str) -> PydanticCustomError:
    return PydanticCustomError("of_field", "{why}", {"why": why, "field": field, "reason": reason})


class PolicyRule(Model):
    """Some verbs on some resources, or on some paths that are no resource's."""

    verbs: list[Text] = Field(
        min_length=1, max_length=MOST_WORDS,
        description=f"What may be done: get, list, watch, create, update, patch, delete, deletecollection; {_ALL} "
        "On roles also bind and escalate: to give away more than one holds.",
    )
    api_groups: list[GroupName] | None = Field(
        None, max_length=MOST_WORDS, description=f'The API groups; "" is the core group, {_ALL}'
    )
    resources: list[Text] | None = Field(
        None, max_length=MOST_WORDS,
        description=f"The resources by their plural, such as jobs, jobs/log or */status; {_ALL}",
    )
    resource_names: list[Text] | None = Field(
        None, max_length=MOST_WORDS, description="The names of the objects; where not set, all."
    )
    non_resource_urls: list[Text] | None = Field(
        None, alias="nonResourceURLs", max_length=MOST_WORDS,
        description="Paths that are no resource's; one that ends in * means all that begin so. In ClusterRoles alone.",
    )

    @model_validator(mode="after")
    def _is_about_something(self) -> PolicyRule:
        if self.non_resource_urls:
            if self.api_groups or self.resources or self.resource_names:
                why = "Invalid value: rules cannot apply to both regular resources and non-resource URLs"
                raise _wrong("nonResourceURLs", "FieldValueInvalid", why)
            return self
        if not self.api_groups:
            why = "Required value: resource rules must supply at least one api group"
            raise _wrong("apiGroups", "FieldValueRequired", why)
        if not self.resources:
            why = "Required value: resource rules must supply at least one resource"
            raise _wrong("resources", "FieldValueRequired", why)
        return self


class RoleRef(Model):
    """The role that is given."""

    api_group: Literal["rbac.authorization.k8s.io"] = Field(
        "rbac.authorization.k8s.io", description="The API group of the role."
    )
    kind: Literal["Role", "ClusterRole"] = Field(description="Role, of the same namespace; or ClusterRole.")
    name: Text = Field(description="The role's name.")


def _known(kind: Any) -> Any:
    if kind == "ServiceAccount":
        raise ValueError(
            "there are none here: name an ApiKey instead, as kind User with the name casare:key:NAMESPACE:NAME"
        )
    return kind


class Subject(Model):
    """Whom it is given to."""

    kind: Annotated[Literal["User", "Group"], BeforeValidator(_known)] = Field(description="User or Group.")
    api_group: Literal["rbac.authorization.k8s.io"] = Field(
        "rbac.authorization.k8s.io", description="The API group of the subject."
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=600)] = Field(
        description="A user: casare:key:NAMESPACE:NAME is the ApiKey NAME, others are named by whoever signs them in. "
        "A group: casare:role:ROLE, system:authenticated (everybody with a key or a sign-in), or one of a sign-in.",
    )
    namespace: str | None = Field(None, description="Not for users and groups, which are in no namespace.")

    @model_validator(mode="after")
    def _is_in_no_namespace(self) -> Subject:
        if self.namespace:
            raise _wrong("namespace", "FieldValueForbidden", "Forbidden: users and groups are in no namespace")
        return self


_RULES = Field(None, max_length=MOST_RULES, description="What the role lets its holders do.")
_SUBJECTS = Field(None, max_length=MOST_SUBJECTS, description="Whom the role is given to.")


class Role(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    rules: list[PolicyRule] | None = _RULES

    @model_validator(mode="after")
    def _is_in_a_namespace(self) -> Role:
        for at, rule in enumerate(self.rules or ()):
            if rule.non_resource_urls:
                why = "Invalid value: namespaced rules cannot apply to non-resource URLs"
                raise _wrong(f"rules[{at}].nonResourceURLs", "FieldValueInvalid", why)
        return self


class ClusterRole(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    rules: list[PolicyRule] | None = _RULES
    aggregation_rule: dict[str, Any] | None = Field(None, description="Not supported: write the rules down.")

    @model_validator(mode="after")
    def _says_its_rules(self) -> ClusterRole:
        if self.aggregation_rule is not None:
            why = "Forbidden: this server does not put roles together from others: write the rules down"
            raise _wrong("aggregationRule", "FieldValueForbidden", why)
        return self


class RoleBinding(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    subjects: list[Subject] | None = _SUBJECTS
    role_ref: RoleRef = Field(description="The role that is given; it can't be changed.")


class ClusterRoleBinding(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    subjects: list[Subject] | None = _SUBJECTS
    role_ref: RoleRef = Field(description="The ClusterRole that is given; it can't be changed.")

    @model_validator(mode="after")
    def _gives_a_cluster_role(self) -> ClusterRoleBinding:
        if self.role_ref.kind != "ClusterRole":
            why = f'Unsupported value: "{self.role_ref.kind}": supported values: "ClusterRole"'
            raise _wrong("roleRef.kind", "FieldValueNotSupported", why)
        return self


def _given(obj: Object, now: datetime) -> Cell:
    ref = obj.get("roleRef") or {}
    return f"{ref.get('kind')}/{ref.get('name')}"


def _named(kind: str) -> Callable[[Object, datetime], Cell]:
    def cell(obj: Object, now: datetime) -> Cell:
        return ", ".join(one["name"] for one in obj.get("subjects") or () if one.get("kind") == kind)

    return cell


_ROLE_COLUMNS = (NAME, column("Created At", "metadata", "creationTimestamp"))
_BINDING_COLUMNS = (
    NAME,
    Column("Role", _given, description="The role that is given."),
    AGE,
    Column("Users", _named("User"), wide=True, description="The users that it is given to."),
    Column("Groups", _named("Group"), wide=True, description="The groups that it is given to."),
)


def _kind(
    model: type[Model], plural: str, columns: tuple[Column, ...], description: str, namespaced: bool = True
) -> Kind:
    name = model.__name__
    return Kind(
        kind=name, plural=plural, singular=name.lower(), group=RBAC, model=model, columns=columns, categories=(),
        namespaced=namespaced, description=description, is_path_named=True,
    )


ROLE = _kind(Role, "roles", _ROLE_COLUMNS, "Rules of access that bindings give away within its namespace.")
ROLEBINDING = _kind(
    RoleBinding, "rolebindings", _BINDING_COLUMNS, "Gives a role to keys, people and groups within its namespace."
)
CLUSTERROLE = _kind(
    ClusterRole, "clusterroles", _ROLE_COLUMNS,
    "Rules of access that bindings give away, in one namespace or in all.", namespaced=False,
)
CLUSTERROLEBINDING = _kind(
    ClusterRoleBinding, "clusterrolebindings", _BINDING_COLUMNS,
    "Gives a ClusterRole to keys, people and groups everywhere.", namespaced=False,
)
