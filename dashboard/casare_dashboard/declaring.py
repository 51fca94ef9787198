"""How does a person declare a robot on the page Robots? A form, and the Robot that it describes."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from casare_api.kinds import Object
from casare_api.machinery import names
from casare_api.machinery.errors import ApiError
from casare_client.errors import Unreachable
from casare_dashboard import parts
from casare_dashboard.session import Session

_SAID = "declare_said"  # what came of the last form: whether it is good, and the words


def wanted(robot_id: str, shown: str, namespace: str, environment: str, slots: int, words: str, tags: str) -> Object:
    """The Robot that a form describes. Raises ValueError with what a person has to mend."""
    robot_id = robot_id.strip()
    if not robot_id:
        raise ValueError("Give the robot an id: what its agent calls itself, such as the computer's name.")
    spec = {
        "robotId": robot_id,
        "displayName": shown.strip(),
        "environment": environment.strip(),
        "capabilities": _words(words),
        "tags": _words(tags),
        "maxConcurrentJobs": slots,
    }
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Robot",
        "metadata": {"name": names.robot_name(robot_id), "namespace": namespace},
        "spec": {field: value for field, value in spec.items() if value},
    }


def form(session: Session, namespace: str) -> None:
    """Draw the form, and what came of it."""
    with (
        st.expander("Declare a robot", icon=":material/add:", key="declare"),
        st.form("declare_form", border=False, clear_on_submit=False),
    ):
        first, second = st.columns(2)
        robot_id = first.text_input("Robot id", key="declare_id", placeholder="what its agent calls itself: PC_01")
        shown = second.text_input("Display name", key="declare_name", placeholder="what people call it")
        environment = first.text_input("Environment", key="declare_environment", placeholder="default")
        slots = second.number_input("Slots", 1, 100, 1, key="declare_slots", help="Jobs that it runs at the same time")
        words = first.text_input("Capabilities", key="declare_capabilities", placeholder="browser, desktop")
        tags = second.text_input("Tags", key="declare_tags", placeholder="finance, sap")
        if st.form_submit_button("Declare it", type="primary"):
            _declare(session, lambda: wanted(robot_id, shown, namespace, environment, int(slots), words, tags))
    said = st.session_state.pop(_SAID, None)
    if said:
        is_good, text = said
        (st.success if is_good else st.error)(parts.escaped(text))


def _declare(session: Session, robot: Callable[[], Object]) -> None:
    try:
        made = session.client.create(robot())
        name = made["metadata"]["name"]
        said = True, f"Robot {name} is declared. Its agent needs a key: make one on the page Keys, for the role robot."
        session.changed("Robot")
    except ValueError as problem:
        said = False, str(problem)
    except ApiError as error:
        said = False, f"The robot was not declared: {error.message}"
    except Unreachable as error:
        said = False, f"Whether the robot was declared is not known: {error}"
    st.session_state[_SAID] = said


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word for each in text.split(",") if (word := each.strip())))
