"""In what form does the caller want the answer? Read from the Accept header as a Kubernetes API server reads it.

The first form of the header that we have is taken. JSON is what everything else falls back to; who accepts nothing
that we have is refused with 406.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from casare_api.machinery.errors import ApiError

Shape = Literal["whole", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
_JSON = frozenset({"application/json", "application/*", "*/*"})
_YAML = "application/yaml"
_OFFERED = ("application/json", "application/yaml")
_META = "meta.k8s.io"


@dataclass(frozen=True, slots=True)
class Form:
    """What is sent: whole objects, a table or metadata alone; as JSON or YAML."""

    shape: Shape = "whole"
    yaml: bool = False


WHOLE = Form()


@dataclass(frozen=True, slots=True)
class _Range:
    """One part of an Accept header: a media type with its parameters."""

    type: str
    parameters: tuple[tuple[str, str], ...]

    def parameter(self, name: str) -> str:
        return dict(self.parameters).get(name, "")


@lru_cache(maxsize=256)
def form(accept: str) -> Form:
    """The form that an Accept header asks for. Raises ApiError 406."""
    if not accept.strip():
        return WHOLE
    for wanted in _ranges(accept):
        found = _form(wanted)
        if found is not None:
            return found
    raise ApiError.not_acceptable(_OFFERED)


@lru_cache(maxsize=256)
def aggregated_version(accept: str) -> str | None:
    """Which version of aggregated discovery is asked for before plain JSON; None for the plain lists."""
    for wanted in _ranges(accept):
        if wanted.type not in _JSON:
            continue
        if wanted.parameter("as") == "APIGroupDiscoveryList" and wanted.parameter("g") == "apidiscovery.k8s.io":
            if wanted.parameter("v") in ("v2", "v2beta1"):
                return wanted.parameter("v")
            continue
        return None
    return None


def _form(wanted: _Range) -> Form | None:
    if wanted.type != _YAML and wanted.type not in _JSON:
        return None
    shape = wanted.parameter("as")
    yaml = wanted.type == _YAML
    if not shape:
        return Form("whole", yaml)
    if wanted.parameter("g") != _META or wanted.parameter("v") not in ("v1", "v1beta1"):
        return None
    if shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
        return Form(shape, yaml)  # type: ignore[arg-type]
    return None


def _ranges(accept: str) -> Iterator[_Range]:
    for part in accept.split(",")[:32]:
        type_, *parameters = (piece.strip() for piece in part.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield _Range(type_.lower(), tuple((key.strip().lower(), value.strip()) for key, _, value in pairs))
