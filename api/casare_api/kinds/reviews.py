"""What can a caller ask the server about itself? Three questions of Kubernetes that are posted and never kept.

`kubectl auth can-i` asks the first, `kubectl auth can-i --list` the second, `kubectl auth whoami` the third. They have
no table, no name and no watch, so they are no `Kind`s; what a client sends beyond what is known here is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from casare_api.kinds.kind import Model

_ALL = '"*" means all.'


class ReviewModel(Model):
    """A part of a question: what other versions of it ask as well is left out."""

    model_config = ConfigDict(extra="ignore")


class ResourceAttributes(ReviewModel):
    """An action on resources."""

    namespace: str | None = Field(None, description="The namespace; where not set, all of them or none.")
    verb: str | None = Field(None, description="get, list, watch, create, update, patch, delete or deletecollection.")
    group: str | None = Field(None, description="The API group, such as fleet.casare.net; empty for core kinds.")
    version: str | None = Field(None, description="The API version, such as v1.")
    resource: str | None = Field(None, description="The kind's plural, such as robots.")
    subresource: str | None = Field(None, description="The subresource, such as status; where not set, the object.")
    name: str | None = Field(None, description="The name of the one object; where not set, any.")
    field_selector: dict[str, Any] | None = Field(None, description="Narrows the action to some objects by fields.")
    label_selector: dict[str, Any] | None = Field(None, description="Narrows the action to some objects by labels.")


class NonResourceAttributes(ReviewModel):
    """An action on a path that is no resource's."""

    path: str | None = Field(None, description="The path, such as /metrics.")
    verb: str | None = Field(None, description="The HTTP method in lower case.")


class AccessSpec(ReviewModel):
    """The action that is asked about: exactly one of the two."""

    resource_attributes: ResourceAttributes | None = Field(None, description="An action on resources.")
    non_resource_attributes: NonResourceAttributes | None = Field(
        None, description="An action on a path that is no resource's."
    )


class AccessStatus(ReviewModel):
    """The answer."""

    allowed: bool = Field(False, description="Whether the caller may do it.")
    denied: bool | None = Field(None, description="Whether it is forbidden, whatever else allows it.")
    reason: str | None = Field(None, description="Why, in a sentence for people.")
    evaluation_error: str | None = Field(None, description="What went wrong when the answer was looked for.")


class SelfSubjectAccessReview(ReviewModel):
    """May the caller do this?"""

    api_version: str
    kind: str
    metadata: dict[str, Any] | None = Field(None, description="Not looked at: a review has no name.")
    spec: AccessSpec
    status: AccessStatus | None = None


class RulesSpec(ReviewModel):
    """Where."""

    namespace: str | None = Field(None, description="The namespace that is asked about.")


class ResourceRule(ReviewModel):
    """Some actions on some resources."""

    verbs: list[str] = Field(description=f"The actions that are allowed; {_ALL}")
    api_groups: list[str] | None = Field(None, description=f"The API groups; {_ALL}")
    resources: list[str] | None = Field(None, description=f"The plurals, with their subresources; {_ALL}")
    resource_names: list[str] | None = Field(None, description="The names of the objects; where not set, all.")


class NonResourceRule(ReviewModel):
    """Some actions on some paths."""

    verbs: list[str] = Field(description=f"The HTTP methods in lower case; {_ALL}")
    non_resource_urls: list[str] | None = Field(
        None, alias="nonResourceURLs", description="The paths; one that ends in * means all that begin so."
    )


class RulesStatus(ReviewModel):
    """The answer."""

    resource_rules: list[ResourceRule] = Field(description="What the caller may do with resources.")
    non_resource_rules: list[NonResourceRule] = Field(description="What the caller may do with other paths.")
    incomplete: bool = Field(description="Whether there may be more that the caller may do.")
    evaluation_error: str | None = Field(None, description="What went wrong when the answer was looked for.")


class SelfSubjectRulesReview(ReviewModel):
    """What may the caller do in a namespace?"""

    api_version: str
    kind: str
    metadata: dict[str, Any] | None = Field(None, description="Not looked at: a review has no name.")
    spec: RulesSpec
    status: RulesStatus | None = None


class UserInfo(ReviewModel):
    """Who somebody is."""

    username: str | None = Field(None, description="The name of the caller's key.")
    uid: str | None = Field(None, description="The uid of the ApiKey.")
    groups: list[str] | None = Field(None, description="The caller's groups: its role among them.")
    extra: dict[str, list[str]] | None = Field(None, description="What else is known of the caller, by name.")


class SubjectStatus(ReviewModel):
    """The answer."""

    user_info: UserInfo | None = Field(None, description="Who the caller is.")


class SelfSubjectReview(ReviewModel):
    """Who is the caller?"""

    api_version: str
    kind: str
    metadata: dict[str, Any] | None = Field(None, description="Not looked at: a review has no name.")
    status: SubjectStatus | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Review:
    """One question: its names, and the model of the question with its answer."""

    kind: str
    plural: str
    group: str
    version: str
    model: type[BaseModel]

    @property
    def singular(self) -> str:
        """The word for one of them."""
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        """The API group and version."""
        return f"{self.group}/{self.version}"

    @property
    def description(self) -> str:
        """The question in words."""
        return self.model.__doc__ or ""

    @property
    def path(self) -> str:
        """The path that it is posted to."""
        return f"/apis/{self.api_version}/{self.plural}"


_MAY, _WHO = "authorization.k8s.io", "authentication.k8s.io"
REVIEWS: tuple[Review, ...] = (
    Review("SelfSubjectAccessReview", "selfsubjectaccessreviews", _MAY, "v1", SelfSubjectAccessReview),
    Review("SelfSubjectRulesReview", "selfsubjectrulesreviews", _MAY, "v1", SelfSubjectRulesReview),
    Review("SelfSubjectReview", "selfsubjectreviews", _WHO, "v1", SelfSubjectReview),
)
