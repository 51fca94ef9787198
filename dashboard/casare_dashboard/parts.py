"""What do all pages share? The line about the server, the tally, facts, small tables and how a page stays live."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec

import streamlit as st

from casare_api.machinery.errors import ApiError
from casare_dashboard import session as sessions
from casare_dashboard import words
from casare_dashboard.snapshots import View

P = ParamSpec("P")
EVERY = 2.0  # seconds between two looks of a live part
_REVOKED = "You were signed out: the server no longer accepts your key. It was revoked or has expired."
_DOT = {
    "green": "#2f9e44", "blue": "#4c6ef5", "red": "#e03131", "orange": "#e8890c", "violet": "#9059e0",
    "gray": "#868e96",
}  # fmt: skip


def server_line(view: View[Any], server: str) -> None:
    """Says calmly that the server is away, where it is; nothing otherwise."""
    if view.problem is None:
        return
    known = f" Shown is how things stood at {view.taken:%H:%M:%S} UTC." if view.taken else ""
    cause = view.problem.removeprefix(f"cannot reach {server}: ")
    st.warning(
        f"No news from `{server}` ({escaped(cause)}).{known} The page goes on by itself.", icon=":material/cloud_off:"
    )


def tally(total: int, what: str, counts: Sequence[tuple[str, int]]) -> None:
    """How many there are (of what, in the singular), and how many of each status, as numbers with words."""
    parts = [f"<div><b>{total:,}</b> {html.escape(what)}{'' if total == 1 else 's'}</div>"]
    for status, number in counts:
        dot = f'<i style="background:{_DOT[words.colour(status)]}"></i>'
        parts.append(f"<div>{dot}<b>{number:,}</b> {html.escape(status.lower())}</div>")
    st.html(f'<div class="casare-tally">{"".join(parts)}</div>')


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Pairs of name and text, in as many columns as there is room for."""
    cells = (f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>" for name, text in pairs)
    st.html(f'<dl class="casare-facts">{"".join(cells)}</dl>')


def small_table(rows: Sequence[Mapping[str, Any]], otherwise: str) -> None:
    """A table without choices, or a line that says why there is none."""
    if not rows:
        st.caption(otherwise)
        return
    names = list(rows[0])
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(str(row[name] if row[name] is not None else ''))}</td>" for name in names)
        + "</tr>"
        for row in rows
    )
    table = f'<table class="casare-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    st.html(f'<div class="casare-wide">{table}</div>')


def badges(statuses: Sequence[str]) -> str:
    """Statuses as Markdown badges."""
    return " ".join(f":{words.colour(one)}-badge[{one}]" for one in statuses)


def live(draw: Callable[Concatenate[sessions.Session, P], None]) -> Callable[P, None]:
    """Makes `draw(session, ...)` a part of the page that is drawn anew every few seconds.

    Where the session or its key has ended meanwhile, the sign-in form takes the page's place.
    """

    @st.fragment(run_every=EVERY)
    @functools.wraps(draw)
    def part(*args: P.args, **kwargs: P.kwargs) -> None:
        session = sessions.current()
        if session is None:
            st.rerun()
        try:
            draw(session, *args, **kwargs)
        except ApiError as error:
            if error.status != 401:
                raise
            sessions.sign_out(_REVOKED)
            st.rerun()
        except RuntimeError:
            if sessions.current() is session:
                raise
            st.rerun()  # signed out while this was being drawn: its connections are closed

    return part


def escaped(text: str) -> str:
    """A text from the fleet inside Markdown: shown as it is, never read as markup."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]()<>#+-.!|~$:^=" else char for char in text)
