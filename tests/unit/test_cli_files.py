"""Which files of a workflow travel along, and which never do."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from casare_api.kinds import Object
from casare_cli import files
from casare_cli.files import FileProblem
from casare_cli.manifests import Manifest, Origin


def manifest(place: Path, spec: Object, kind: str = "Workflow") -> Manifest:
    obj: Object = {"apiVersion": "fleet.casare.net/v1", "kind": kind, "metadata": {"name": "w"}, "spec": spec}
    return Manifest(Origin("w.yaml", 1, 1), obj, place / "flows", place)


def store(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_digests_are_filled_in_for_source_and_files(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.py").write_bytes(b"print()")
    (tmp_path / "shared.csv").write_bytes(b"1,2")
    declared = manifest(tmp_path, {"source": {"file": "a.py"}, "files": [{"name": "x", "path": "../shared.csv"}]})
    found = files.with_digests(declared, store)["spec"]
    assert found["source"]["sha256"] == store(b"print()")
    assert found["files"][0]["sha256"] == store(b"1,2")
    assert "sha256" not in declared.object["spec"]["source"]


def test_workflows_inside_jobs_and_schedules_bring_their_files_too(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.py").write_bytes(b"x")
    inner: Object = {"workflow": {"source": {"file": "a.py"}}}
    job = files.with_digests(manifest(tmp_path, inner, "Job"), store)
    schedule = files.with_digests(manifest(tmp_path, {"jobTemplate": {"spec": inner}}, "Schedule"), store)
    assert job["spec"]["workflow"]["source"]["sha256"] == store(b"x")
    assert schedule["spec"]["jobTemplate"]["spec"]["workflow"]["source"]["sha256"] == store(b"x")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.py", "there is no file missing.py in"),
        ("sub", "is a folder"),
        ("/etc/passwd", "must be relative"),
        ("C:\\secrets.txt", "must be relative"),
        ("\\\\server\\share", "must be relative"),
        ("../../outside.txt", "leads out of"),
        ("link.txt", "leads out of"),
        ("a\0b", "names no file"),
    ],
)
def test_a_file_outside_of_the_applied_folder_is_refused(tmp_path: Path, name: str, said: str) -> None:
    root = tmp_path / "root"
    (root / "flows" / "sub").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret")
    os.symlink(tmp_path / "outside.txt", root / "flows" / "link.txt")
    with pytest.raises(FileProblem) as caught:
        files.with_digests(manifest(root, {"source": {"file": name}}), store)
    assert said in caught.value.message
    assert caught.value.path == "spec.source.file"


def test_a_file_beyond_64_mib_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    with (tmp_path / "flows" / "big").open("wb") as big:
        big.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(FileProblem, match="larger than 64 MiB"):
        files.with_digests(manifest(tmp_path, {"source": {"file": "big"}}), store)


def test_a_missing_file_with_a_digest_is_the_servers(tmp_path: Path) -> None:
    declared = manifest(tmp_path, {"source": {"file": "gone.py", "sha256": "a" * 64}})
    assert files.with_digests(declared, store) == declared.object
