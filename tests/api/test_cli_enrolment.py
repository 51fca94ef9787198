"""`casare join-tokens create` and `casare approve`, against a real server."""

from __future__ import annotations

import pytest

from .commands import Casare, Run, ran
from .conftest import Api
from .test_enrolment import join


@pytest.fixture
def casare(api: Api, capsys: pytest.CaptureFixture[str]) -> Casare:
    return lambda *words: ran(capsys, "--server", api.server.url, "--key", api.key, *words, "-n", api.namespace)


def test_a_token_is_printed_once_and_a_robot_that_joined_by_it_is_approved(api: Api, casare: Casare) -> None:
    made: Run = casare("join-tokens", "create", "floor-2", "--pattern", "pc-*", "--uses", "20", "--ttl", "7d",
                       "--approve", "--environment", "production", "--label", "site=berlin")  # fmt: skip
    (token,) = made.lines
    assert made.code == 0 and token.startswith("cjt_") and "shown this once" in made.err
    spec = api.get("JoinToken", "floor-2")["spec"]
    assert (spec["namePattern"], spec["uses"], spec["ttl"], spec["approval"]) == ("pc-*", 20, "7d", "Manual")
    assert (spec["environment"], spec["labels"]) == ("production", {"site": "berlin"})
    assert join(api, token).status_code == 201
    shown = casare("get", "jointokens").lines
    assert shown[1].split()[:5] == ["floor-2", "pc-*", "production", "Active", "1/20"]
    assert token not in casare("get", "jointoken", "floor-2", "-o", "yaml").out
    assert "Approved" in casare("describe", "robot/pc-07").out
    assert casare("approve", "robot/pc-07").out == "robot/pc-07 approved\n"
    assert casare("approve", "pc-07").out == "robot/pc-07 was approved before, or never had to be\n"
    assert (casare("approve", "pc-99").code, casare("approve", "job/x").code) == (1, 2)


def test_mistakes_are_one_line(casare: Casare) -> None:
    for words, code in ((("--pattern", "PC-*"), 1), (("--uses", "0"), 1), (("--ttl", "soon"), 1), (("--label", "x"), 2)):
        said: Run = casare("join-tokens", "create", "bad", *words)
        assert (said.code, said.err.count("\n"), said.out) == (code, 1, ""), said.err
