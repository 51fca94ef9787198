"""Settings: from the environment or a file, with one line for each mistake."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from casare_agent.config import ConfigError, load

KEY = "crpa_0123456789abcdefghijklmnopqrstuvwxyz"
LEAST = {"CASARE_ORCHESTRATOR_URL": "http://127.0.0.1:8000/", "CASARE_ORCHESTRATOR_API_KEY": KEY}


def problems(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(file, environ)
    return error.value.problems


def test_url_and_key_are_enough() -> None:
    settings = load(environ=LEAST)
    assert settings.orchestrator_url == "http://127.0.0.1:8000"
    assert settings.robot_id == settings.display_name == socket.gethostname()
    assert (settings.environment, settings.max_concurrent_jobs, settings.shutdown_grace) == ("default", 1, 60)


def test_every_setting_has_a_variable() -> None:
    settings = load(environ={
        "ORCHESTRATOR_URL": "https://api.example.com", "ORCHESTRATOR_API_KEY": KEY, "CASARE_ROBOT_ID": "PC_01.Berlin",
        "CASARE_ROBOT_NAME": "PC 01", "CASARE_ENVIRONMENT": "production", "CASARE_ROBOT_TAGS": " sap, finance,,sap",
        "CASARE_MAX_CONCURRENT_JOBS": "4", "CASARE_ROBOT_CAPABILITIES": "excel", "CASARE_NAMESPACE": "berlin",
        "CASARE_SHUTDOWN_GRACE": "2m", "CASARE_AGENT_DIR": "/somewhere",
    })  # fmt: skip
    assert settings.tags == ("sap", "finance")
    assert settings.capabilities == ("excel",)
    assert settings.shutdown_grace == 120
    assert settings.directory == Path("/somewhere") / settings.name
    assert settings.name.startswith("pc-01") and settings.display_name == "PC 01"


def test_the_key_never_shows() -> None:
    assert KEY not in repr(load(environ=LEAST))
    bad = {**LEAST, "CASARE_ORCHESTRATOR_API_KEY": "crpa_with blank in it"}
    assert "with blank" not in "".join(problems(bad))


def test_each_mistake_is_one_line_that_names_the_setting_and_what_is_allowed() -> None:
    said = problems({
        "CASARE_ORCHESTRATOR_URL": "localhost", "CASARE_MAX_CONCURRENT_JOBS": "500", "CASARE_ENVIRONMENT": "Prod",
        "CASARE_SHUTDOWN_GRACE": "soon", "CASARE_CA_FILE": "/no/such/file",
    })  # fmt: skip
    named = [line.split(":")[0].split()[0] for line in said]
    assert named == [
        "CASARE_ORCHESTRATOR_URL", "CASARE_ORCHESTRATOR_API_KEY", "CASARE_ENVIRONMENT", "CASARE_MAX_CONCURRENT_JOBS",
        "CASARE_CA_FILE", "CASARE_SHUTDOWN_GRACE",
    ]  # fmt: skip
    assert all("\n" not in line for line in said)
    assert "a whole number from 1 to 100" in said[3]


def test_a_grouped_yaml_file_says_it_all_and_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "pc-01.yaml"
    (tmp_path / "ca.crt").write_text("PEM")
    file.write_text(
        f"orchestrator: {{url: 'https://fleet:8443', apiKey: {KEY}, caFile: ca.crt}}\n"
        "robot: {id: PC_01, name: PC-01, environment: staging, tags: [a, b],\n"
        "  capabilities: [sap], max_concurrent_jobs: 3}\n"
    )
    settings = load(file, {**LEAST, "CASARE_ROBOT_ID": "another"})
    assert (settings.robot_id, settings.max_concurrent_jobs, settings.tags) == ("PC_01", 3, ("a", "b"))
    assert settings.ca_file == tmp_path / "ca.crt"
    assert settings.orchestrator_url == "https://fleet:8443"


def test_flat_yaml_and_env_files_use_the_variables_names(tmp_path: Path) -> None:
    flat, dotenv = tmp_path / "a.yml", tmp_path / "pc.env"
    flat.write_text("CASARE_ROBOT_ID: 007\nCASARE_ROBOT_TAGS: [x]\n")
    dotenv.write_text('# mine\nexport CASARE_ROBOT_ID="PC 02"\nCASARE_ROBOT_TAGS=a,b\nPOSTGRES_URL=not-ours\n')
    assert load(flat, LEAST).robot_id == "007"
    settings = load(dotenv, LEAST)
    assert (settings.robot_id, settings.tags) == ("PC 02", ("a", "b"))


def test_mistakes_in_a_file_name_the_file_and_the_place(tmp_path: Path) -> None:
    file = tmp_path / "pc.yaml"
    file.write_text("robot: {idd: x}\nCASARE_ROBOT_IT: y\norchestrator: http://x\n")
    said = problems(LEAST, file)
    assert [line.split(": ")[1] for line in said] == ["robot.idd", "CASARE_ROBOT_IT", "orchestrator"]
    file.write_text("robot: {id: [}\n")
    assert problems(LEAST, file)[0].startswith(f"{file}:1:")
    assert "cannot be read" in problems(LEAST, tmp_path / "none.yaml")[0]
