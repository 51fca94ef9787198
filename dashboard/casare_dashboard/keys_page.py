"""The page Keys: who may call the server; make a key, which is shown this once, and take one back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from casare_api.kinds import Object, dig
from casare_api.machinery.errors import ApiError
from casare_client.errors import Unreachable
from casare_dashboard import deeds, grid, key_views, parts
from casare_dashboard.session import Session, current

_GRID = "keys_grid"
_SHOWN = "keys_shown"  # the new key, until its maker has put it away: in this browser session's state alone
_TROUBLE = "keys_trouble"


def show() -> None:
    """Draw the page."""
    session = current()
    namespace = (session.namespace or session.client.config.namespace) if session else None
    if session is not None and namespace and session.may("create", "ApiKey", namespace):
        _new(session, namespace)
    _live()


def _new(session: Session, namespace: str) -> None:
    """The form, and the key that it made."""
    made = st.session_state.get(_SHOWN)
    if made:
        name, key = made
        with st.container(border=True, key="new_key"):
            st.markdown(f"**{parts.escaped(name)}** is made. Copy the key now: nobody can see it again.")
            st.code(key, language=None)
            st.button("I have it", type="primary", on_click=_put_away)
        return
    with st.expander("New key", icon=":material/add:", key="new_key_form"), st.form("key_form", border=False):
        first, second = st.columns(2)
        name = first.text_input("Name", key="key_name", placeholder="pc-01")
        role = second.selectbox("Role", list(key_views.ROLE_MEANS), key="key_role", format_func=_role)
        robot = first.text_input("Robot", key="key_robot", placeholder="the robot's id, for the role robot")
        expires = second.date_input("Good until", value=None, key="key_expires", help="Where not set, until revoked")
        description = st.text_input("Description", key="key_text", placeholder="Whose key it is and what for")
        if st.form_submit_button("Make the key", type="primary"):
            _make(session, lambda: key_views.wanted(name, namespace, role, robot, description, expires))
    if trouble := st.session_state.get(_TROUBLE):
        st.error(parts.escaped(trouble), icon=":material/error:")


def _role(role: str) -> str:
    return f"{role}: {key_views.ROLE_MEANS[role]}"


def _make(session: Session, wanted: Callable[[], Object]) -> None:
    try:
        key = wanted()
        session.client.create(key)
        name = key["metadata"]["name"]
        st.session_state[_SHOWN] = (name, session.client.issue_key(name, key["metadata"]["namespace"]))
        st.session_state[_TROUBLE] = None
        session.changed("ApiKey")
    except ValueError as problem:
        st.session_state[_TROUBLE] = str(problem)
    except ApiError as error:
        st.session_state[_TROUBLE] = f"The key was not made: {error.message}"
    except Unreachable as error:
        st.session_state[_TROUBLE] = f"Whether the key was made is not known: {error}"
    st.rerun()


def _put_away() -> None:
    st.session_state.pop(_SHOWN, None)


@parts.live
def _live(session: Session) -> None:
    view = session.keys.read()
    now = datetime.now(UTC)
    parts.server_line(view, session.server)
    if view.value is None:
        return
    parts.tally(len(view.value), "key", key_views.tally(view.value))
    if not view.value:
        st.info("No key was made yet: whoever is here uses the server's admin key.", icon=":material/key:")
        return
    chosen = _table(view.value, now)
    key = next((one for one in view.value if dig(one, "metadata", "uid") == chosen), None)
    if key is None:
        st.caption("Choose a key to see its details.")
    else:
        _details(session, key, view.problem is None, now)


def _table(keys: list[Object], now: datetime) -> str | None:
    columns = {
        "Name": st.column_config.TextColumn("Name", width=200),
        "Status": grid.status_column(key_views.STATUSES, 100),
        "Role": st.column_config.TextColumn("Role", width=90),
        "Robot": st.column_config.TextColumn("Robot", width=150),
        "Hint": st.column_config.TextColumn("Hint", width=130, help="How the key begins and ends"),
        "Last used": st.column_config.Column("Last used", width=90),
        "Age": st.column_config.Column("Age", width=80),
    }
    if len({dig(key, "metadata", "namespace") for key in keys}) > 1:
        columns["Namespace"] = st.column_config.TextColumn("Namespace", width=100)
    return grid.choose(key_views.rows(keys, now), _GRID, columns)


def _details(session: Session, key: Object, server_is_there: bool, now: datetime) -> None:
    may = server_is_there and session.may("patch", "ApiKey", dig(key, "metadata", "namespace"))
    possible = key_views.deeds(key) if may else []
    with st.container(border=True, key="details"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            name = parts.escaped(str(dig(key, "metadata", "name")))
            st.subheader(f"{name} {parts.badges([key_views.status(key)])}", anchor=False, width="content")
            deeds.buttons(session, key, possible)
        deeds.outcome(session, key, possible)
        parts.facts(key_views.details(key, now))
