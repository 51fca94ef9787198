"""May this caller give that away? Nobody writes a key, a token, a Source, a role or a binding that grants more than he
holds himself.

As in Kubernetes, whoever has the verb `escalate` on a role may put anything into it, and whoever has `bind` on it may
give it to anybody. What a key grants is what its holder could do as things stand: what its role says in its namespace
and all that is bound to its name and its groups there or everywhere, were the binding there before the key. What is
bound to them in another namespace was given away by somebody who holds it there, and holds nobody up here. A rotation
shows a secret: it is measured like the first one. What takes away needs no right but to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from casare_api.decisions.access import Attempted, Identity, allowed, held_by, holds, may_serve
from casare_api.decisions.comparing import Holding, Looks, TooMuch
from casare_api.decisions.policy import BINDINGS, MOST_HELD, Policy
from casare_api.decisions.roles import ROLE_RULES
from casare_api.decisions.rules import MOST, Permission, size
from casare_api.kinds import Kind, dig
from casare_api.kinds.rbac import CLUSTERROLE, RBAC, ROLE, ROLEBINDING
from casare_api.machinery.errors import ApiError

Object = dict[str, Any]
Grant = tuple[str | None, list[Object]]  # a namespace, or None for everywhere, and the rules that are given there
TOLD = 5  # missing permissions that a refusal names
_TOO_MUCH = "too many rules are bound to the caller, or it says too much, to be compared: make several"


def check_grant(who: Identity, policy: Policy, kind: Kind, old: Object | None, new: Object) -> None:
    """Refuses what grants more than the caller holds, or more than counts for anybody.

    Raises ApiError 403, or 404 for a role that there is not.
    """
    if kind.kind not in _GRANTS:
        return
    is_changed, may_anyway, grants = _GRANTS[kind.kind]
    if not is_changed(old, new):
        return
    if kind.kind in BINDINGS:
        _check_room(who, policy, kind, old, new)
    if who.is_of_all or may_anyway(who, policy, new):
        return
    given = list(grants(policy, new))
    if sum(size(rules) for _, rules in given) > MOST:
        raise _refused(kind, new, who, f"it grants more than {MOST} permissions, too many to look at: make several")
    try:
        missing = list(islice(_missing(who, policy, given), TOLD + 1))
    except TooMuch:
        raise _refused(kind, new, who, _TOO_MUCH) from None
    if missing:
        told = "; ".join(map(str, missing[:TOLD])) + ("; and more" if len(missing) > TOLD else "")
        raise _refused(kind, new, who, f"is attempting to grant RBAC permissions not currently held: {told}")


def may_grant(who: Identity, policy: Policy, kind: Kind, old: Object | None, new: Object) -> bool:
    """The same as an answer."""
    try:
        check_grant(who, policy, kind, old, new)
    except ApiError:
        return False
    return True


def is_granting(kind: Kind) -> bool:
    """Whether objects of this kind give access away."""
    return kind.kind in _GRANTS


# -- what is given -------------------------------------------------------------------------------------------------


def _where(obj: Object) -> str | None:
    """Where a role or a binding holds: of one that is in no namespace, whatever it says of one counts for nothing."""
    return obj["metadata"]["namespace"] if obj["kind"] in (ROLE.kind, ROLEBINDING.kind) else None


def _of_role(policy: Policy, role: Object) -> Iterator[Grant]:
    yield _where(role), role.get("rules") or []


def _of_binding(policy: Policy, binding: Object) -> Iterator[Grant]:
    rules = policy.role(binding)
    if rules is None:
        ref = binding["roleRef"]
        raise ApiError.not_found(ROLE if ref["kind"] == ROLE.kind else CLUSTERROLE, ref["name"])
    yield _where(binding), rules


def _of_key(policy: Policy, key: Object) -> Iterator[Grant]:
    spec, meta = key["spec"], key["metadata"]
    holder = Identity(meta.get("name") or "", spec["role"], meta["namespace"], spec.get("robotName"))
    yield holder.namespace, ROLE_RULES[holder.role]
    for held in policy.all_held(holder.subjects, meta["namespace"]):
        yield held.namespace, held.said


def _of_token(policy: Policy, token: Object) -> Iterator[Grant]:
    """Whoever has it gets keys of robots."""
    yield token["metadata"]["namespace"], ROLE_RULES["robot"]


def _of_source(policy: Policy, source: Object) -> Iterator[Grant]:
    """It acts with its role, in its namespace."""
    yield source["metadata"]["namespace"], ROLE_RULES.get(dig(source, "spec", "role") or "operator", [])


# -- when it is asked for ------------------------------------------------------------------------------------------


def _fields_differ(*fields: str) -> Callable[[Object | None, Object], bool]:
    def differ(old: Object | None, new: Object) -> bool:
        return old is None or any((old.get(field) or None) != (new.get(field) or None) for field in fields)

    return differ


_HARMLESS = frozenset({"description", "onRevoke"})  # of a key: what gives nobody anything


def _key_differs(old: Object | None, new: Object) -> bool:
    """One that is revoked opens nothing; who takes that back gives the key anew."""
    if new["spec"].get("revoked"):
        return False
    before, after = ({key: value for key, value in (one or {}).get("spec", {}).items() if key not in _HARMLESS}
                     for one in (old, new))  # fmt: skip
    return old is None or before != after


def _may(verb: str, address: Callable[[Object], tuple[str, str | None, str]]) -> Callable[..., bool]:
    """Whether a verb lifts the limit for this role: (plural, namespace, name)."""

    def may(who: Identity, policy: Policy, obj: Object) -> bool:
        plural, namespace, name = address(obj)
        return allowed(who, Attempted(verb, plural, None, namespace, name, RBAC), policy)

    return may


def _itself(role: Object) -> tuple[str, str | None, str]:
    plural = ROLE.plural if role["kind"] == ROLE.kind else CLUSTERROLE.plural
    return plural, _where(role), role["metadata"].get("name") or ""


def _may_bind(who: Identity, policy: Policy, binding: Object) -> bool:
    """In the binding's namespace, also for a ClusterRole: it is given away there alone."""
    ref = binding["roleRef"]
    plural = ROLE.plural if ref["kind"] == ROLE.kind else CLUSTERROLE.plural
    return holds(who, Permission("bind", RBAC, plural, ref["name"]), _where(binding), policy)


