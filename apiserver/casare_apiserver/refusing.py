"""What is a caller told whose request is refused? The words of the real API server where people know them."""

from __future__ import annotations

import psycopg

from casare_api.decisions.access import Attempted, Identity
from casare_api.decisions.roles import SHARES
from casare_api.machinery.errors import ApiError
from casare_apiserver.wire import Request


def without_database(error: psycopg.Error) -> ApiError:
    """What the caller is told; what the database said is in the log."""
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.TransactionTimeout):
        return ApiError.unavailable("the database took too long: ask for less, or try again in a moment")
    if isinstance(error, psycopg.OperationalError):
        return ApiError.unavailable("the database can't be reached: try again in a moment")
    return ApiError.unavailable("the database could not do this: try again in a moment; why is in the server's log")


def check_impersonation(request: Request) -> None:
    """Nobody acts as somebody else here; ignored, the answer would be about the wrong one. Raises ApiError 400, 403."""
    asked = [name for name, _ in request.scope["headers"] if name.startswith(b"impersonate-")]
    who = request.header(b"impersonate-user")
    if asked and not who:
        raise ApiError.bad_request(f"{asked[0].decode('latin-1')[:60]} is said without impersonate-user")
    if who:
        me, who = request.identity.name, who[:253]
        why = f'User "{me}" cannot impersonate resource "users" in API group "" at the cluster scope'
        raise ApiError(403, "Forbidden", f'users "{who}" is forbidden: {why}', {"name": who, "kind": "users"})


def forbidden(identity: Identity, what: Attempted) -> ApiError:
    """The message of the real API server, which people know."""
    verb, resource, group, namespace, name = what.verb, what.resource, what.group, what.namespace, what.name
    full = f"{resource}.{group}" if group else resource
    named = f' "{name}"' if name else ""
    path = f"{resource}/{what.subresource}" if what.subresource else resource
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = (
        f'{full}{named} is forbidden: User "{identity.name}" cannot {verb} resource "{path}" in API group "{group}" '
        f"{where}"
    )
    if resource in SHARES and namespace:
        message += ": what a namespace gets of the fleet is decided by admins of the whole server"
    details = {"group": group, "kind": resource} | ({"name": name} if name else {})
    return ApiError(403, "Forbidden", message, details)
