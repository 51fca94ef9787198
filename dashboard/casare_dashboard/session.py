"""Who is signed in? The key lives in this browser session's state alone: in no address, cookie, log or error.

A key is accepted when the server answers a real question with it. When the server stops accepting it (revoked,
expired), the session ends with a line that says so.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import orjson
import streamlit as st

from casare_api.kinds import KINDS, Object, dig
from casare_api.kinds.reviews import REVIEWS
from casare_api.machinery.errors import ApiError
from casare_client.client import Client
from casare_client.config import Config
from casare_client.errors import NoServer, Unreachable
from casare_dashboard.log_views import Tail, tail
from casare_dashboard.settings import DashboardSettings
from casare_dashboard.snapshots import Snapshot

TIMEOUT = 10.0  # seconds for an answer; a page can't wait longer
_FORBIDDEN = "This key may not look at the robots and jobs of this namespace."
_SESSION, _MESSAGE = "casare_session", "casare_message"
ACCESS = next(review for review in REVIEWS if review.kind == "SelfSubjectAccessReview")


@dataclass
class Focus:
    """One object that is looked at closely: itself, what happened to it, and a job's log."""

    uid: str
    object: Snapshot[Object]
    events: Snapshot[list[Object]]
    log: Snapshot[Tail] | None = None


@dataclass
class Session:
    """A signed-in person's view of the fleet."""

    client: Client
    namespace: str | None  # None: all of them
    robots: Snapshot[list[Object]]
    jobs: Snapshot[list[Object]]
    keys: Snapshot[list[Object]]
    focus: dict[str, Focus] = field(default_factory=dict)
    _may: dict[tuple[str, str, str], bool] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The server's URL."""
        return self.client.config.server

    def look_at(self, kind: str, obj: Object) -> Focus:
        """The focus of a page (one for each kind), moved to this object."""
        uid = str(dig(obj, "metadata", "uid"))
        held = self.focus.get(kind)
        if held is None or held.uid != uid:
            held = self.focus[kind] = _focus(self.client, kind, obj)
        return held

    def may(self, verb: str, kind: str, namespace: str) -> bool:
        """Whether this key may do that there, as the server says. Asked once; False while it can't be asked."""
        asked = (verb, kind, namespace)
        if asked not in self._may:
            try:
                self._may[asked] = _may(self.client, *asked)
            except (ApiError, Unreachable):
                return False  # ask again next time
        return self._may[asked]

    def changed(self, kind: str) -> None:
        """Something of this kind was changed here: what is shown of it is asked for anew."""
        {"Robot": self.robots, "Job": self.jobs, "ApiKey": self.keys}[kind].hurry()
        if kind in self.focus:
            self.focus[kind].object.hurry()


def current() -> Session | None:
    """The session of whoever looks at this page, None before they signed in."""
    session = st.session_state.get(_SESSION)
    return session if isinstance(session, Session) else None


def sign_in(settings: DashboardSettings, key: str, namespace: str) -> str | None:
    """Starts a session, of all namespaces where the key reaches that far, otherwise of this one.

    Returns what a person should know where that is not possible.
    """
    if not key.strip():
        return "Enter a key."
    name = namespace.strip() or "default"
    try:
        config = Config(settings.orchestrator_url, key, settings.ca_file, name, TIMEOUT)
        client = Client(config, "casare-dashboard")
    except NoServer as error:
        return _sentence(str(error))
    for reach in (None, name):
        problem = _refusal(client, reach)
        if problem is None:
            robots, jobs, keys = (_all(client, kind, reach) for kind in ("Robot", "Job", "ApiKey"))
            st.session_state[_SESSION] = Session(client, reach, robots, jobs, keys)
            st.session_state.pop(_MESSAGE, None)
            return None
        if problem != _FORBIDDEN:
            break
    client.close()
    return problem if problem != _FORBIDDEN else f"{_FORBIDDEN} Sign in with a viewer, operator or admin key of it."


def sign_out(message: str = "") -> None:
    """Ends the session and forgets everything that was seen in it. The message shows on the sign-in page."""
    session = current()
    if session is not None:
        session.client.close()
    for name in list(st.session_state):
        with contextlib.suppress(KeyError):  # a widget's value may go by itself meanwhile
            del st.session_state[name]
    if message:
        st.session_state[_MESSAGE] = message


def farewell() -> str:
    """Why the last session ended, where it was not the person's own doing."""
    return str(st.session_state.get(_MESSAGE) or "")


def _refusal(client: Client, namespace: str | None) -> str | None:
    """Why this key can't be used to look at this namespace (None: at all); None where it can."""
    try:
        for kind in ("Robot", "Job"):
            client.list(kind, namespace, all_namespaces=namespace is None, limit=1)
    except Unreachable as error:
        return _sentence(str(error))
    except ApiError as error:
        if error.status == 401:
            return "The server does not accept this key. Check that it is complete, not revoked and not expired."
        return _FORBIDDEN if error.status == 403 else _sentence(error.message)
    return None


def _all(client: Client, kind: str, namespace: str | None) -> Snapshot[list[Object]]:
    return Snapshot(lambda: _items(client.list(kind, namespace, all_namespaces=namespace is None)))


def _may(client: Client, verb: str, kind: str, namespace: str) -> bool:
    """The server's own answer: what it says here is what it does."""
    meant = {"verb": verb, "group": KINDS[kind].group, "resource": KINDS[kind].plural, "namespace": namespace}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
              "spec": {"resourceAttributes": meant}}  # fmt: skip
    answer = client.request("POST", ACCESS.path, content=orjson.dumps(review))
    return bool(dig(answer.json(), "status", "allowed"))


def _focus(client: Client, kind: str, obj: Object) -> Focus:
    name, namespace = str(dig(obj, "metadata", "name")), str(dig(obj, "metadata", "namespace"))
    uid = str(dig(obj, "metadata", "uid"))
    events = Snapshot(lambda: _items(client.list("Event", namespace, fields=f"involvedObject.uid={uid}")))
    log = Snapshot(lambda: tail(client.read_log(namespace, name))) if kind == "Job" else None
    return Focus(uid, Snapshot(lambda: client.get(kind, name, namespace)), events, log)


def _items(listed: Any) -> list[Object]:
    items: list[Object] = listed.get("items") or []
    return items


def _sentence(text: str) -> str:
    """An error's line as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
