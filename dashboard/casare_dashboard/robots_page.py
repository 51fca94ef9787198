"""The page Robots: who is there, what they are doing, and everything about the one that is chosen."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from casare_api.kinds import Object, dig
from casare_dashboard import declaring, deeds, event_views, grid, job_views, parts, robot_deeds, robot_views
from casare_dashboard.session import Session, current

_GRID = "robots_grid"


def show() -> None:
    """Draw the page."""
    session = current()
    namespace = (session.namespace or session.client.config.namespace) if session else None
    if session is not None and namespace and session.may("create", "Robot", namespace):
        declaring.form(session, namespace)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search",
            key="robots_text",
            placeholder="Name, tag, capability, host …",
            icon=":material/search:",
            live=True,
        )
        wanted = st.pills("Status", robot_views.STATUSES, selection_mode="multi", key="robots_status")
    _live(text or "", tuple(wanted))


@parts.live
def _live(session: Session, text: str, wanted: tuple[str, ...]) -> None:
    view = session.robots.read()
    now = datetime.now(UTC)
    parts.server_line(view, session.server)
    if view.value is None:
        return
    if not view.value:
        _nobody()
        return
    parts.tally(len(view.value), "robot", robot_views.tally(view.value))
    found = robot_views.matching(view.value, text, wanted)
    if not found:
        st.info(
            "No robot fits the filter. Clear the search or the status to see all.", icon=":material/filter_alt_off:"
        )
        return
    if len(found) > robot_views.MOST:
        st.caption(f"The first {robot_views.MOST:,} of {len(found):,} by name. Search to see others.")
    chosen = _table(found[: robot_views.MOST], now)
    robot = next((one for one in view.value if dig(one, "metadata", "uid") == chosen), None)
    if robot is None:
        st.caption("Choose a robot to see its details.")
    else:
        _details(session, robot, view.problem is None, now)


def _table(found: list[Object], now: datetime) -> str | None:
    columns = {
        "Name": st.column_config.TextColumn("Name", width=200),
        "Status": grid.status_column(robot_views.STATUSES, 130),
        "Slots": st.column_config.TextColumn("Slots", width=75, help="Jobs it runs, of how many it takes at once"),
        "Environment": st.column_config.TextColumn("Environment", width=110),
        "Capabilities": st.column_config.ListColumn("Capabilities", width=260),
        "Last seen": st.column_config.Column("Last seen", width=90, help="Time since its last sign of life"),
        "Age": st.column_config.Column("Age", width=80),
    }
    if len({dig(robot, "metadata", "namespace") for robot in found}) > 1:
        columns["Namespace"] = st.column_config.TextColumn("Namespace", width=100)
    return grid.choose(robot_views.rows(found, now), _GRID, columns)


def _details(session: Session, robot: Object, server_is_there: bool, now: datetime) -> None:
    focus = session.look_at("Robot", robot)
    with st.container(border=True, key="details"):
        _head(session, robot, server_is_there)
        parts.facts(robot_views.details(robot, now))
        jobs = (session.jobs.read() if server_is_there else session.jobs.peek()).value or []
        st.markdown("**Jobs in hand**")
        parts.small_table(
            [
                {"Job": row["Name"], "Status": row["Status"][0], "Workflow": row["Workflow"], "Says": row["Says"]}
                for row in job_views.rows(robot_views.jobs_on(robot, jobs), now)
            ],
            "It runs no job now.",
        )
        st.markdown("**Conditions**")
        parts.small_table(robot_views.conditions(robot, now), "None yet: they come with its first sign of life.")
        events = (focus.events.read() if server_is_there else focus.events.peek()).value or []
        st.markdown("**Events**")
        parts.small_table(event_views.rows(events, now), "Nothing was recorded lately.")


def _head(session: Session, robot: Object, server_is_there: bool) -> None:
    may = server_is_there and session.may("patch", "Robot", dig(robot, "metadata", "namespace"))
    possible = robot_deeds.deeds(robot) if may else []
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        title = f"{parts.escaped(robot_views.title(robot))} {parts.badges(robot_views.statuses(robot))}"
        st.subheader(title, anchor=False, width="content")
        with st.container(horizontal=True, width="content"):
            deeds.buttons(session, robot, possible)
    deeds.outcome(session, robot, possible)


def _nobody() -> None:
    st.info(
        "No robot is known yet. Start an agent on a computer, or declare one:  \n"
        "`casare up --robots 1` starts one here, `casare apply -f robots.yaml` declares one.",
        icon=":material/smart_toy:",
    )
