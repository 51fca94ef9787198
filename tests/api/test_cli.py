"""The command against a real server: what a person types, reads, and gets as an exit code."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.names import robot_name
from casare_client import Client
from tests.conftest import Server

from .commands import Casare, Run, ran

GROUP = "apiVersion: fleet.casare.net/v1"
HELLO = f"""{GROUP}
kind: Workflow
metadata: {{name: hello}}
spec:
  runner: python
  source: {{file: hello.py}}
  files: [{{name: greeting.txt, path: data/greeting.txt}}]
  args: ["{{{{ parameters.who }}}}"]
  parameters:
    type: object
    required: [who]
    properties: {{who: {{type: string}}, count: {{type: integer}}}}
"""
PROGRAM = """
import sys, time
print(open("greeting.txt").read().strip(), sys.argv[1], flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
if sys.argv[1] == "fail":
    sys.exit(7)
"""


@pytest.fixture
def casare(server: Server, capsys: pytest.CaptureFixture[str]) -> Casare:
    """Runs a command with the admin key of this server."""

    def run(*words: str, key: str | None = None) -> Run:
        return ran(capsys, "--server", server.url, "--key", key or server.admin_key, *words)

    return run


@pytest.fixture(scope="module")
def robot(server: Server) -> str:
    """A robot with its agent."""
    server.start_agent("pc-01")
    return "pc-01"


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    """A folder with the workflow hello and its files."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "greeting.txt").write_text("hello\n")
    (tmp_path / "hello.py").write_text(PROGRAM)
    (tmp_path / "hello.yaml").write_text(HELLO)
    return tmp_path


def job(name: str, **spec: object) -> str:
    """A job's manifest; its workflow is inline and never finds a robot."""
    inner = {"workflow": {"runner": "command", "requirements": {"tags": ["none-has-it"]}}, **spec}
    inner["workflow"]["source"] = {"inline": "true"}  # type: ignore[index]
    return json.dumps({"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": name}, "spec": inner})


def in_namespace(casare: Casare, tmp_path: Path, name: str) -> str:
    (tmp_path / "namespace.yaml").write_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    assert casare("apply", "-f", str(tmp_path / "namespace.yaml")).code == 0
    return name


# -- apply -------------------------------------------------------------------------------------------------------


def test_of_200_documents_one_is_wrong_and_199_are_applied_once(casare: Casare, tmp_path: Path) -> None:
    namespace = in_namespace(casare, tmp_path, "many")
    documents = [job(f"j{number}") for number in range(200)]
    documents[119] = job("j119", priority=99)
    file = tmp_path / "jobs.yaml"
    file.write_text("\n---\n".join(documents))
    first = casare("apply", "-f", str(file), "-n", namespace)
    assert first.code == 1
    assert len(first.lines) == 199
    assert all(line.endswith(" created") for line in first.lines)
    assert first.err == f"{file}: document 120 (line 239): spec.priority: Invalid value: 99: must be at most 20\n"
    second = casare("apply", "-f", str(file), "-n", namespace)
    assert second.lines == [line.replace("created", "unchanged") for line in first.lines]


def test_each_problem_is_a_line_with_its_field_and_what_is_allowed(casare: Casare, tmp_path: Path) -> None:
    file = tmp_path / "robots.yaml"
    file.write_text(
        f"{GROUP}\nkind: Robot\nmetadata: {{name: good}}\n---\n"
        f"{GROUP}\nkind: Robot\nmetadata: {{name: bad}}\nspec:\n  maxConcurrentJobs: many\n  desiredState: Sleepy\n"
        "  colour: red\n---\na: b: c\n---\nkind: Robat\n"
    )
    found = casare("apply", "-f", str(file))
    assert (found.code, found.lines) == (1, ["robot/good created"])
    problems = [line.removeprefix(f"{file}: ") for line in found.err.splitlines()]
    expected = [
        'document 3 (line 13): not valid YAML: a ": " stands where none can',
        'document 4 (line 15): kind: there is no kind "Robat"; did you mean "Robot',
        'document 2 (line 9): spec.maxConcurrentJobs: Invalid value: "many": must be an integer',
        'document 2 (line 10): spec.desiredState: Unsupported value: "Sleepy": supported values: "Active", "Paused"',
        "document 2 (line 11): spec.colour: unknown field; allowed here: robotId, displayName",
    ]
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(start)


