"""What people type: objects they mean, parameters, whole command lines that never reach a server."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from casare_api.machinery.errors import ApiError
from casare_cli import parameters, targets
from casare_cli.failures import Misuse
from casare_cli.main import main


@pytest.fixture(autouse=True)
def _no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing around names a server."""
    for name in ("CASARE_ORCHESTRATOR_URL", "CASARE_ORCHESTRATOR_API_KEY", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CASARE_DATA_DIR", str(tmp_path / "nothing"))


def shown(words: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(target.kind.kind, target.names) for target in targets.parse(words)]


def test_objects_are_named_with_and_without_a_slash() -> None:
    assert shown(["jobs"]) == [("Job", ())]
    assert shown(["rb", "a", "b"]) == [("Robot", ("a", "b"))]
    assert shown(["job/a", "Robot/b"]) == [("Job", ("a",)), ("Robot", ("b",))]
    assert shown(["robots,jobs,robot"]) == [("Robot", ()), ("Job", ())]


@pytest.mark.parametrize("words", [[], ["job/a", "b"], ["job/"], ["/a"], ["job/a/b"], ["job", "A B"], ["job", ".."]])
def test_what_names_no_object_is_misuse(words: list[str]) -> None:
    with pytest.raises(Misuse):
        targets.parse(words)


def test_an_unknown_kind_suggests_the_nearest() -> None:
    with pytest.raises(ApiError, match='did you mean "robot'):
        targets.parse(["robotz"])


@pytest.mark.parametrize(
    ("word", "schema", "value"),
    [
        ("x=2026-10", {"type": "string"}, "2026-10"),
        ("x=01234", {"type": "string"}, "01234"),
        ("x=yes", {"type": "string"}, "yes"),
        ("x=a=b", {"type": "string"}, "a=b"),
        ("x=", {"type": "string"}, ""),
        ("x=a: b: c", {"type": "string"}, "a: b: c"),
        ("x=3", {"type": "integer"}, 3),
        ("x=3", {"type": ["integer", "string"]}, 3),
        ("x=03 x", {"type": ["integer", "string"]}, "03 x"),
        ("x=null", {"type": ["string", "null"]}, None),
        ("x=[a, 1]", {"type": "array"}, ["a", 1]),
        ("x=no", {"type": "boolean"}, False),
        ("x=yes", {"enum": ["yes", "no"]}, "yes"),
        ("x=5", None, 5),
        ("x=2026-10-01", None, "2026-10-01"),
        ("x=a: b: c", None, "a: b: c"),
    ],
)
def test_parameters_mean_what_the_schema_says(word: str, schema: object, value: object) -> None:
    whole = None if schema is None else {"properties": {"x": schema}}
    assert parameters.parse([word], whole) == {"x": value}


def test_the_last_parameter_of_a_name_counts_and_a_word_without_equals_is_misuse() -> None:
    assert parameters.parse(["x=1", "x=2"], None) == {"x": 2}
    for word in ("x", "=1"):
        with pytest.raises(Misuse, match="-p key=value"):
            parameters.parse([word], None)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("get", 2, "Missing argument"),
        ("get robots", 1, "no server is named: give --server URL and --key KEY, or set CASARE_ORCHESTRATOR_URL and "),
        ("get robots --watsch", 2, "No such option"),
        ("get robots -o foo", 2, 'there is no output format "foo"; allowed: wide, name, yaml, json'),
        ("get robotz", 1, 'there is no kind "robotz"; did you mean "robot'),
        ("get job/a -A", 2, "leave out -A"),
        ("get job/a -l x=y", 2, "names and selectors exclude each other"),
        ("get jobs,robots -w", 2, "watch one kind, or one object, at a time"),
        ("gte robots", 2, 'there is no command "gte"; did you mean "get"?'),
        ("apply", 2, "which manifests? give -f FILE"),
        ("delete", 2, "what? give KIND NAME"),
        ("logs robot/x", 2, "robot/x is no job"),
        ("run w -p x --priority 99", 2, "--priority"),
        ("keys create k --role robot", 2, "--robot ROBOT belongs to --role robot"),
        ("--server nonsense get robots", 1, '"nonsense" is no server: give a URL such as http://127.0.0.1:8000'),
        (
            "--server http://127.0.0.1:1 get robots",
            1,
            "cannot reach http://127.0.0.1:1: connection refused (is it running?",
        ),
        ("--server http://u:hunter2@127.0.0.1:1 get robots", 1, "cannot reach http://127.0.0.1:1: "),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    line: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert "hunter2" not in printed.err


def test_a_key_that_no_header_can_hold_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--server", "http://127.0.0.1:1", "--key", "top secret", "get", "jobs"]) == 1
    assert "secret" not in capsys.readouterr().err


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for name in ("get", "describe", "apply", "delete", "run", "logs", "cancel", "keys", "migrate", "agent", "version"):
        assert f" {name} " in text


def test_a_key_is_made_and_hashed_offline(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "hash"]) == 0
    key, digest = (line.partition(":")[2].strip() for line in capsys.readouterr().out.splitlines())
    assert key.startswith("crpa_")
    assert digest == "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def test_get_loads_neither_database_nor_web_nor_dashboard() -> None:
    program = (
        "import sys; from casare_cli.main import main; main(['--server', 'http://127.0.0.1:1', 'get', 'robots']);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(eval(found.stdout))
    assert "httpx2" in loaded
    assert not loaded & {
        "sqlalchemy",
        "psycopg",
        "alembic",
        "fastapi",
        "starlette",
        "streamlit",
        "uvicorn",
        "yaml",
        "rich",
    }
    assert not loaded & {"casare_store", "casare_apiserver", "casare_controller", "casare_agent", "casare_dashboard"}


def test_a_closed_pipe_and_a_missing_component_are_no_tracebacks() -> None:
    command = f"{sys.executable} -m casare_cli --help | true"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert found.stderr == ""
