"""What becomes of what somebody applies: his part of an object, which others have parts of?

Server-side apply: `ownership` merges and says whose is what; here it meets the object as it is, and admission.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from casare_api.kinds import Object
from casare_api.machinery import admission as rules
from casare_api.machinery import ownership, patches, times
from casare_api.machinery.admission import FieldValidation
from casare_api.machinery.errors import ApiError
from casare_api.machinery.schema import object_schema
from casare_apiserver import options
from casare_apiserver.targets import Target, check_name, check_place, with_status, without_status
from casare_apiserver.wire import Request
from casare_store import objects
from casare_store.operations import Context


@dataclass(slots=True)
class Applied:
    """One apply on its way; `existed` and `warnings` are known once it was carried out."""

    target: Target
    config: Object
    manager: str
    force: bool
    mode: FieldValidation
    existed: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: Request, target: Target, config: Object) -> Applied:
        """What a request asks for. Raises ApiError 400, 422."""
        if request.identity.role == "robot":  # what it applied would stay when people let go of it
            raise ApiError(403, "Forbidden", "a robot's key can't apply: it reports, and patches its own Robot")
        force, manager = options.force(request, True), options.manager(request)
        check_place(target, config)
        rules.check_type(target.kind, config)
        check_name(target, config)
        if config["metadata"].get("managedFields"):
            raise ApiError.bad_request("metadata.managedFields must be nil")
        return cls(target, config, manager, force, options.mode(request))

    def to(self, current: Object | None, context: Context | None) -> Object:
        """The admitted object that comes of it; the current one itself where nothing changes.

        Without a context it is a trial. Raises ApiError 400, 409, 422.
        """
        self.existed = current is not None
        now = times.to_text(context.now if context else datetime.now(UTC))
        merged, entries = self._merged(current, now)
        owned = objects.owned_as({"metadata": {"managedFields": entries}}, merged)
        said = self.config["metadata"]
        meant = {key: said[key] for key in ("uid", "resourceVersion") if said.get(key)}
        if current is not None and not meant and patches.json_equal(owned, current):
            return current
        return self._admitted(current, {**owned, "metadata": {**owned["metadata"], **meant}})

    def _merged(self, current: Object | None, now: str) -> tuple[Object, list[Object]]:
        target, kind = self.target, self.target.kind
        try:
            return ownership.applied(
                object_schema(kind), current, self.config, self.manager, now, kind.api_version, self.force,
                target.subresource or "",
            )
        except ownership.ApplyConflict as conflict:
            raise ownership.conflict_error(conflict) from None
        except ownership.Untyped as why:
            said = f"{why.path}: (hidden) does not fit the schema" if kind.sealed else str(why)
            named = f"{target.namespace}/{target.name}" if kind.namespaced else f"/{target.name}"
            what = f"failed to create typed patch object ({named}; {kind.api_version}, Kind={kind.kind}): {said}"
            raise ApiError.bad_request(what) from None

    def _admitted(self, current: Object | None, obj: Object) -> Object:
        if self.target.subresource == "status" and current is not None:
            admitted, warnings = rules.admit_status(self.target.kind, with_status(current, obj), self.mode)
            admitted = objects.owned_as(obj, admitted)
        else:
            admitted, warnings = rules.admit(self.target.kind, without_status(self.target.kind, obj), self.mode)
        self.warnings = tuple(warnings)
        return admitted
