"""How is a live table drawn in which one row can be chosen, and stays chosen while rows come and go above it?

The browser knows rows by their place; the choice is kept by uid and put back to wherever that row is now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd  # type: ignore[import-untyped]  # its stubs are a package of their own
import streamlit as st

from casare_dashboard import words

ROW = 35  # pixels
# Columns that sort as numbers and show as people write them, with the type that may lack a value.
NUMBERS = {
    "Last seen": ("float64", words.age),
    "Last used": ("float64", words.age),
    "Duration": ("float64", words.span),
    "Age": ("float64", words.age),
    "Attempt": ("Int64", str),
}


def choose(rows: Sequence[Mapping[str, Any]], key: str, columns: Mapping[str, Any], most: int = 9) -> str | None:
    """Draw the rows (all with the same keys, `uid` among them, hidden) and return the uid of the chosen one.

    `key` is the widget's; `columns` is Streamlit's column configuration, whose keys are the columns shown; `most` is
    how many rows show before the table scrolls.
    """
    uids = [str(row["uid"]) for row in rows]
    chosen = chosen_uid(key)
    st.session_state[f"{key}_uids"] = uids
    st.session_state[key] = {
        "selection": {"rows": [uids.index(chosen)] if chosen in uids else [], "columns": [], "cells": []}
    }
    st.dataframe(
        _styled(rows, list(columns)),
        key=key,
        column_config=dict(columns),
        hide_index=True,
        on_select=_keep_choice(key),
        selection_mode=["single-row", "single-cell"],  # so that a click anywhere in a row chooses it
        height=ROW * (min(len(rows), most) + 1) + 2,
        row_height=ROW,
        placeholder="",
    )
    return chosen


def chosen_uid(key: str) -> str | None:
    """The uid of the chosen row, which may be gone from the table by now."""
    uid = st.session_state.get(f"{key}_chosen")
    return str(uid) if uid is not None else None


def _keep_choice(key: str) -> Callable[[], None]:
    def keep() -> None:
        selection = st.session_state[key]["selection"]
        places = [place for place, _ in selection["cells"]] or selection["rows"]
        uids = st.session_state.get(f"{key}_uids") or []
        st.session_state[f"{key}_chosen"] = uids[places[0]] if places and places[0] < len(uids) else None

    return keep


def _styled(rows: Sequence[Mapping[str, Any]], columns: list[str]) -> Any:
    frame = pd.DataFrame([{name: row[name] for name in columns} for row in rows], columns=pd.Index(columns))
    numbers = {name: found for name, found in NUMBERS.items() if name in columns}
    typed = frame.astype({name: kind for name, (kind, _) in numbers.items()})
    return typed.style.format({name: write for name, (_, write) in numbers.items()}, na_rep="")


def status_column(statuses: Sequence[str], width: int) -> Any:
    """A column of coloured chips that say the status in words; the width is in pixels."""
    colours = [words.colour(one) for one in statuses]
    return st.column_config.MultiselectColumn("Status", options=list(statuses), color=colours, width=width)
