"""Does the dashboard start as it should, or say in one line why it can't?"""

from __future__ import annotations

import socket

import pytest

from casare_dashboard import serving
from casare_dashboard.settings import DashboardSettings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CASARE_ORCHESTRATOR_URL", "CASARE_DASHBOARD_PORT", "CASARE_DASHBOARD_HOST", "CASARE_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_it_listens_on_this_computer_alone_and_reports_to_nobody() -> None:
    options = serving.options(DashboardSettings())
    assert (options["server.address"], options["server.port"]) == ("127.0.0.1", "8501")
    assert options["browser.gatherUsageStats"] == "false"
    assert options["server.fileWatcherType"] == "none"
    assert options["client.showErrorDetails"] == "none"


def test_every_option_is_one_that_streamlit_knows() -> None:
    from streamlit import config

    known = config.get_config_options()
    for name in serving.options(DashboardSettings()):
        assert name in known, name


def test_a_port_that_is_taken_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("CASARE_DASHBOARD_PORT", str(port))
        assert serving.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "CASARE_DASHBOARD_PORT" in line


def test_a_setting_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASARE_DASHBOARD_PORT", "eight")
    assert serving.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dashboard: CASARE_DASHBOARD_PORT: ")


def test_there_is_no_setting_for_a_key() -> None:
    assert not [name for name in DashboardSettings.model_fields if "key" in name]
