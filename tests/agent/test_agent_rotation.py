"""Which of its keys a robot tries when one is not accepted. Rotation against a real server is in test_agent_server."""

from __future__ import annotations

from pathlib import Path

import pytest

from casare_agent import keyring
from casare_agent.config import load
from casare_agent.rotation import Rotation
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import Client, Config

DENIED, AWAY = ApiError.unauthorized(), ApiError.unavailable("not now")


@pytest.mark.parametrize("has_kept", [True, False])
def test_where_one_key_is_not_accepted_the_other_is_tried(tmp_path: Path, has_kept: bool) -> None:
    if has_kept:
        keyring.save(tmp_path, "given", "kept")
    first, other = ("kept", "given") if has_kept else ("given", "given")
    with Client(Config("http://127.0.0.1:1", keyring.load(tmp_path, "given"))) as client:
        rotation = Rotation(client, "default", tmp_path, "given")

        def refuse(body: Object) -> Object:
            raise body["error"]

        used = []
        for error in (AWAY, DENIED, AWAY, DENIED):
            used.append(client.config.key)
            with pytest.raises(ApiError):
                rotation.after(refuse)({"error": error})
        assert [*used, client.config.key] == [first, first, other, other, first]


@pytest.mark.parametrize("by", ["token", "key"])
def test_a_join_token_is_never_tried_in_place_of_a_key(tmp_path: Path, by: str) -> None:
    name = "CASARE_JOIN_TOKEN" if by == "token" else "CASARE_ORCHESTRATOR_API_KEY"
    server, place = {"CASARE_ORCHESTRATOR_URL": "http://127.0.0.1:1"}, {"CASARE_AGENT_DIR": str(tmp_path)}
    settings = load(environ={**server, **place, "CASARE_ROBOT_ID": "r", name: "given"})
    keyring.save(settings.directory, "given", "kept")
    with Client(Config("http://127.0.0.1:1", "kept")) as client:
        Rotation.of(client, settings).refused(DENIED)
        assert client.config.key == ("kept" if by == "token" else "given")
