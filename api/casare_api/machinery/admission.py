"""Is this object right, and what does it say once defaults are filled in?

What a person wrote keeps its order; defaults are added behind it; nulls mean "not set". Every problem names the
field, what was found and what is allowed. Admitting what was admitted changes nothing. Nothing here looks at other
objects: that is the store's admission.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from math import isfinite
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from casare_api.kinds.kind import Kind, Object, ObjectMeta, Uniform, dig
from casare_api.machinery import names
from casare_api.machinery.duplicates import duplicates
from casare_api.machinery.errors import ApiError, Cause
from casare_api.machinery.names import LONGEST_NAME

FieldValidation = Literal["Strict", "Warn", "Ignore"]
MAX_ANNOTATIONS = 256 * 1024  # bytes, as in Kubernetes
MAX_DEPTH = 100
MAX_VALUES = 100_000  # in one object; more of them are data and belong into a file
MAX_CAUSES = 20  # told at once
HIDDEN = "(hidden)"  # in place of a value of a sealed kind


def admit(kind: Kind, obj: Any, mode: FieldValidation = "Strict") -> tuple[Object, list[str]]:
    """The object with its defaults, and warnings for people.

    Raises ApiError 400 for what is no object of this kind or (Strict) has unknown fields, 422 with one cause per
    wrong field otherwise.
    """
    check_storable(obj, kind.sealed)
    check_type(kind, obj)
    model, obj, unknown = _parse(kind, obj, mode)
    problems = check_metadata(kind, obj.get("metadata") or {}) + duplicates(kind, obj)
    if problems:
        raise _invalid_object(kind, obj, problems)
    warnings = [f'unknown field "{field}"' for field in unknown] if mode == "Warn" else []
    warnings += [
        f"{path} has no effect yet"
        for path, harmless in kind.not_yet.items()
        if dig(obj, *path.split(".")) not in (None, harmless)
    ]
    return _fill(model, obj), warnings


def admit_status(kind: Kind, whole: Object, mode: FieldValidation = "Strict") -> tuple[Object, list[str]]:
    """Like `admit`, for an object of which only the status is new: the rest was admitted before."""
    try:
        _status_model(kind).model_validate(whole.get("status") or {})
    except ValidationError:
        return admit(kind, whole, mode)  # which says where and why
    return whole, []


def name_of(obj: Mapping[str, Any]) -> str:
    """The name (or generateName) that an object goes by in messages; "" where it has none."""
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    return str(meta.get("name") or meta.get("generateName") or "")


def check_type(kind: Kind, obj: Any) -> None:
    """Refuses what is no object of this kind that could be kept: fills in apiVersion and kind, looks no deeper.

    Raises ApiError 400, 422.
    """
    if not isinstance(obj, dict):
        raise ApiError.bad_request(f"the body must be an object of kind {kind.kind}")
    for key, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        obj[key] = wanted if obj.get(key) is None else obj[key]
    if obj["kind"] != kind.kind:
        raise _invalid_object(kind, obj, [_invalid("kind", obj["kind"], f"must be {kind.kind}")])
    if obj["apiVersion"] != kind.api_version:
        raise ApiError.bad_request(
            f"the API version in the data ({str(obj['apiVersion'])[:80]}) does not match the expected API version "
            f"({kind.api_version})"
        )
    if not isinstance(obj.get("metadata"), dict):
        raise _invalid_object(kind, obj, [Cause("metadata", "FieldValueRequired", "Required value: an object")])


def check_storable(value: Any, is_hidden: bool = True) -> None:
    """Refuses what Postgres or JSON can't keep: NUL characters, lone surrogates, NaN, too deep, too many.

    Raises ApiError 400, which shows no text that `is_hidden`. Needs no recursion.
    """
    level, depth, count = [value], 0, 0
    while level:
        count += len(level)
        if depth > MAX_DEPTH:
            raise ApiError.bad_request(f"the object is nested deeper than {MAX_DEPTH} levels")
        if count > MAX_VALUES:
            raise ApiError.bad_request(f"the object has more than {MAX_VALUES} values: data belongs into a file")
        below: list[Any] = []
        for item in level:
            found = item.__class__
            if found is str:
                _check_text(item, is_hidden)
            elif found is dict:
                for key in item:
                    _check_key(key, is_hidden)
                below.extend(item.values())
            elif found is list:
                below.extend(item)
            elif found is float and not isfinite(item):
                raise ApiError.bad_request("a number must be finite")
        level, depth = below, depth + 1


def _check_key(key: Any, is_hidden: bool) -> None:
    if key.__class__ is not str:
        raise ApiError.bad_request(f"key {_show(key)} must be a string")
    _check_text(key, is_hidden)


def _check_text(text: str, is_hidden: bool) -> None:
    if "\x00" in text or (not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)):
        shown = HIDDEN if is_hidden else ascii(text if len(text) <= 40 else text[:37] + "...")
        raise ApiError.bad_request(f"text must not hold NUL characters or lone surrogates, found {shown}")


def check_metadata(kind: Kind, meta: Mapping[str, Any]) -> list[Cause]:
    """What is wrong with names, labels, annotations and finalizers."""
    check_own_name = names.check_name if kind.namespaced else names.check_dns_label
    check_begin = _check_prefix
    if kind.is_path_named:
        check_own_name, check_begin = names.check_path_segment, _check_path_prefix
    checks = (("name", check_own_name), ("generateName", check_begin), ("namespace", names.check_dns_label))
    causes: list[Cause] = []
    for field, check in checks:
        text = meta.get(field)
        problem = check(text) if text else None
        if problem:
            causes.append(_invalid(f"metadata.{field}", text, problem))
    for text in meta.get("finalizers") or ():
        problem = names.check_label_key(text)
        if problem:
            causes.append(_invalid("metadata.finalizers", text, problem))
    for key, value in (meta.get("labels") or {}).items():
        problem = names.check_label_key(key) or names.check_label_value(value)
        if problem:
            causes.append(_invalid("metadata.labels", f"{key}={value}", problem))
    annotations = meta.get("annotations") or {}
    for key in annotations:
        problem = names.check_label_key(key)
        if problem:
            causes.append(_invalid("metadata.annotations", key, problem))
    size = sum(len(key) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS:
        too_long = f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
        causes.append(Cause("metadata.annotations", "FieldValueTooLong", too_long))
    return causes


# -- steps -------------------------------------------------------------------------------------------------------


def _check_prefix(prefix: str) -> str | None:
    """The problem with a generateName: what is generated from it must be a name."""
    return names.check_name(names.generate(prefix))


def _check_path_prefix(prefix: str) -> str | None:
    return names.check_path_segment(names.generate(prefix))


def _invalid_object(kind: Kind, obj: Any, causes: Sequence[Cause]) -> ApiError:
    """422 with the first causes, and how many more there are."""
    told = list(causes[:MAX_CAUSES])
    if len(causes) > MAX_CAUSES:
        told.append(Cause("", "FieldValueInvalid", f"and {len(causes) - MAX_CAUSES} more"))
    return ApiError.invalid(kind, name_of(obj)[:253], told)


def _parse(kind: Kind, obj: Object, mode: FieldValidation) -> tuple[BaseModel, Object, list[str]]:
    """The validated model, the object without its unknown fields, and their paths."""
    try:
        return kind.model.model_validate(obj), obj, []
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=True)
    unknown = [one for one in problems if one["type"] == "extra_forbidden"]
    wrong = [one for one in problems if one["type"] != "extra_forbidden"]
    paths = [_path(one["loc"]) for one in unknown]
    if unknown and mode == "Strict" and not wrong:
        raise _unknown_fields(kind, unknown)
    if wrong:
        causes = [_cause(kind, obj, one) for one in (*wrong, *(unknown if mode == "Strict" else ()))]
        raise _invalid_object(kind, obj, causes)
    for one in unknown:
        obj = _drop(obj, one["loc"])
    model, obj, more = _parse(kind, obj, mode)  # rules across fields speak up once each field is right
    return model, obj, [*paths, *more]


def _unknown_fields(kind: Kind, unknown: Sequence[Any]) -> ApiError:
    listed = ", ".join(f'unknown field "{_path(one["loc"])}"' for one in unknown[:MAX_CAUSES])
    message = (
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: strict decoding error: {listed}'
    )
    causes = [_cause(kind, {}, one) for one in unknown[:MAX_CAUSES]]
    return ApiError(400, "BadRequest", message, {"causes": [one.body() for one in causes]})


def _path(loc: Sequence[str | int]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _drop(obj: Any, loc: Sequence[str | int]) -> Any:
    """A copy of the object without the value at a path."""
    head, *rest = loc
    if isinstance(obj, list):
        return [_drop(item, rest) if index == head else item for index, item in enumerate(obj)]
    if not rest:
        return {key: value for key, value in obj.items() if key != head}
    return {key: _drop(value, rest) if key == head else value for key, value in obj.items()}


def _cause(kind: Kind, obj: Object, error: Any) -> Cause:
    field, context, found = _path(error["loc"]), error.get("ctx") or {}, error["type"]
    if error["loc"][-1:] == ("[key]",):  # what is wrong is the key of a map, which is no secret
        key = str(error["loc"][-2])
        field = f"{_path(error['loc'][:-2])}[{key[:LONGEST_NAME]}]"
        return Cause.invalid(field, key, str(context.get("error") or _words(error)))
    value = _Hidden() if kind.sealed else _value_at(obj, error["loc"])
    if found == "extra_forbidden":
        allowed = ", ".join(_fields_at(kind.model, error["loc"][:-1]))
        return Cause(field, "FieldValueForbidden", f"unknown field; allowed here: {allowed}" if allowed else "unknown")
    if found == "missing":
        wanted = _wanted_at(kind.model, error["loc"])
        return Cause(field, "FieldValueRequired", f"Required value: {wanted}" if wanted else "Required value")
    if found in ("literal_error", "enum"):
        allowed = context.get("expected", "").replace(" or ", ", ").replace("'", '"')
        return Cause(field, "FieldValueNotSupported", f"Unsupported value: {_show(value)}: supported values: {allowed}")
    if found == "of_field":  # a rule across fields that says itself which one is wrong, and how
        said = context["field"]
        return Cause(f"{field}.{said}" if field else said, context["reason"], error["msg"])
    if found == "value_error":
        return _from_rule(field, value, str(context.get("error")))
    message = _words(error)
    reason = "FieldValueTypeInvalid" if found.endswith("_type") else "FieldValueInvalid"
    return Cause(field, reason, f"Invalid value: {_show(value)}: {message}")


def _from_rule(field: str, value: Any, said: str) -> Cause:
    """A rule of ours: `child: required ...` names a field below, anything else speaks of the value itself."""
    child, _, rest = said.partition(": required")
    if rest and child.isidentifier():
        return Cause(f"{field}.{child}", "FieldValueRequired", f"Required value: {rest.lstrip(': ')}")
    if isinstance(value, (dict, list)):
        return Cause(field, "FieldValueInvalid", f"Invalid value: {said}")
    return Cause(field, "FieldValueInvalid", f"Invalid value: {_show(value)}: {said}")


_PLAIN: dict[Any, str] = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_RANGE = {"greater_than_equal": "ge", "less_than_equal": "le"}
_TYPES = {
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def _words(error: Any) -> str:
    context, found = error.get("ctx") or {}, error["type"]
    if found in _TYPES:
        return _TYPES[found]
    if found in _RANGE:
        word = "at least" if found == "greater_than_equal" else "at most"
        return f"must be {word} {context[_RANGE[found]]}"
    if found == "string_pattern_mismatch":
        return f"must match {context['pattern']}"
    message = str(error["msg"])
    return message[0].lower() + message[1:]


@cache
def _status_model(kind: Kind) -> type[BaseModel]:
    found: type[BaseModel] = _model_in(kind.model.model_fields["status"].annotation)
    return found


def _fields_at(model: Any, loc: Sequence[str | int]) -> list[str]:
    """The field names a model has at a path, for "allowed here"."""
    for part in loc:
        if not isinstance(part, int):
            model = _model_in(_annotation(model, part))
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _annotation(model: Any, name: str) -> Any:
    """The type of a model's field, None where it has no such field."""
    fields = getattr(model, "model_fields", {})
    return next((field.annotation for own, field in fields.items() if (field.alias or own) == name), None)


