"""An ApiError says on the wire what a Kubernetes API server would say."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass

import pytest

from casare_api.machinery.errors import ApiError, Cause


@dataclass(frozen=True)
class Named:
    kind: str
    plural: str
    group: str = "fleet.casare.net"


ROBOT = Named("Robot", "robots")
NAMESPACE = Named("Namespace", "namespaces", "")


def test_not_found_names_resource_and_plural() -> None:
    assert ApiError.not_found(ROBOT, "nope").body() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'robots.fleet.casare.net "nope" not found',
        "reason": "NotFound",
        "details": {"name": "nope", "group": "fleet.casare.net", "kind": "robots"},
        "code": 404,
    }


def test_core_kinds_have_no_group_in_their_messages() -> None:
    error = ApiError.not_found(NAMESPACE, "x")
    assert error.message == 'namespaces "x" not found'
    assert error.details == {"name": "x", "kind": "namespaces"}


@pytest.mark.parametrize(
    ("error", "status", "reason", "message"),
    [
        (ApiError.already_exists(ROBOT, "a1"), 409, "AlreadyExists", 'robots.fleet.casare.net "a1" already exists'),
        (
            ApiError.conflict(ROBOT, "a1"),
            409,
            "Conflict",
            'Operation cannot be fulfilled on robots.fleet.casare.net "a1": the object has been modified; '
            "please apply your changes to the latest version and try again",
        ),
        (ApiError.unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (ApiError.too_old(1, 213), 410, "Expired", "too old resource version: 1 (213)"),
        (
            ApiError.method_not_allowed(ROBOT, "create"),
            405,
            "MethodNotAllowed",
            'create is not supported on resources of kind "robots.fleet.casare.net"',
        ),
        (
            ApiError.future_version(99999999, 366),
            504,
            "Timeout",
            "Too large resource version: 99999999, current: 366",
        ),
        (
            ApiError.forbidden(ROBOT, "create", "viewer", "t1"),
            403,
            "Forbidden",
            'robots.fleet.casare.net is forbidden: User "viewer" cannot create resource "robots" in API group '
            '"fleet.casare.net" in the namespace "t1"',
        ),
        (
            ApiError.forbidden(NAMESPACE, "delete", "eve", None, "x"),
            403,
            "Forbidden",
            'namespaces "x" is forbidden: User "eve" cannot delete resource "namespaces" in API group "" '
            "at the cluster scope",
        ),
    ],
)
def test_messages_word_for_word(error: ApiError, status: int, reason: str, message: str) -> None:
    assert (error.status, error.reason, error.message, str(error)) == (status, reason, message, message)


def test_invalid_lists_every_cause_and_kubectl_finds_the_kind() -> None:
    mode = Cause.unsupported("spec.mode", "sleepy", ["attended", "unattended"])
    one = ApiError.invalid(ROBOT, "bad", [mode])
    assert one.message == (
        'Robot.fleet.casare.net "bad" is invalid: spec.mode: Unsupported value: "sleepy": '
        'supported values: "attended", "unattended"'
    )
    two = ApiError.invalid(ROBOT, "bad", [mode, Cause.required("spec.role")])
    assert two.message.endswith('"unattended", spec.role: Required value]')
    assert two.details is not None and two.details["kind"] == "Robot"
    assert two.causes == (mode, Cause.required("spec.role"))


def test_from_body_is_the_inverse_of_body() -> None:
    for error in (
        ApiError.invalid(ROBOT, "bad", [Cause.invalid("spec.n", 3, "must be less than 2")]),
        ApiError.too_many_requests("slow down", 5),
        ApiError.unauthorized(),
    ):
        again = ApiError.from_body(error.status, json.dumps(error.body()).encode())
        assert again.body() == error.body()
        assert again.causes == error.causes
        assert again.retry_after == error.retry_after


@pytest.mark.parametrize(
    ("status", "body", "reason", "message"),
    [
        (404, b"404 page not found\n", "NotFound", "404 page not found"),
        (502, "<html><body>Bad gateway</body></html>", "InternalError", "InternalError (HTTP 502)"),
        (422, {"detail": "no such\nfield"}, "Invalid", "no such field"),
        (422, {"detail": [{"loc": ["x"]}]}, "Invalid", "Invalid (HTTP 422)"),
        (503, b"", "ServiceUnavailable", "ServiceUnavailable (HTTP 503)"),
        (500, b"\xff\xfe", "InternalError", "��"),
        (400, "[" * 100_000, "BadRequest", "[" * 297 + "..."),
        (500, None, "InternalError", "InternalError (HTTP 500)"),
        (409, {"kind": "Status", "code": "x", "details": 7}, "Conflict", "Conflict"),
    ],
)
def test_from_body_makes_one_line_of_anything(status: int, body: object, reason: str, message: str) -> None:
    error = ApiError.from_body(status, body)
    assert (error.status, error.reason, error.message) == (status, reason, message)


def test_malformed_causes_are_passed_over() -> None:
    error = ApiError(422, "Invalid", "x", {"causes": [{"field": "a", "message": "m"}, "nonsense"]})
    assert error.causes == (Cause("a", "", "m"),)


def test_long_values_are_cut_in_messages() -> None:
    assert len(Cause.invalid("f", "x" * 10_000, "no").message) < 200


def test_an_error_survives_being_pickled() -> None:
    error = pickle.loads(pickle.dumps(ApiError.conflict(ROBOT, "a", "because")))
    assert error.body() == ApiError.conflict(ROBOT, "a", "because").body()
