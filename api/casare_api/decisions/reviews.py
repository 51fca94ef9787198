"""What may I do, and who am I? The answers to ``kubectl auth can-i``, ``auth can-i --list`` and ``auth whoami``.

Everything is asked of ``allowed()``, or read off the same rules (`listing`), so that what is said here is what the
server does: a review can't promise what a request is then refused, nor the other way round. The resources are the kinds
and what lies beside them; whoever is allowed everything is allowed what there is not, too, as Kubernetes' cluster-admin
is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from casare_api.decisions.access import Attempted, Identity, Verb, allowed, holds
from casare_api.decisions.comparing import MOST_LOOKS
from casare_api.decisions.listing import VERBS, listed
from casare_api.decisions.policy import NOTHING_BOUND, Policy
from casare_api.decisions.rules import ALL, Permission, covers
from casare_api.decisions.served import SERVED, Served
from casare_api.kinds import GROUP
from casare_api.kinds.rbac import CLUSTERROLE, ROLE
from casare_api.kinds.reviews import REVIEWS, Review
from casare_api.machinery.errors import ApiError, Cause

Object = dict[str, Any]

ACCESS, RULES, SELF = REVIEWS
# Of roles: to give away more than one holds (see `granting`). Nothing is requested by them.
_LIFTING = {"escalate": (ROLE.plural, CLUSTERROLE.plural), "bind": (ROLE.plural, CLUSTERROLE.plural)}
# What everybody with a key may GET besides resources; a star stands for the rest of the path.
READABLE = (
    "/api", "/api/*", "/apis", "/apis/*", "/docs", "/docs/*", "/healthz", "/healthz/*", "/livez", "/livez/*",
    "/metrics", "/openapi", "/openapi.json", "/openapi/*", "/readyz", "/readyz/*", "/redoc", "/version", "/version/",
)  # fmt: skip

_TOO_MANY = "too many rules or names are bound to the caller: some are left out, ask for one thing with can-i"
_TOO_MANY_AT_ONCE = "too many rules are bound to the caller to look at all that this asks for: ask for one thing"
_RESOURCE_TEXTS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


def access_review(who: Identity, body: Object, policy: Policy = NOTHING_BOUND) -> Object:
    """``auth can-i``: whether the caller may do what ``spec`` says. ApiError 400, 422 for a malformed review."""
    spec = _spec(ACCESS, body)
    resource = _texts(spec, "resourceAttributes", _RESOURCE_TEXTS)
    path = _texts(spec, "nonResourceAttributes", ("path", "verb"))
    if resource is not None and path is not None:
        raise _invalid("nonResourceAttributes", path, "cannot be specified in combination with resourceAttributes")
    if resource is not None:
        status = _may_resource(who, resource, policy)
    elif path is not None:
        status = {"allowed": _may_read(who, path["path"], path["verb"], policy)}
    else:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise _invalid("resourceAttributes", None, why)
    return _answer(ACCESS, status, spec)


def rules_review(who: Identity, body: Object, policy: Policy = NOTHING_BOUND) -> Object:
    """``auth can-i --list``: all that the caller may do in ``spec.namespace``. ApiError 400, 422."""
    spec = _spec(RULES, body)
    namespace = spec.get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        cause = Cause.wrong_type("spec.namespace", namespace, "must be a string")
        raise ApiError.invalid(RULES, "", [cause])
    if not namespace:
        raise ApiError.bad_request("no namespace on request")
    return _answer(RULES, {"incomplete": False, **_rules(who, namespace, policy)}, spec)


def self_review(who: Identity) -> Object:
    """``auth whoami``: the caller's name and groups, as bindings call them, and how far the key reaches."""
    user: Object = {"username": who.user, "groups": [*who.all_groups]}
    if who.key_uid is not None:
        user["uid"] = who.key_uid
    reach = {"namespace": who.namespace, "robot": who.robot_name}
    if any(reach.values()):
        user["extra"] = {f"{GROUP}/{key}": [value] for key, value in reach.items() if value}
    return _answer(SELF, {"userInfo": user})


def attempted(one: Served, verb: Verb, namespace: str | None, name: str | None) -> Attempted:
    """What is asked for by a request for this resource."""
    where = namespace if one.namespaced else None
    return Attempted(verb, one.resource, one.subresource, where, name, one.group)


# -- can I? --------------------------------------------------------------------------------------------------------


def _may_resource(who: Identity, asked: dict[str, str], policy: Policy) -> Object:
    """The status of an access review; a reason where there is more to say than no."""
    if _may_everything(who, policy):
        return {"allowed": True, "reason": "an admin of everything"}
    if asked["resource"] in _LIFTING.get(asked["verb"], ()) and asked["group"] in (ROLE.group, ALL):
        namespace = (asked["namespace"] or None) if asked["resource"] == ROLE.plural else None
        what = Attempted(asked["verb"], asked["resource"], None, namespace, asked["name"] or None)
        return {"allowed": allowed(who, what, policy)}
    targets = [one for one in SERVED if _is_meant(one, asked)]
    verbs = [verb for verb in VERBS if asked["verb"] in (verb, ALL)]
    if not targets:
        return {"allowed": False, "reason": _unknown(asked)}
    if not verbs:
        return {"allowed": False, "reason": f"there is no verb {_shown(asked['verb'])}: {', '.join(VERBS)}"}
    namespace, name = asked["namespace"] or None, asked["name"] or None
    has_star = ALL in (asked["verb"], asked["resource"], asked["subresource"])  # all means all that there is
    attempts = [
        attempted(one, verb, namespace, name)
        for one in targets for verb in verbs if verb in one.verbs or not has_star
    ]  # fmt: skip
    if len(attempts) * _weight(who, namespace, policy) > MOST_LOOKS:
        return {"allowed": False, "evaluationError": _TOO_MANY_AT_ONCE}
    if not attempts or not all(_may(who, what, policy) for what in attempts):
        return {"allowed": False}
    is_by_role = all(_may(who, what, NOTHING_BOUND) for what in attempts)
    return {"allowed": True, "reason": f"the role {who.role}" if is_by_role else "roles that are bound to the caller"}