def _wanted_at(model: Any, loc: Sequence[str | int]) -> str:
    """What a field that is missing has to be, in words; "" where they would say nothing."""
    *above, last = [part for part in loc if not isinstance(part, int)]
    for part in above:
        model = _model_in(_annotation(model, part))
    wanted = _annotation(model, last)
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(wanted))
    below = _fields_at(_model_in(wanted), ())
    return f"an object with {', '.join(below)}" if below else _PLAIN.get(wanted, "")


def _model_in(annotation: Any) -> Any:
    """The model class inside `X | None`, `list[X]` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def _value_at(obj: Any, loc: Sequence[str | int]) -> Any:
    for part in loc:
        try:
            obj = obj[part]
        except (KeyError, IndexError, TypeError):
            return None
    return obj


class _Hidden:
    """Stands for a value that no message shows."""


def _show(value: Any) -> str:
    """A value as people see it in a message, cut at 80 characters."""
    if isinstance(value, _Hidden):
        return HIDDEN
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "(nested too deep to show)"
    return text if len(text) <= 80 else text[:77] + "..."


def _invalid(field: str, value: Any, why: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {_show(value)}: {why}")


def _fill(model: BaseModel, raw: Mapping[str, Any]) -> Object:
    """What was written, without nulls, then the defaults that were not written."""
    out = {key: value for key, value in raw.items() if value is not None}
    for name, alias in _aliases(type(model)):
        value = getattr(model, name)
        if value is None:
            continue
        written = out.get(alias)
        if isinstance(value, ObjectMeta):
            out[alias] = _without_nothing(written or {})
        elif isinstance(value, BaseModel):
            out[alias] = _fill(value, written or {})
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            out[alias] = [_fill(item, part) for item, part in zip(value, written or [], strict=False)]
        elif alias not in out or isinstance(value, Uniform):
            out[alias] = str(value) if isinstance(value, Uniform) else value
    return out


def _without_nothing(meta: Mapping[str, Any]) -> Object:
    """Metadata without what says nothing, as in Kubernetes; but no managed fields mean: forget all there were."""
    return {key: item for key, item in meta.items() if item or (key == "managedFields" and item is not None)}


_ALIASES: dict[type[BaseModel], tuple[tuple[str, str], ...]] = {}


def _aliases(model: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    known = _ALIASES.get(model)
    if known is None:
        known = tuple((name, field.alias or name) for name, field in model.model_fields.items())
        _ALIASES[model] = known
    return known
