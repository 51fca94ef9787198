"""How do secrets lie in the database? Sealed: what a Secret holds is one field of ciphertext in its row and in the log.

AES-256-GCM with a fresh 96-bit nonce each time. The key is derived from a text that only apiservers know; its id stands
in the envelope, so that a wrong key is told in words, and one key can follow another (see `resealing`): one seals, all
that are known open. The envelope is bound to its object: pasted into another one it
can't be opened. Labels, names and who owns which field stay readable; annotations are sealed with the data, since
`kubectl apply` writes all of it into one.

Objects are opened as a batch reads them under the lock, and sealed as it writes them. What can't be opened, for want of
the key or because it is broken, stays as it is: it can be deleted and never be overwritten.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError

SEALED = "sealed"  # the field that holds the envelope
VERSION = "v1"
LEAST = 32  # characters of a key's text
_FIELDS = ("data", "stringData")
_NONCE = 12  # bytes
MOST_FALLBACKS = 4
KEY_OF = "substring({} FROM '\"sealed\":\"v1:([0-9a-f]{{1,16}}):')"  # SQL: the key that an object's text is sealed with
_SET_KEY = "set CASARE_SECRET_KEY (or CASARE_SECRET_KEY_FILE) of the apiserver"
_FALLBACK = "CASARE_SECRET_KEY_FALLBACKS"


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals objects with one key, and opens those of that key and of its fallbacks. Made by `from_text`."""

    key_id: str  # of the key that seals
    _boxes: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_text(cls, text: str, fallbacks: Iterable[str] = ()) -> Sealer:
        """The sealer of a key that is any text of at least 32 characters, and of others that open and never seal.

        Raises ValueError in one line.
        """
        key_id, box = _key(text, "CASARE_SECRET_KEY")
        others = dict(_key(other, f"each key of {_FALLBACK}") for other in fallbacks)
        others.pop(key_id, None)
        if len(others) > MOST_FALLBACKS:
            raise ValueError(f"{_FALLBACK}: there are {len(others)} keys, and {MOST_FALLBACKS} are the most")
        return cls(key_id, {key_id: box, **others})

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The keys that it opens with, first the one that it seals with."""
        return tuple(self._boxes)

    def seal(self, obj: Object) -> Object:
        """The object with its data and annotations in one sealed field."""
        kept, clear = _apart(obj)
        return {**kept, SEALED: self._envelope(obj, orjson.dumps(clear))}

    def open(self, obj: Object) -> Object:
        """The inverse of `seal`. Raises ApiError 503 for an unknown key's envelope, 500 for a broken one."""
        if not is_sealed(obj):
            return obj
        return _together(obj, self._clear(obj))

    def reseal(self, obj: Object) -> Object:
        """A sealed object under the key that seals now; the rest of it stays as it is. Raises as `open`."""
        return {**obj, SEALED: self._envelope(obj, orjson.dumps(self._clear(obj)))}

    def _envelope(self, obj: Object, clear: bytes) -> str:
        nonce = secrets.token_bytes(_NONCE)
        box = nonce + self._boxes[self.key_id].encrypt(nonce, clear, _bound_to(obj))
        return f"{VERSION}:{self.key_id}:{base64.b64encode(box).decode()}"

    def _clear(self, obj: Object) -> Any:
        version, key_id, text = _parts(obj)
        if version != VERSION or key_id not in self._boxes:
            here = ", ".join(self.key_ids)
            raise _wrong_key(obj, key_id, f"this server has {here}: {_SET_KEY} to that one, or name it in {_FALLBACK}")
        from cryptography.exceptions import InvalidTag

        try:
            box = base64.b64decode(text, validate=True)
            return orjson.loads(self._boxes[key_id].decrypt(box[:_NONCE], box[_NONCE:], _bound_to(obj)))
        except (InvalidTag, ValueError):
            raise _broken(obj) from None

    def open_text(self, text: bytes) -> bytes:
        """The same for an object's JSON."""
        return orjson.dumps(self.open(orjson.loads(text)))


def writer_name(sealer: Sealer | None) -> str:
    """How a writer's connections are called, so that everybody can see its keys: see `resealing.servers`."""
    return "writer" if sealer is None else f"writer {'+'.join(sealer.key_ids)}"


async def sealed_with(pool: Any) -> dict[str, int]:
    """How many Secrets are sealed with which key, by its id."""
    query = f"SELECT {KEY_OF.format('head || tail')} AS key, count(*) FROM secrets GROUP BY key"
    async with pool.connection() as connection:
        rows = await (await connection.execute(query)).fetchall()
    return {str(key): int(count) for key, count in rows if key}