def test_what_get_prints_can_be_applied_and_changes_nothing(casare: Casare, flows: Path) -> None:
    casare("apply", "-f", str(flows))
    for form in ("yaml", "json"):
        file = flows / f"all.{form}"
        file.write_text(casare("get", "workflows,robots,namespaces", "-o", form).out)
        casare("apply", "-f", str(file))
        again = casare("apply", "-f", str(file))
        assert again.code == 0
        assert again.lines
        assert all(line.endswith(" unchanged") for line in again.lines)


def test_files_travel_along_and_a_changed_one_configures(casare: Casare, client: Client, flows: Path) -> None:
    assert casare("apply", "-f", str(flows), "-n", "default").code == 0
    assert casare("apply", "-f", str(flows)).lines == ["workflow/hello unchanged"]
    (flows / "data" / "greeting.txt").write_text("good morning\n")
    assert casare("apply", "-f", str(flows)).lines == ["workflow/hello configured"]
    spec = client.get("Workflow", "hello")["spec"]
    assert client.get_blob("default", spec["files"][0]["sha256"]) == b"good morning\n"
    (flows / "hello.py").unlink()
    found = casare("apply", "-f", str(flows))
    assert (found.code, found.out) == (1, "")
    assert (
        found.err
        == f"{flows / 'hello.yaml'}: document 1 (line 6): spec.source.file: there is no file hello.py in {flows}\n"
    )


