"""What can a person do to the one that is looked at? Buttons, a question before what is hard to undo, and the outcome.

Callbacks act: a click must not be lost to a redraw that comes in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from casare_api.kinds import KINDS, Object, dig
from casare_api.machinery.errors import ApiError
from casare_client.errors import Unreachable
from casare_dashboard import parts
from casare_dashboard.session import Session

_ASKED, _TROUBLE = "deed_asked", "deed_trouble"


@dataclass(frozen=True, slots=True)
class Deed:
    """One change of one object: `patch` makes the merge patch; a `question` is asked first, where there is one.

    `done` is what happens to the object in words that follow "was": "cancelled".
    """

    key: str
    label: str
    done: str
    patch: Callable[[], Object]
    question: str = ""
    yes: str = "Yes"
    no: str = "Leave it"


def buttons(session: Session, obj: Object, deeds: Sequence[Deed]) -> None:
    """A button for each of them, in the container that is open."""
    for deed in deeds:
        act, args = (_ask, (_what(obj, deed),)) if deed.question else (_do, (session, obj, deed))
        is_asked = st.session_state.get(_ASKED) == _what(obj, deed)
        st.button(deed.label, key=deed.key, width="content", disabled=is_asked, on_click=act, args=args)


def outcome(session: Session, obj: Object, deeds: Sequence[Deed]) -> None:
    """The question that was asked last, or why the last deed did not succeed."""
    for deed in deeds:
        if st.session_state.get(_ASKED) == _what(obj, deed):
            _confirm(session, obj, deed)
    uid, trouble = st.session_state.get(_TROUBLE) or (None, "")
    if uid == dig(obj, "metadata", "uid"):
        st.error(parts.escaped(trouble), icon=":material/error:")


def _what(obj: Object, deed: Deed) -> tuple[str, str]:
    return str(dig(obj, "metadata", "uid")), deed.key


def _confirm(session: Session, obj: Object, deed: Deed) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(parts.escaped(deed.question), width="content")
        act = (session, obj, deed)
        st.button(deed.yes, type="primary", key=f"{deed.key}_yes", width="content", on_click=_do, args=act)
        st.button(deed.no, key=f"{deed.key}_no", width="content", on_click=_ask, args=(None,))


def _ask(what: tuple[str, str] | None) -> None:
    """What is asked about; None: nothing any more."""
    st.session_state[_ASKED] = what
    st.session_state[_TROUBLE] = None


def _do(session: Session, obj: Object, deed: Deed) -> None:
    _ask(None)
    metadata, kind = obj["metadata"], str(obj["kind"])
    called = KINDS[kind].singular
    try:
        session.client.patch(kind, metadata["name"], deed.patch(), metadata["namespace"])
    except ApiError as error:
        st.session_state[_TROUBLE] = (metadata["uid"], f"The {called} was not {deed.done}: {error.message}")
    except Unreachable as error:
        st.session_state[_TROUBLE] = (metadata["uid"], f"Whether the {called} was {deed.done} is not known: {error}")
    session.changed(kind)