def is_sealed(obj: Object) -> bool:
    return SEALED in obj


def opened(sealer: Sealer | None, obj: Object) -> Object:
    """The object in clear if it can be opened here, else as it is."""
    try:
        return obj if sealer is None else sealer.open(obj)
    except ApiError:
        return obj


def sealed(sealer: Sealer | None, obj: Object) -> Object:
    """The object as it is kept. Raises ApiError 503 where that takes a key and there is none, 500 for a broken one."""
    if is_sealed(obj) and not _apart(obj)[1]:
        return obj  # an envelope that nobody opened
    if sealer is None:
        raise ApiError.unavailable(f'Secret "{obj["metadata"]["name"]}" can\'t be written without a key: {_SET_KEY}')
    check_open(sealer, obj)
    return sealer.seal(obj)


def is_resealed(obj: Object, before: Object) -> bool:
    """Whether one is the other, sealed with another key."""
    if not (is_sealed(obj) and is_sealed(before)) or _parts(obj)[1] == _parts(before)[1]:
        return False
    return {**obj, SEALED: ""} == {**before, SEALED: ""}


def check_open(sealer: Sealer | None, obj: Object) -> None:
    """Refuses to change what could not be opened: a write would lose what is in it. Raises as `Sealer.open`."""
    if not is_sealed(obj):
        return
    if sealer is not None:
        sealer.open(obj)  # says why not
    raise _wrong_key(obj, _parts(obj)[1], f"this server can't open it: {_SET_KEY} to that one")


def check_same(sealer: Sealer | None, old: Object | None, new: Object | None) -> None:
    """Refuses a change that would lose an envelope which could not be opened. Raises as `Sealer.open`."""
    if old is not None and new is not None and is_sealed(old) and new.get(SEALED) != old[SEALED]:
        check_open(sealer, old)


def _apart(obj: Object) -> tuple[Object, Object]:
    """What may be read by everybody, and what not."""
    meta = obj["metadata"]
    clear = {key: obj[key] for key in _FIELDS if key in obj}
    kept = {key: value for key, value in obj.items() if key not in _FIELDS}
    if meta.get("annotations"):
        clear["annotations"] = meta["annotations"]
    if "annotations" in meta:
        kept["metadata"] = {key: value for key, value in meta.items() if key != "annotations"}
    return kept, clear


def _together(obj: Object, clear: Object) -> Object:
    meta = obj["metadata"]
    if "annotations" in clear:
        meta = {**meta, "annotations": clear["annotations"]}
    out: Object = {}
    for key, value in obj.items():
        if key == SEALED:
            out |= {name: clear[name] for name in _FIELDS if name in clear}
        else:
            out[key] = meta if key == "metadata" else value
    return out


def _bound_to(obj: Object) -> bytes:
    """What an envelope is good for: this very object."""
    meta = obj["metadata"]
    return orjson.dumps([obj["kind"], meta.get("namespace") or "", meta["name"], meta["uid"]])


def _parts(obj: Object) -> tuple[str, str, str]:
    """Version, key id and box of an envelope. Raises ApiError 500."""
    parts = str(obj[SEALED]).split(":")
    if len(parts) != 3:
        raise _broken(obj)
    return parts[0], parts[1], parts[2]


def _key(text: str, setting: str) -> tuple[str, Any]:
    """A key's id and its cipher. Raises ValueError for a text that is too short."""
    # Only who has a key needs what it takes to use it: the controller has none.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    text = text.strip()
    if len(text) < LEAST:
        raise ValueError(f"the secret key is too short: {setting} needs at least {LEAST} characters")
    return _derived(text, b"id", 4).hex(), AESGCM(_derived(text, b"key", 32))


def _derived(text: str, purpose: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt=None, info=b"casare fleet secrets v1: " + purpose).derive(text.encode())


def _wrong_key(obj: Object, key_id: str, why: str) -> ApiError:
    return ApiError.unavailable(f'Secret "{obj["metadata"]["name"]}" is sealed with the key {key_id[:16]}, and {why}')


def _broken(obj: Object) -> ApiError:
    name = obj["metadata"]["name"]
    why = "its envelope is another one's or broken: delete it, then create it anew"
    return ApiError.internal(f'Secret "{name}" can\'t be opened: {why}')
