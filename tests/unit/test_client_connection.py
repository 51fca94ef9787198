"""Which server is meant, and whose key goes where."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from casare_client import Config, NoServer
from casare_client.connection import default_data_dir, from_environment

OURS = """
apiVersion: v1
kind: Config
current-context: CONTEXT
contexts:
- {name: fleet, context: {cluster: fleet, user: admin, namespace: team}}
- {name: prod, context: {cluster: prod, user: prod}}
clusters:
- name: fleet
  cluster:
    server: https://127.0.0.1:8443
    certificate-authority: ca.crt
    extensions: [{name: casare.net, extension: {}}]
- name: prod
  cluster: {server: https://prod.example.com}
users:
- {name: admin, user: {token: crpa_from_kubeconfig}}
- {name: prod, user: {token: not-ours}}
"""


@pytest.fixture
def up(tmp_path: Path) -> Path:
    """A data directory as `casare up` leaves it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "admin.key").write_text("crpa_admin\n")
    record = {"api": "http://127.0.0.1:8000", "tls": "https://127.0.0.1:8443", "caFile": str(folder / "ca.crt")}
    (folder / "up.json").write_text(json.dumps({**record, "adminKeyFile": str(folder / "admin.key")}))
    return folder


def kubeconfig(place: Path, context: str) -> str:
    file = place / f"{context}.yaml"
    file.write_text(OURS.replace("CONTEXT", context))
    return str(file)


def found(environ: dict[str, str], **named: str) -> Config:
    return from_environment(environ=environ, **named)  # type: ignore[arg-type]


def test_what_was_said_goes_before_the_environment_and_that_before_a_kubeconfig(tmp_path: Path, up: Path) -> None:
    environ = {
        "CASARE_ORCHESTRATOR_URL": "http://one:1",
        "CASARE_ORCHESTRATOR_API_KEY": "key",
        "KUBECONFIG": kubeconfig(tmp_path, "fleet"),
        "CASARE_DATA_DIR": str(up),
    }
    assert found(environ, server="http://two:2").server == "http://two:2"
    assert found(environ).server == "http://one:1"
    del environ["CASARE_ORCHESTRATOR_URL"]
    assert found(environ).server == "https://127.0.0.1:8443"
    del environ["KUBECONFIG"]
    assert found(environ).server == "http://127.0.0.1:8000"


def test_a_kubeconfig_of_ours_gives_all(tmp_path: Path) -> None:
    config = found({"KUBECONFIG": kubeconfig(tmp_path, "fleet"), "CASARE_ORCHESTRATOR_API_KEY": "another"})
    assert (config.key, config.namespace) == ("crpa_from_kubeconfig", "team")
    assert config.ca_file == str(tmp_path / "ca.crt")


def test_somebodys_cluster_is_never_spoken_to(tmp_path: Path, up: Path) -> None:
    said: list[str] = []
    environ = {"KUBECONFIG": kubeconfig(tmp_path, "prod"), "CASARE_DATA_DIR": str(up)}
    assert from_environment(environ=environ, warn=said.append).server == "http://127.0.0.1:8000"
    assert said == ['KUBECONFIG is ignored: its current context "prod" is no Casare fleet']
    with pytest.raises(NoServer, match=r'context "prod" of .* is no Casare fleet'):
        found({}, kubeconfig=kubeconfig(tmp_path, "prod"))


def test_kubeconfigs_are_merged_the_first_name_wins(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(tmp_path / "missing"), kubeconfig(tmp_path, "fleet"), kubeconfig(tmp_path, "prod")])
    assert found({"KUBECONFIG": paths}).server == "https://127.0.0.1:8443"


def test_the_admin_key_of_a_directory_goes_to_its_own_server_alone(up: Path) -> None:
    environ = {"CASARE_DATA_DIR": str(up)}
    assert found(environ).key == "crpa_admin"
    assert found(environ, server="https://127.0.0.1:8443/").key == "crpa_admin"
    assert found(environ, server="https://127.0.0.1:8443").ca_file == str(up / "ca.crt")
    assert found(environ, server="http://elsewhere:8000").key == ""


def test_a_key_that_is_named_goes_before_the_one_beside_the_server(tmp_path: Path, up: Path) -> None:
    environ = {"CASARE_DATA_DIR": str(up), "CASARE_ORCHESTRATOR_API_KEY": "crpa_viewer"}
    assert found(environ).key == "crpa_viewer"
    assert found(environ, key="crpa_told").key == "crpa_told"
    assert found(environ, data_dir=str(up)).key == "crpa_admin"


def test_no_server_says_the_ways_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(NoServer) as caught:
        found({"CASARE_DATA_DIR": str(tmp_path)})
    for way in ("--server", "CASARE_ORCHESTRATOR_URL", "KUBECONFIG", "casare up"):
        assert way in str(caught.value)


def test_what_is_damaged_is_said_in_a_line(tmp_path: Path, up: Path) -> None:
    (up / "admin.key").unlink()
    with pytest.raises(NoServer, match="cannot read the admin key"):
        found({"CASARE_DATA_DIR": str(up)})
    (up / "up.json").write_text("[")
    with pytest.raises(NoServer, match="is damaged"):
        found({"CASARE_DATA_DIR": str(up)})
    (tmp_path / "bad").write_text("a: [")
    for text in ("a: [", "- x", "clusters: 5", "current-context: x\ncontexts: 5", "current-context: [x]"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(NoServer):
            found({"KUBECONFIG": str(tmp_path / "bad"), "CASARE_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize("text", ["", "localhost:8000", "ftp://x", "http://", "http://[::1", "http://x:99999", "x y"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(NoServer, match="is no server"):
        Config(text)


def test_a_server_is_cleaned_of_what_is_not_its_address() -> None:
    assert Config(" http://u:p@[::1]:80/prefix/?q=1 ").server == "http://[::1]:80/prefix"
    assert Config("http://127.0.0.1:8000").local
    assert not Config("http://fleet.example.com").local


def test_no_repr_shows_a_key(tmp_path: Path) -> None:
    config = found({"KUBECONFIG": kubeconfig(tmp_path, "fleet")})
    assert config.key not in repr(config)


def test_the_default_directory_can_be_moved(tmp_path: Path) -> None:
    assert default_data_dir({"CASARE_DATA_DIR": str(tmp_path)}) == tmp_path
    assert default_data_dir({}) in (Path("/var/lib/casare"), Path.home() / ".casare")