def test_a_declared_job_is_changed_only_where_it_may_be(casare: Casare, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(job("declared"))
    assert casare("apply", "-f", str(file)).lines == ["job/declared created"]
    assert casare("apply", "-f", str(file)).lines == ["job/declared unchanged"]
    file.write_text(job("declared", priority=3))
    assert casare("apply", "-f", str(file)).lines == ["job/declared configured"]
    assert client.get("Job", "declared")["spec"]["priority"] == 3
    file.write_text(job("declared", priority=3, parameters={"x": 1}))
    found = casare("apply", "-f", str(file))
    assert (found.code, found.out) == (1, "")
    assert found.err.startswith(f"{file}: document 1 (line 1): spec")
    assert "can change only in cancel, priority, ttlAfterFinished" in found.err


def test_a_dry_run_checks_everything_and_keeps_nothing(casare: Casare, client: Client, flows: Path) -> None:
    (flows / "all.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: dry}\n---\n"
        + HELLO.replace("name: hello", "name: dry, namespace: dry")
        + f"---\n{GROUP}\nkind: Job\nmetadata: {{name: dry, namespace: dry}}\n"
        "spec: {workflowRef: {name: dry}, parameters: {who: me}}\n"
        f"---\n{GROUP}\nkind: Robot\nmetadata: {{name: dry}}\nspec: {{maxConcurrentJobs: 0}}\n"
    )
    found = casare("apply", "--dry-run", "-f", str(flows / "all.yaml"))
    assert found.code == 1, found.err
    assert found.lines == [f"{name} created (dry run)" for name in ("namespace/dry", "workflow/dry", "job/dry")]
    assert "spec.maxConcurrentJobs: Invalid value: 0: must be at least 1" in found.err
    with pytest.raises(ApiError, match="not found"):
        client.get("Namespace", "dry")


def test_namespaces_come_from_the_option_or_the_manifest_but_not_both(casare: Casare, tmp_path: Path) -> None:
    namespace = in_namespace(casare, tmp_path, "placed")
    file = tmp_path / "robots.yaml"
    file.write_text(
        f"{GROUP}\nkind: Robot\nmetadata: {{name: a}}\n---\n"
        f"{GROUP}\nkind: Robot\nmetadata: {{name: b, namespace: default}}\n"
    )
    found = casare("apply", "-f", str(file), "-n", namespace)
    assert (found.code, found.lines) == (1, ["robot/a created"])
    assert found.err == f'{file}: document 2 (line 7): metadata.namespace: is "default", but -n says "placed"\n'
    file.write_text(f"{GROUP}\nkind: Robot\nmetadata: {{name: a}}\n---\n{GROUP}\nkind: Robot\nmetadata: {{name: a}}\n")
    assert "is declared before, in" in casare("apply", "-f", str(file)).err


def test_standard_input_is_a_manifest_too(server: Server) -> None:
    command = [
        sys.executable,
        "-m",
        "casare_cli",
        "--server",
        server.url,
        "--key",
        server.admin_key,
        "apply",
        "-f",
        "-",
    ]
    found = subprocess.run(command, input=job("piped"), capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, "job/piped created\n", "")


# -- get, describe -----------------------------------------------------------------------------------------------


def test_objects_are_listed_as_people_and_scripts_want_them(casare: Casare, tmp_path: Path) -> None:
    namespace = in_namespace(casare, tmp_path, "shown")
    (tmp_path / "jobs.json").write_text(f"---\n{job('a')}\n---\n{job('b')}\n".replace("---\n", "", 1))
    (tmp_path / "jobs.json").rename(tmp_path / "jobs.yaml")
    casare("apply", "-f", str(tmp_path / "jobs.yaml"), "-n", namespace)
    table = casare("get", "jobs", "-n", namespace).lines
    assert re.fullmatch(r"NAME  STATUS  PRIORITY  WORKFLOW  ROBOT   ATTEMPT  DURATION  AGE", table[0])
    assert table[1].startswith("a     Queued  10        (inline)  <none>  ")
    assert casare("get", "jobs", "-A").lines[0].startswith("NAMESPACE  NAME")
    assert "REQUIREMENTS" in casare("get", "jobs", "-n", namespace, "-o", "wide").lines[0]
    assert casare("get", "jobs", "-n", namespace, "-o", "name").lines == ["job/a", "job/b"]
    assert casare("get", "job/a", "job/b", "-n", namespace, "-o", "name").lines == ["job/a", "job/b"]
    assert json.loads(casare("get", "job", "a", "-n", namespace, "-o", "json").out)["metadata"]["name"] == "a"
    assert [one["kind"] for one in json.loads(casare("get", "jobs", "-n", namespace, "-o", "json").out)["items"]] == [
        "Job",
        "Job",
    ]
    assert casare("get", "jobs", "-n", namespace, "--field-selector", "metadata.name=b", "--no-headers").out.startswith(
        "b "
    )


def test_nothing_found_is_said_on_standard_error(casare: Casare) -> None:
    found = casare("get", "jobs", "-n", "nowhere")
    assert (found.code, found.out, found.err) == (0, "", "No resources found in nowhere namespace.\n")
    assert casare("get", "jobs", "-n", "nowhere", "-o", "name").out == ""
    assert json.loads(casare("get", "jobs", "-n", "nowhere", "-o", "json").out)["items"] == []


def test_a_name_that_is_not_there_does_not_hide_the_others(casare: Casare) -> None:
    found = casare("get", "namespace", "nope", "default")
    assert found.code == 1
    assert found.err == 'error: namespaces "nope" not found\n'
    assert found.lines[1].startswith("default")


def test_describe_shows_any_object_with_its_events(casare: Casare, robot: str, until: Callable[..., object]) -> None:
    until(lambda: "Online" in casare("describe", "robot", robot).out, "the robot's event")
    text = casare("describe", f"robot/{robot}").out
    for part in (f"Name:         {robot}", "Slots:        0 of 1 used", "Conditions:\n  TYPE", "Events:\n  AGE"):
        assert part in text
    assert casare("describe", "ns", "default").code == 0
    assert casare("describe", "job", "nope").err == 'error: jobs.fleet.casare.net "nope" not found\n'


# -- jobs --------------------------------------------------------------------------------------------------------


def test_run_follow_shows_the_log_and_exits_as_the_job(casare: Casare, robot: str, flows: Path) -> None:
    casare("apply", "-f", str(flows))
    good = casare("run", "hello", "-p", "who=2026-10", "--follow")
    assert (good.code, good.out) == (0, "hello 2026-10\n")
    assert re.search(r"^job/hello-\w+ Succeeded after \d+s$", good.err, re.MULTILINE)
    bad = casare("run", "hello", "-p", "who=fail", "--follow")
    assert (bad.code, bad.out) == (7, "hello fail\n")
    name = bad.err.split()[0]
    assert casare("logs", name).out == casare("logs", name.removeprefix("job/"), "-f").out == "hello fail\n"
    assert "Exit code:    7" in casare("describe", name).out


def test_run_says_what_is_wrong_with_parameters_and_workflows(casare: Casare, flows: Path) -> None:
    casare("apply", "-f", str(flows))
    wrong = casare("run", "hello", "-p", "count=3")
    assert (wrong.code, wrong.err.startswith("error: spec.parameters")) == (1, True)
    missing = casare("run", "helo")
    assert missing.code == 1
    assert re.fullmatch(r'error: there is no workflow "helo" in default; there are: .*hello.*\n', missing.err)


def test_a_running_job_is_cancelled(casare: Casare, robot: str, flows: Path, until: Callable[..., object]) -> None:
    casare("apply", "-f", str(flows))
    [name] = casare("run", "hello", "-p", "who=wait").lines
    until(lambda: casare("logs", name).out == "hello wait\n", "its first line")
    assert casare("cancel", name).out == f"{name} will be cancelled\n"
    assert casare("logs", name, "-f").out == "hello wait\n"
    assert casare("cancel", name).out == f"{name} had ended before: Cancelled\n"
    assert casare("cancel", "nope").err == 'error: jobs.fleet.casare.net "nope" not found\n'


def test_ctrl_c_ends_the_looking_and_not_the_job(
    server: Server, casare: Casare, robot: str, flows: Path, until: Callable[..., object]
) -> None:
    casare("apply", "-f", str(flows))
    command = [
        sys.executable, "-c", "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from casare_cli.main import main; sys.exit(main(sys.argv[1:]))",
        "--server", server.url, "--key", server.admin_key, "run", "hello", "-p", "who=wait", "--follow",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hello wait\n"
        process.send_signal(2)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    [name] = set(re.findall(r"job/hello-\w+", err))
    assert f"{name} goes on: 'casare logs {name} -f' shows it" in err
    assert "Running" in casare("get", name).out
    casare("cancel", name)


def test_a_declared_job_that_ran_and_was_cleaned_up_is_not_run_again(
    casare: Casare, robot: str, tmp_path: Path, until: Callable[..., object]
) -> None:
    spec = {"workflow": {"runner": "command", "source": {"inline": "true"}}, "ttlAfterFinished": "0s"}
    obj: Object = {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": spec}
    (tmp_path / "once.json").write_text(json.dumps(obj))
    assert casare("apply", "-f", str(tmp_path)).lines == ["job/once created"]
    until(lambda: casare("get", "job", "once").code == 1, "its ttl removes it", 60)
    assert casare("apply", "-f", str(tmp_path)).lines == ["job/once unchanged (it ran already)"]


# -- delete, keys ------------------------------------------------------------------------------------------------


def test_objects_are_deleted_by_name_by_label_and_by_manifest(casare: Casare, tmp_path: Path) -> None:
    file = tmp_path / "robots.yaml"
    robots = [f"{GROUP}\nkind: Robot\nmetadata: {{name: d{number}, labels: {{batch: del}}}}\n" for number in range(4)]
    file.write_text("---\n".join(robots))
    casare("apply", "-f", str(file))
    assert casare("delete", "robot", "d0", "--wait").out == "robot/d0 deleted\n"
    assert casare("delete", "robot/d0").err == 'error: robots.fleet.casare.net "d0" not found\n'
    assert casare("delete", "robot/d0", "--ignore-not-found").code == 0
    assert casare("delete", "robots", "-l", "batch=del").lines == [f"robot/d{number} deleted" for number in (1, 2, 3)]
    casare("apply", "-f", str(file))
    assert casare("delete", "-f", str(file)).lines == [f"robot/d{number} deleted" for number in (3, 2, 1, 0)]
    assert casare("delete", "robots").code == 2


def test_a_robots_key_is_made_for_its_id_whatever_that_is(casare: Casare, client: Client) -> None:
    name = f"k-{secrets.token_hex(3)}"
    assert casare("keys", "create", name, "--role", "robot", "--robot", "PC 07 Büro").code == 0
    assert client.get("ApiKey", name)["spec"]["robotName"] == robot_name("PC 07 Büro")


def test_a_key_is_shown_once_and_works_until_it_is_revoked(
    casare: Casare, client: Client, until: Callable[..., object]
) -> None:
    made = casare("keys", "create", "looker", "--role", "viewer")
    [key] = made.lines
    assert made.code == 0
    assert key not in casare("get", "apikey", "looker", "-o", "yaml").out
    assert casare("get", "robots", key=key).code == 0
    denied = casare("delete", "robot", "x", key=key)
    assert (denied.code, "forbidden" in denied.err, denied.err.count("\n")) == (1, True, 1)
    assert (
        casare("keys", "create", "looker", "--role", "viewer").err
        == 'error: apikeys.fleet.casare.net "looker" already exists\n'
    )
    client.patch("ApiKey", "looker", {"spec": {"revoked": True}})
    until(lambda: casare("get", "robots", key=key).code == 1, "the key is refused")
    refused = casare("get", "robots", key=key)
    assert refused.err.startswith("error: the server does not accept this API key")
    assert casare("apply", "-f", __file__.replace(".py", ".nope"), key="crpa_nonsense").code == 1


def test_a_key_made_offline_works_by_its_hash(casare: Casare, tmp_path: Path) -> None:
    key, digest = (line.partition(":")[2].strip() for line in casare("keys", "hash").lines)
    (tmp_path / "key.yaml").write_text(
        f"{GROUP}\nkind: ApiKey\nmetadata: {{name: offline}}\nspec: {{role: operator, hash: '{digest}'}}\n"
    )
    assert casare("apply", "-f", str(tmp_path)).code == 0
    assert casare("get", "robots", key=key).code == 0


def test_a_key_is_rotated_listed_and_revoked(casare: Casare, client: Client, until: Callable[..., object]) -> None:
    old = casare("keys", "create", "turning", "--role", "viewer", "--rotate-every", "90d").lines[0]
    made = casare("keys", "rotate", "apikey/turning", "--overlap", "1h")
    assert (made.code, "the old one is good until" in made.err) == (0, True)
    assert casare("get", "robots", key=old).code == casare("get", "robots", key=made.lines[0]).code == 0
    assert "has two keys already" in casare("keys", "rotate", "turning").err
    cut = casare("keys", "rotate", "turning", "--overlap", "0")
    assert "not good any more" in cut.err and casare("get", "robots", key=old).code == 1
    assert casare("keys", "rotate", "turning", "--overlap", "soon").err.startswith("error: overlap: ")
    done = casare("keys", "revoke", "turning", "nobody", "--on-revoke", "Cancel")
    assert (done.code, done.lines) == (1, ["apikey/turning revoked"])
    assert client.get("ApiKey", "turning")["spec"]["onRevoke"] == "Cancel"
    until(lambda: casare("get", "robots", key=cut.lines[0]).code == 1, "the key is refused")
    listed = casare("keys", "list").lines
    assert all(column in listed[0] for column in ("LAST USED", "FROM", "ROTATION"))
    assert any(line.startswith("turning") and "Revoked" in line for line in listed)


# -- watching ----------------------------------------------------------------------------------------------------


@pytest.fixture
def watching(server: Server) -> Iterator[Callable[..., list[str]]]:
    """Starts `casare get ... -w` and gives the lines it prints as they come."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> list[str]:
        command = [sys.executable, "-m", "casare_cli", "--server", server.url, "--key", server.admin_key, "get", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append(process)
        lines: list[str] = []

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip("\n"))

        threading.Thread(target=read, daemon=True).start()
        return lines

    yield start
    for process in processes:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def test_a_watch_shows_each_change_once_through_a_restart_of_the_server(
    server: Server, casare: Casare, client: Client, tmp_path: Path, watching: Callable[..., list[str]],
    until: Callable[..., object],
) -> None:  # fmt: skip
    namespace = in_namespace(casare, tmp_path, "watched")
    (tmp_path / "job.json").write_text(job("a"))
    casare("apply", "-f", str(tmp_path / "job.json"), "-n", namespace)
    lines = watching("jobs", "-n", namespace, "-w", "-o", "name")
    until(lambda: lines == ["job/a"], "the list")
    client.patch("Job", "a", {"spec": {"priority": 1}}, namespace)
    until(lambda: len(lines) == 2, "the change")
    server.kill("apiserver")
    until(lambda: len(lines) == 3, "the outage")
    assert lines[2].startswith(f"warning: cannot reach {server.url}: ")
    server.run("apiserver", "-m", "casare_apiserver")
    until(server.is_ready, "the server is back")
    client.patch("Job", "a", {"spec": {"priority": 2}}, namespace)
    client.delete("Job", "a", namespace)
    until(lambda: len(lines) == 5, "both changes")
    assert lines[3:] == ["job/a", "job/a"]


def test_a_watched_table_keeps_its_columns_and_marks_what_is_gone(
    casare: Casare, client: Client, tmp_path: Path, watching: Callable[..., list[str]], until: Callable[..., object]
) -> None:
    namespace = in_namespace(casare, tmp_path, "tabled")
    (tmp_path / "job.json").write_text(job("a"))
    casare("apply", "-f", str(tmp_path / "job.json"), "-n", namespace)
    lines = watching("job/a", "-n", namespace, "-w")
    until(lambda: len(lines) == 2, "the table")
    client.delete("Job", "a", namespace)
    until(lambda: len(lines) >= 3, "the deletion")
    assert lines[0].split()[:2] == ["NAME", "STATUS"]
    assert lines[-1].startswith("a ")
    assert lines[-1].endswith("(deleted)")
    assert lines[-1].index("Queued") == lines[0].index("STATUS")
