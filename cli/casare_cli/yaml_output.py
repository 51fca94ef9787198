"""How is JSON written as YAML that reads back as the same JSON, here and in any other YAML 1.1 reader?

Text that some reader would take for a number, a date or a boolean is quoted; text of several lines is a block.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from casare_cli import yaml_text

_TEXT = "tag:yaml.org,2002:str"
_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9.][0-9_.:]*([eE][-+]?[0-9]+)?")  # 08 is eight to some readers
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Careful(_Dumper):  # type: ignore[misc]  # the C dumper has no types
    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """What a reader takes plain text for: PyYAML's own rules, and those that `casare apply` reads by."""
        tag = super().resolve(kind, value, implicit)
        if kind is not yaml.ScalarNode or not implicit[0] or tag != _TEXT:
            return tag
        return _TEXT if _is_text(value) else "tag:yaml.org,2002:other"

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _is_text(value: str) -> bool:
    if _LIKE_A_NUMBER.fullmatch(value):
        return False
    try:
        return isinstance(yaml_text.scalar(value), str)
    except ValueError:
        return False


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar(_TEXT, text, style="|" if "\n" in text else None)


_Careful.add_representer(str, _represent_text)


def dump(value: Any) -> str:
    """The value as YAML, keys in their order."""
    return str(yaml.dump(value, Dumper=_Careful, sort_keys=False, allow_unicode=True, width=120))
