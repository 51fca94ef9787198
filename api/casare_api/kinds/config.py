"""ConfigMap and Secret: what workflows and people need to know and nobody wants to write into a job.

Both are as in Kubernetes. A Secret's values travel as base64; the store keeps them sealed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from casare_api.kinds.kind import AGE, NAME, Cell, Column, Kind, Model, Object, ObjectMeta, Word, column

MAX_DATA = 2**20  # bytes of all values of one object, as in Kubernetes
LONGEST_KEY = 253
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_BASE64 = {"type": "string", "format": "byte"}
_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    f"or 'key-name', regex used for validation is '{_KEY.pattern}')"
)


def decode(text: str) -> bytes:
    """The bytes that base64 stands for; line breaks in it don't count. ValueError, which never quotes the text."""
    try:
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError:
        raise ValueError("must be base64") from None


def _key(text: str) -> str:
    if len(text) > LONGEST_KEY:
        raise ValueError(f"must be no more than {LONGEST_KEY} characters")
    if not _KEY.fullmatch(text):
        raise ValueError(_KEY_RULE)
    if text == "." or text.startswith(".."):
        raise ValueError("must not be '.' and must not start with '..'")
    return text


def _base64(text: str) -> str:
    decode(text)
    return text


def _check_size(sizes: Iterable[int]) -> None:
    if sum(sizes) > MAX_DATA:
        told = "Too long: may not be more than {limit} bytes"
        raise PydanticCustomError("of_field", told, {"limit": MAX_DATA, "field": "data", "reason": "FieldValueTooLong"})


Key = Annotated[str, AfterValidator(_key)]
Base64 = Annotated[str, AfterValidator(_base64), WithJsonSchema(_BASE64)]
_FROZEN = "Whether the data can't be changed any more; this can't be taken back."


class ConfigMap(Model):
    """Settings, by key."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    data: dict[Key, str] | None = Field(None, description="Texts by key; a key holds letters, digits, '-', '_', '.'.")
    binary_data: dict[Key, Base64] | None = Field(
        None, description="What is no text, as base64 by key; a key is either here or in data."
    )
    immutable: bool | None = Field(None, description=_FROZEN)

    @model_validator(mode="after")
    def _is_bounded_and_clear(self) -> ConfigMap:
        texts, binaries = self.data or {}, self.binary_data or {}
        for key in texts.keys() & binaries.keys():
            told = 'Invalid value: "{key}": duplicate of key present in binaryData'
            context = {"key": key, "field": f"data[{key}]", "reason": "FieldValueInvalid"}
            raise PydanticCustomError("of_field", told, context)
        _check_size(len(value) for value in (*map(str.encode, texts.values()), *map(decode, binaries.values())))
        return self


class Secret(Model):
    """Passwords, tokens and keys, by key."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    type: Word = Field("Opaque", description="What the secret is for, so that programs know its keys.")
    data: dict[Key, Base64] | None = Field(
        None, description="Values as base64 by key; a key holds letters, digits, '-', '_', '.'."
    )
    string_data: dict[Key, str] | None = Field(
        None, description="Values as plain text, for writing only: each becomes a value of data, over one of its key."
    )
    immutable: bool | None = Field(None, description=_FROZEN)

    @model_validator(mode="after")
    def _is_bounded(self) -> Secret:
        texts = self.string_data or {}
        kept = (text for key, text in (self.data or {}).items() if key not in texts)
        _check_size(len(value) for value in (*map(decode, kept), *map(str.encode, texts.values())))
        return self


def _count(obj: Object, now: datetime) -> Cell:
    return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})


_DATA = Column("Data", _count, description="How many keys there are.")

CONFIGMAP = Kind(
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    short_names=("cm",),
    group="",
    model=ConfigMap,
    categories=(),
    columns=(NAME, _DATA, AGE),
    description="Settings by key, for workflows and people to look up.",
)

SECRET = Kind(
    kind="Secret",
    plural="secrets",
    singular="secret",
    group="",
    model=Secret,
    categories=(),
    sealed=True,
    fields={"type": ("type",)},
    columns=(NAME, column("Type", "type", description="What the secret is for."), _DATA, AGE),
    description="Passwords, tokens and keys, kept sealed in the database.",
)
