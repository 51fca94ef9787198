"""The page Jobs: what runs, waits and has ended, and everything about the one that is chosen, its log too."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from casare_api.kinds import Object, dig
from casare_dashboard import grid, job_details, job_views, parts
from casare_dashboard.session import Session, current

_GRID = "jobs_grid"


def show() -> None:
    """Draw the page."""
    session = current()
    known = (session.jobs.peek().value if session else None) or []
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search",
            key="jobs_text",
            placeholder="Name, robot, parameter …",
            icon=":material/search:",
            live=True,
            persist_state="session",
        )
        chosen = st.session_state.get("jobs_workflow") or []
        workflows = st.multiselect(
            "Workflow",
            sorted({*job_views.workflows(known), *chosen}),
            key="jobs_workflow",
            placeholder="All workflows",
            persist_state="session",
        )
        phases = st.pills("Status", job_views.PHASES, selection_mode="multi", key="jobs_phase", persist_state="session")
    _live(text or "", tuple(phases), tuple(workflows))


@parts.live
def _live(session: Session, text: str, phases: tuple[str, ...], workflows: tuple[str, ...]) -> None:
    view = session.jobs.read()
    now = datetime.now(UTC)
    parts.server_line(view, session.server)
    if view.value is None:
        return
    if not view.value:
        _nothing()
        return
    parts.tally(len(view.value), "job", job_views.tally(view.value))
    found = job_views.matching(view.value, text, phases, workflows)
    if not found:
        st.info(
            "No job fits the filter. Clear the search, the workflow or the status to see all.",
            icon=":material/filter_alt_off:",
        )
        return
    if len(found) > job_views.MOST:
        st.caption(f"The newest {job_views.MOST:,} of {len(found):,}. Filter to see others.")
    chosen = _table(found[: job_views.MOST], now)
    job = next((one for one in view.value if dig(one, "metadata", "uid") == chosen), None)
    if job is None:
        gone = "The chosen job is no longer kept. " if chosen else ""
        st.caption(f"{gone}Choose a job to see its details and its log.")
    else:
        job_details.show(session, job, view.problem is None, now)


def _table(found: list[Object], now: datetime) -> str | None:
    columns = {
        "Name": st.column_config.TextColumn("Name", width=190),
        "Status": grid.status_column(job_views.PHASES, 100),
        "Workflow": st.column_config.TextColumn("Workflow", width=150),
        "Robot": st.column_config.TextColumn("Robot", width=105),
        "Attempt": st.column_config.NumberColumn("Attempt", width=70),
        "Duration": st.column_config.Column("Duration", width=80),
        "Age": st.column_config.Column("Age", width=70),
        "Says": st.column_config.TextColumn("Says", width=330, help="Why it waits, how far it is, or how it ended"),
    }
    if len({dig(job, "metadata", "namespace") for job in found}) > 1:
        columns["Namespace"] = st.column_config.TextColumn("Namespace", width=100)
    return grid.choose(job_views.rows(found, now), _GRID, columns)


def _nothing() -> None:
    st.info(
        "No job was submitted yet. Run a workflow:  \n"
        "`casare apply -f manifests` declares the examples, `casare run WORKFLOW` submits a job.",
        icon=":material/playlist_add:",
    )
