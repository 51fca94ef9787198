"""The transcripts in docs/kubectl.md are what a real kubectl prints: every command is run, in order, on a real fleet.

A line that begins with `$ ` is a command, what follows is what it printed. Files are the YAML blocks that begin with
their name. Ages, versions, times and uids are not compared. With CASARE_WRITE_TRANSCRIPTS=1 the page is written anew.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casare_api.machinery.errors import ApiError
from casare_client import Client
from casare_store import embedded

from ..conftest import Server, free_port, running, until
from ..wire.conftest import kubeconfig

PAGE = Path(__file__).parents[2] / "docs" / "kubectl.md"
BLOCK = re.compile(r"```(console|yaml)\n(.*?)```", re.S)
VARIES = [
    (re.compile(r"\b\d+(?:\.\d+)?(?:ms|s|m|h|d)(?:\d+[smh])*\b"), "AGE"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b"), "UID"),
    (re.compile(r"127\.0\.0\.1:\d+"), "SERVER"),
    (re.compile(r"(?:<none>|\b(?:browser|desktop|gpu|high_memory)\b(?:,\w+)*)"), "CAPABILITIES"),
    (re.compile(r"[ \t]+"), " "),
]


@pytest.fixture
def fleet(postgres: embedded.Server, tmp_path: Path) -> Iterator[Server]:
    """A fleet of one idle robot, `local-1`."""
    with running(postgres, tmp_path, free_port()) as server, server.client() as client:
        server.start_agent("local-1")
        until(lambda: is_idle(client, "local-1"), "the robot is idle")
        yield server


def is_idle(client: Client, name: str) -> bool:
    with contextlib.suppress(ApiError):
        return client.get("Robot", name)["status"].get("phase") == "Idle"
    return False


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with what the page says that it prints."""
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    return [(command, said) for command, _, said in (part.partition("\n") for part in parts)]


def steady(text: str) -> str:
    """A text without what differs from run to run."""
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def settled(command: str, said: str, place: Path) -> str:
    """What a command prints; one that only looks may look again, since events come a moment after what they tell of."""
    deadline = time.monotonic() + 10
    printed = run(command, place)
    while command.startswith("kubectl get ") and steady(printed) != steady(said) and time.monotonic() < deadline:
        printed = run(command, place)
    return printed


def run(command: str, place: Path) -> str:
    """What a command prints, on both its outputs."""
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = str(place)
    done = subprocess.run(
        ["sh", "-c", command], cwd=place, text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": binaries, "HOME": home, "KUBECONFIG": f"{home}/kubeconfig"},
    )  # fmt: skip
    return done.stdout


def test_the_transcripts_are_what_kubectl_prints(fleet: Server, tmp_path: Path) -> None:
    place = tmp_path / "home"
    place.mkdir()
    (place / "kubeconfig").write_text(kubeconfig(fleet, fleet.admin_key, "default"))
    page, wrong = PAGE.read_text(encoding="utf-8"), []
    for kind, block in BLOCK.findall(page):
        if kind == "yaml":
            name, _, content = block.partition("\n")
            (place / name.removeprefix("# ")).parent.mkdir(exist_ok=True)
            (place / name.removeprefix("# ")).write_text(content)
            continue
        written = []
        for command, said in commands(block):
            printed = "" if command.startswith("export ") else settled(command, said, place)
            written.append(f"$ {command}\n" + "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines()))
            if steady(printed) != steady(said):
                wrong.append(f"$ {command}\n--- the page says\n{said}\n--- it prints\n{printed}")
        page = page.replace(block, "".join(written))
    if os.environ.get("CASARE_WRITE_TRANSCRIPTS"):
        PAGE.write_text(page, encoding="utf-8")
        return
    assert not wrong, "\n\n".join(wrong)