def _weight(who: Identity, namespace: str | None, policy: Policy) -> int:
    """At how many rules one question may have to look, at most."""
    return sum(rules.widest for rules in policy.held(who.subjects, namespace))


def _is_meant(one: Served, asked: dict[str, str]) -> bool:
    """A star means all; kubectl asks for all resources with no group, and means those of the namespace it names."""
    group, resource, subresource = asked["group"], asked["resource"], asked["subresource"]
    if resource == ALL and not group:
        group = ALL
    if group not in (one.group, ALL) or resource not in (one.resource, ALL):
        return False
    if resource == ALL and asked["namespace"] and not one.namespaced:
        return False
    if subresource == ALL:
        return one.subresource is not None
    return one.subresource == (subresource or None) or (resource == ALL and not subresource)


def _may(who: Identity, what: Attempted, policy: Policy) -> bool:
    """What is created has no name in its path yet: then `allowed` is asked without; a robot creates itself alone."""
    if what.verb != "create" or what.subresource is not None or what.name is None:
        return allowed(who, what, policy)
    is_own = what.resource != "robots" or who.robot_name in (None, what.name)
    return is_own and allowed(who, replace(what, name=None), policy)


def _may_everything(who: Identity, policy: Policy) -> bool:
    """Whether the answer is yes even for what there is not: only an admin of everything is never asked what for."""
    return holds(who, Permission(ALL, ALL, ALL), None, policy)


def _may_read(who: Identity, path: str, verb: str, policy: Policy) -> bool:
    if who.role == "anonymous":
        return False
    if verb == "get" and any(covers(each, path) for each in READABLE):
        return True
    return _may_everything(who, policy) or holds(who, Permission(verb, None, path), None, policy)


def _unknown(asked: dict[str, str]) -> str:
    """Why nothing is meant, and where the resource is if it is in another group."""
    resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
    groups = sorted({one.group for one in SERVED if one.path == resource})
    hint = f"; it is in {', '.join(_shown(group) for group in groups)}" if groups else ""
    return f"the server has no resource {_shown(resource)} in API group {_shown(asked['group'])}{hint}"


# -- what can I? ---------------------------------------------------------------------------------------------------


def _rules(who: Identity, namespace: str, policy: Policy) -> Object:
    """``resourceRules`` and ``nonResourceRules``: one rule for all resources of a group with the same verbs."""
    if _may_everything(who, policy):
        return {
            "resourceRules": [{"verbs": [ALL], "apiGroups": [ALL], "resources": [ALL]}],
            "nonResourceRules": [{"verbs": [ALL], "nonResourceURLs": [ALL]}],
        }
    rules, is_all = listed(who, namespace, policy)
    readable = [path for path in READABLE if _may_read(who, path, "get", policy)]
    paths = [{"verbs": ["get"], "nonResourceURLs": readable}] if readable else []
    more: Object = {} if is_all else {"incomplete": True, "evaluationError": _TOO_MANY}
    return {"resourceRules": rules, "nonResourceRules": paths, **more}


# -- bodies --------------------------------------------------------------------------------------------------------


def _spec(review: Review, body: Any) -> Object:
    """The spec of a review, {} where there is none. Some clients leave apiVersion and kind out."""
    if not isinstance(body, dict):
        raise ApiError.bad_request(f"the body must be a {review.kind}")
    for key, wanted in (("kind", review.kind), ("apiVersion", review.api_version)):
        if body.get(key) not in (None, "", wanted):
            raise ApiError.bad_request(f"the body must be a {review.kind}: its {key} must be {wanted}")
    spec = body.get("spec")
    if spec is None:
        return {}
    if not isinstance(spec, dict):
        raise ApiError.invalid(review, "", [Cause.wrong_type("spec", spec, "must be an object")])
    return spec


def _texts(spec: Object, part: str, keys: tuple[str, ...]) -> dict[str, str] | None:
    """The texts of one part of an access review's spec, "" for those not said; None if the part is not there."""
    value = spec.get(part)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ApiError.invalid(ACCESS, "", [Cause.wrong_type(f"spec.{part}", value, "must be an object")])
    wrong = [Cause.wrong_type(f"spec.{part}.{key}", value[key], "must be a string")
             for key in keys if not isinstance(value.get(key), str | None)]  # fmt: skip
    if wrong:
        raise ApiError.invalid(ACCESS, "", wrong)
    return {key: value.get(key) or "" for key in keys}


def _invalid(part: str, value: object, why: str) -> ApiError:
    return ApiError.invalid(ACCESS, "", [Cause.invalid(f"spec.{part}", value, why)])


def _answer(review: Review, status: Object, spec: Object | None = None) -> Object:
    answer: Object = {"apiVersion": review.api_version, "kind": review.kind, "metadata": {}}
    return answer | ({"spec": spec} if spec is not None else {}) | {"status": status}


def _shown(text: str) -> str:
    """The text in quotes, on one line and not too long."""
    shown = f'"{text}"' if text.isprintable() else ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."
