"""The dashboard's pages in their order, behind the sign-in form. Streamlit runs this file for each visitor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from casare_dashboard import jobs_page, keys_page, robots_page, session, theme
from casare_dashboard.settings import DashboardSettings

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_SETTINGS = DashboardSettings()
_MARK, _LOGO = (Path(__file__).with_name(name) for name in ("mark.svg", "logo.svg"))


def main() -> None:
    """Draw what the visitor may see."""
    st.set_page_config(page_title="Casare Fleet", page_icon=str(_MARK), layout="wide")
    st.html(theme.CSS)
    signed_in = session.current()
    if signed_in is None:
        st.navigation([st.Page(_sign_in, title="Sign in")], position="hidden").run()
        return
    pages = [
        st.Page(robots_page.show, title="Robots", icon=":material/smart_toy:", url_path="robots", default=True),
        st.Page(jobs_page.show, title="Jobs", icon=":material/list_alt:", url_path="jobs"),
        st.Page(keys_page.show, title="Keys", icon=":material/key:", url_path="keys"),
    ]
    page = st.navigation(pages, position="hidden")
    _header(pages, signed_in)
    st.title(page.title, anchor=False)
    page.run()


def _header(pages: list[StreamlitPage], signed_in: session.Session) -> None:
    """The pages to go to and who is asked; Streamlit's own navigation hides both on a narrow screen."""
    with st.container(horizontal=True, vertical_alignment="center", key="header"):
        st.image(str(_LOGO), width=130)
        for page in pages:
            st.page_link(page, width="content")
        st.space("stretch")
        reach = f" · {signed_in.namespace}" if signed_in.namespace else ""
        st.caption(f"`{signed_in.server}`{reach}", width="content")
        st.button("Sign out", icon=":material/logout:", on_click=session.sign_out, width="content")


def _sign_in() -> None:
    with st.container(width=420, key="sign_in"):
        st.image(str(_LOGO), width=220)
        st.caption(f"Sign in to see the robots and jobs of `{_SETTINGS.orchestrator_url}`")
        with st.form("sign_in_form"):
            key = st.text_input("API key", type="password", autocomplete="off", placeholder="crpa_…")
            help_ = "A key of one namespace sees that one; the server's admin key sees all."
            namespace = st.text_input("Namespace", value="default", help=help_)
            pressed = st.form_submit_button("Sign in", type="primary")
        if pressed:
            problem = session.sign_in(_SETTINGS, key or "", namespace or "")
            if problem is None:
                st.rerun()
            st.error(problem, icon=":material/block:")
        elif session.farewell():
            st.warning(session.farewell(), icon=":material/key_off:")
        st.caption("Keys are made with `casare keys`; the first one is in `admin.key` of the server's data directory.")


main()
