"""How is a kind written whose objects are stored as another one's? Above the writer all is in the caller's form.

Patches, owners, admission and messages know that form alone; what is stored is turned into it before the change, and
back behind it.
"""

from __future__ import annotations

from dataclasses import replace

from casare_api.kinds import Object
from casare_api.machinery.admission import name_of
from casare_api.machinery.errors import ApiError
from casare_store.operations import Context, Operation
from casare_store.writer import Writer


async def write(writer: Writer, operation: Operation) -> Object | None:
    """Carries an operation out; its result in the form of the operation's kind."""
    face = operation.kind.face
    made = await writer.write(on_stored(operation))
    return made if face is None or made is None else face.from_stored(made)


def on_stored(operation: Operation) -> Operation:
    """The operation as it is on what is stored. It fails with 422 for what the face does not allow."""
    face = operation.kind.face
    if face is None:
        return operation

    def mutate(current: Object | None, context: Context) -> Object | None:
        before = None if current is None else face.from_stored(current)
        after = operation.mutate(before, context)
        if after is before:
            return current
        if after is None:
            return None
        new = face.to_stored(after)
        if problems := face.problems(current, new):
            raise ApiError.invalid(face.stored, name_of(new), problems)
        return new

    return replace(operation, kind=face.stored, mutate=mutate)
