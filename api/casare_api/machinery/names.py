"""What may things be called? As in Kubernetes: what is a name there is a name here.

The ``check_`` functions answer None for a good word and otherwise the problem, in words that follow the field's
path. ``robot_name`` turns any robot id there is into a name, always the same one. ``generate`` is the one place
where chance comes in; its source can be handed in.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from functools import lru_cache

LONGEST_NAME = 253
LONGEST_LABEL = 63
# As in Kubernetes: no vowels (no rude words) and nothing that looks like something else.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
RANDOM_LETTERS = 5

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_RANDOM = random.Random()  # seeded by the system: names have to differ, they are no secret


def check_name(text: str) -> str | None:
    """The problem with an object's name (RFC 1123 subdomain, at most 253 characters), or None."""
    if not text:
        return "must not be empty"
    if len(text) > LONGEST_NAME:
        return f"must be no more than {LONGEST_NAME} characters"
    if not _SUBDOMAIN.fullmatch(text):
        return (
            "must consist of lower case letters, digits, '-' or '.', "
            "and must start and end with a letter or digit (e.g. 'pc-01')"
        )
    return None


def check_dns_label(text: str) -> str | None:
    """The problem with a word that allows no dots, such as a namespace (RFC 1123 label, at most 63), or None."""
    if not text:
        return "must not be empty"
    if len(text) > LONGEST_LABEL:
        return f"must be no more than {LONGEST_LABEL} characters"
    if not _LABEL.fullmatch(text):
        return (
            "must consist of lower case letters, digits or '-', "
            "and must start and end with a letter or digit (e.g. 'finance')"
        )
    return None


def check_path_segment(text: str) -> str | None:
    """The problem with a name that may be whatever stands between two slashes (of roles and bindings), or None."""
    if not text:
        return "must not be empty"
    if len(text) > LONGEST_NAME:
        return f"must be no more than {LONGEST_NAME} characters"
    if text in (".", "..") or "/" in text or "%" in text:
        return "may not be '.' or '..', and may not contain '/' or '%'"
    return None if text.isprintable() else "may contain only characters that can be printed"


@lru_cache(maxsize=4096)
def check_label_key(text: str) -> str | None:
    """The problem with the key of a label, an annotation or a taint: ``site`` or ``example.com/site``, or None."""
    prefix, slash, name = text.rpartition("/")
    if slash and (problem := check_name(prefix)):
        return f"prefix part {problem}"
    if not name:
        return "name part must not be empty"
    if len(name) > LONGEST_LABEL:
        return f"name part must be no more than {LONGEST_LABEL} characters"
    if not _QUALIFIED.fullmatch(name):
        return (
            "name part must consist of letters, digits, '-', '_' or '.', "
            "and must start and end with a letter or digit (e.g. 'site')"
        )
    return None


@lru_cache(maxsize=4096)
def check_label_value(text: str) -> str | None:
    """The problem with the value of a label (may be empty, at most 63 characters), or None."""
    if len(text) > LONGEST_LABEL:
        return f"must be no more than {LONGEST_LABEL} characters"
    if text and not _QUALIFIED.fullmatch(text):
        return (
            "must be empty or consist of letters, digits, '-', '_' or '.', "
            "and must start and end with a letter or digit (e.g. 'berlin')"
        )
    return None


def generate(prefix: str, rng: random.Random | None = None, letters: int = RANDOM_LETTERS) -> str:
    """A name for ``metadata.generateName``: the prefix and five letters (or so many), at most 63 characters in all."""
    return prefix[: LONGEST_LABEL - letters] + "".join((rng or _RANDOM).choices(ALPHABET, k=letters))


def robot_name(robot_id: str) -> str:
    """The object's name for a robot that calls itself ``robot_id``: at most 63 characters, always valid.

    An id that is such a name already stays as it is. Any other becomes a slug of its letters and digits, with six
    hex digits of the id's SHA-256 behind it, since slugs of different ids may be the same (``PC_01``, ``pc 01``).
    """
    if len(robot_id) <= LONGEST_LABEL and check_name(robot_id) is None:
        return robot_id
    digest = hashlib.sha256(robot_id.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    plain = unicodedata.normalize("NFKD", robot_id.casefold()).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[: LONGEST_LABEL - 7].strip("-")
    return f"{slug or 'robot'}-{digest}"
