"""Everything about one job: where it stands and why, what it was given and gave, what happened, and its log."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from casare_api.kinds import Object, dig
from casare_dashboard import deeds, event_views, job_views, parts
from casare_dashboard.log_views import Tail
from casare_dashboard.session import Focus, Session

_CANCEL = deeds.Deed(
    "cancel", "Cancel job", "cancelled", lambda: {"spec": {"cancel": True}}, "End this job for good?", "Yes, cancel it",
    "Keep it",
)  # fmt: skip


def show(session: Session, listed: Object, server_is_there: bool, now: datetime) -> None:
    """Draw the details. `listed` is the job as the list has it; large values come with the object itself."""
    focus = session.look_at("Job", listed)
    seen = (focus.object.read() if server_is_there else focus.object.peek()).value
    job = seen if seen is not None and not _older(seen, listed) else listed
    with st.container(border=True, key="details"):
        _head(session, job, server_is_there)
        _standing(job)
        parts.facts(job_views.details(job, now))
        _given_and_gave(job)
        _log(focus, job, server_is_there)
        _history(focus, job, server_is_there, now)


def _older(seen: Object, listed: Object) -> bool:
    """Whether the list is ahead: of two answers the one with the greater resourceVersion counts."""
    versions = [str(dig(obj, "metadata", "resourceVersion") or "0") for obj in (seen, listed)]
    return all(version.isdigit() for version in versions) and int(versions[0]) < int(versions[1])


def _head(session: Session, job: Object, server_is_there: bool) -> None:
    possible = [_CANCEL] if server_is_there and _can_be_cancelled(session, job) else []
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        name = dig(job, "metadata", "name")
        st.subheader(f"{name} {parts.badges([job_views.phase(job)])}", anchor=False, width="content")
        deeds.buttons(session, job, possible)
    deeds.outcome(session, job, possible)


def _can_be_cancelled(session: Session, job: Object) -> bool:
    is_asked = job_views.is_final(job) or job_views.is_being_cancelled(job)
    return not is_asked and session.may("patch", "Job", dig(job, "metadata", "namespace"))


def _standing(job: Object) -> None:
    """Why it waits, how far it is, or how it ended."""
    reasons = job_views.waiting(job)
    if job_views.phase(job) == "Queued" and reasons:
        lines = "".join(f"\n- {parts.escaped(reason)}" for reason in reasons)
        st.info(f"It waits:\n{lines}", icon=":material/hourglass_top:")
        return
    percent, message = job_views.progress(job)
    if percent is not None and not job_views.is_final(job):
        st.progress(percent / 100, text=parts.escaped(message) or f"{percent:g} %")
        return
    if said := job_views.says(job):
        box = {"Failed": st.error, "Expired": st.error, "Succeeded": st.success}.get(job_views.phase(job), st.info)
        box(parts.escaped(said))


def _given_and_gave(job: Object) -> None:
    given = job_views.values(dig(job, "spec", "parameters"))
    gave = job_views.values(dig(job, "status", "outputs"))
    if given:
        st.markdown("**Parameters**")
        parts.facts(given)
    if gave:
        st.markdown("**Outputs**")
        parts.facts(gave)


def _log(focus: Focus, job: Object, server_is_there: bool) -> None:
    if focus.log is None:
        return
    found = (focus.log.read() if server_is_there else focus.log.peek()).value or Tail()
    st.markdown("**Log**")
    if not found.text:
        waits = job_views.phase(job) in ("Queued", "Assigned")
        st.caption("It has not started yet." if waits else "It has printed nothing so far.")
        return
    if found.cut:
        st.caption(f"The end of a long log. All of it: casare logs job/{dig(job, 'metadata', 'name')}")
    with st.container(key="log"):
        st.code(found.text, language=None, wrap_lines=True)


def _history(focus: Focus, job: Object, server_is_there: bool, now: datetime) -> None:
    attempts = job_views.attempts(job)
    if attempts:
        st.markdown("**Attempts**")
        parts.small_table(attempts, "")
    events = (focus.events.read() if server_is_there else focus.events.peek()).value or []
    st.markdown("**Events**")
    parts.small_table(event_views.rows(events, now), "Nothing was recorded lately.")