def _never(who: Identity, policy: Policy, obj: Object) -> bool:
    return False


_ESCALATE = _may("escalate", _itself)
_ROLE = (_fields_differ("rules", "aggregationRule"), _ESCALATE, _of_role)
_BINDING = (_fields_differ("roleRef", "subjects"), _may_bind, _of_binding)
_SPEC = _fields_differ("spec")
_GRANTS: dict[str, tuple[Callable[..., bool], Callable[..., bool], Callable[[Policy, Object], Iterator[Grant]]]] = {
    "Role": _ROLE,
    "ClusterRole": _ROLE,
    "RoleBinding": _BINDING,
    "ClusterRoleBinding": _BINDING,
    "ApiKey": (_key_differs, _never, _of_key),
    "JoinToken": (_SPEC, _never, _of_token),
    "Source": (_SPEC, _never, _of_source),
}


def _missing(who: Identity, policy: Policy, given: list[Grant]) -> Iterator[Permission]:
    looks = Looks()
    places = {where: Holding([*held_by(who, where, policy)], looks) for where in {where for where, _ in given}}
    for where, rules in given:
        yield from places[where].missing(rules)


def may_key(who: Identity, old: Object | None, key: Object, robot: Object | None, policy: Policy) -> bool:
    """Whether the caller may have a robot's key: of a Robot that serves other namespaces, who may let it do so.

    Whoever has the key gets their jobs. To take it back needs no more than the right to write, and a robot has its own.
    """
    is_robots = robot is not None and key["spec"]["role"] == "robot" and who.role != "robot"
    return not is_robots or not _key_differs(old, key) or may_serve(who, None, robot or {}, policy)


def _check_room(who: Identity, policy: Policy, kind: Kind, old: Object | None, binding: Object) -> None:
    """What would give nothing is not written: see `Policy.left_out`. Whoever stands in it already may stay."""
    said, where = policy.role(binding), _where(binding)
    there = old.get("subjects") or () if old is not None and old["roleRef"] == binding["roleRef"] else ()
    for one in binding.get("subjects") or ():
        if one in there:
            continue
        if said is not None and not policy.has_room((one["kind"], one["name"]), where, said):
            whom = f'{one["kind"].lower()} "{one["name"]}"'
            place = "in this namespace" if where is not None else "everywhere"
            why = f"it comes to more than {MOST_HELD} rules for {whom} {place}: put roles together, or unbind some"
            raise _refused(kind, binding, who, why)


def _refused(kind: Kind, obj: Object, who: Identity, why: str) -> ApiError:
    groups = ", ".join(f'"{group}"' for group in who.all_groups)
    told = f'user "{who.name}" (groups=[{groups}]) {why}'
    return ApiError.refused(kind, obj["metadata"].get("name") or obj["metadata"].get("generateName") or "", told)
