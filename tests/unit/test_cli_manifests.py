"""Which objects files declare, and how problems in them are said."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from casare_cli import manifests
from casare_cli.manifests import Reading

JOB = "apiVersion: fleet.casare.net/v1\nkind: Job\nmetadata: {name: NAME}\nspec: {workflowRef: {name: w}}\n"


def write(place: Path, text: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def names(reading: Reading) -> list[str]:
    return [one.name for one in reading.manifests]


def test_of_200_documents_one_is_broken_and_199_are_read(tmp_path: Path) -> None:
    documents = [JOB.replace("NAME", f"j{number}") for number in range(200)]
    documents[120] = "a: b: c\n"
    file = write(tmp_path / "jobs.yaml", "---\n".join(documents))
    reading = manifests.read([str(file)])
    assert len(reading.manifests) == 199
    assert reading.problems == [
        f'{file}: document 121 (line 601): not valid YAML: a ": " stands where none can: '
        "indent differently, or put the value in quotes (column 5)"
    ]


def test_a_folder_is_read_recursively_in_order_without_hidden_files(tmp_path: Path) -> None:
    write(tmp_path / "b" / "two.yml", JOB.replace("NAME", "two"))
    write(tmp_path / "a.yaml", JOB.replace("NAME", "one"))
    write(tmp_path / ".git" / "x.yaml", "nonsense: [")
    write(tmp_path / ".x.yaml.swp.yaml", "nonsense: [")
    write(tmp_path / "notes.txt", "nonsense: [")
    reading = manifests.read([str(tmp_path)])
    assert (names(reading), reading.problems) == (["job/one", "job/two"], [])


def test_a_folder_without_manifests_says_so(tmp_path: Path) -> None:
    assert manifests.read([str(tmp_path)]).problems == [
        f"{tmp_path}: there are no manifests in it (*.yaml, *.yml, *.json)"
    ]


def test_json_has_lines_too_even_with_tabs(tmp_path: Path) -> None:
    obj = {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"priority": "\t"}}
    file = write(tmp_path / "a.json", json.dumps(obj, indent="\t"))
    [manifest] = manifests.read([str(file)]).manifests
    assert manifest.object == obj
    assert manifest.origin.problem("wrong", "spec.priority") == f"{file}: document 1 (line 8): spec.priority: wrong"


def test_a_list_is_what_is_in_it(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- kind: Jub\n"
    )
    file = write(tmp_path / "a.yaml", text)
    reading = manifests.read([str(file)])
    assert names(reading) == ["namespace/a"]
    assert reading.problems[0].startswith(
        f'{file}: document 1 (line 7): kind: there is no kind "Jub"; did you mean "Job"?'
    )


def test_input_of_a_workflow_in_the_same_folder_is_no_manifest(tmp_path: Path) -> None:
    write(
        tmp_path / "w.yaml",
        "apiVersion: fleet.casare.net/v1\nkind: Workflow\nmetadata: {name: w}\n"
        "spec: {runner: command, files: [{name: x, path: data/shops.json}, {name: y, path: data/y.yaml}]}\n",
    )
    write(tmp_path / "data" / "shops.json", '{"a": 1}')
    write(tmp_path / "data" / "y.yaml", "a: b: c")
    reading = manifests.read([str(tmp_path)])
    assert (names(reading), reading.problems) == (["workflow/w"], [])


def test_standard_input_is_yaml_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (JOB, '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "NAME"}}'):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.replace("NAME", "x").encode())))
        assert names(manifests.read(["-"]))[0].endswith("/x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(JOB.replace("NAME", "a").replace("\n", "\r\n").encode(encoding))
    assert names(manifests.read([str(file)])) == ["job/a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "must be an object with apiVersion, kind and metadata"),
        ("just text\n", "must be an object with apiVersion, kind and metadata"),
        ("apiVersion: v1\n", "kind: Required value: one of Namespace, "),
        ("kind: 5\n", "kind: Required value: one of Namespace, "),
        ("kind: job\n", 'kind: there is no kind "job"; write Job'),
        ("kind: Job\n", "apiVersion: Required value: a Job has fleet.casare.net/v1"),
        ("kind: Job\napiVersion: batch/v1\n", 'apiVersion: Invalid value: "batch/v1": a Job has fleet.casare.net/v1'),
        ("kind: Job\napiVersion: fleet.casare.net/v1\n", "metadata.name: Required value"),
        ("kind: Job\napiVersion: fleet.casare.net/v1\nmetadata: [x]\n", "metadata: Invalid value"),
        (
            "kind: Job\napiVersion: fleet.casare.net/v1\nmetadata: {name: 5}\n",
            "metadata.name: Invalid value: 5: must be text",
        ),
        (
            "kind: Job\napiVersion: fleet.casare.net/v1\nmetadata: {generateName: x-}\n",
            "metadata.generateName: apply needs a metadata.name",
        ),
    ],
)
def test_the_outside_of_an_object_is_checked_here(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "a.yaml", text)
    [problem] = manifests.read([str(file)]).problems
    assert problem.startswith(f"{file}: document 1 (line ")
    assert said in problem
    assert "\n" not in problem


def test_files_that_can_not_be_read_are_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c.json").write_text('{"a": 1, "a": 2}')
    (tmp_path / "d.json").write_text('{"a": ')
    (tmp_path / "e.json").write_text("[" * 100_000)
    reading = manifests.read([str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.json", "d.json", "e.json")])
    words = ("no such file", "not UTF-8", '"a" appears twice', "not valid JSON: Expecting value", "nested too deeply")
    assert len(reading.problems) == len(words)
    for problem, word in zip(reading.problems, words, strict=True):
        assert word in problem
