"""The transcripts in docs/ are what `kubectl` and `casare` print: every command is run, in order, on a real fleet.

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

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "kubectl.md", DOCS / "jobs.md"]
BLOCK = re.compile(r"```(console|yaml)\n(.*?)```", re.S)
VARIES = [
    # How far it is, as often as it changes; what is not seen in between is left out.
    (re.compile(r"^(?:(?:waiting|submitting): .*|job/(?:greet|export)-\w+ (?:Queued|Assigned|Running)\b.*)\n?", re.M), ""),
    (re.compile(r"\b\d+(?:\.\d+)?(?:ms|s|m|h|d)(?:\d+[smh])*\b"), "AGE"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:T[\d:.]+Z| [\d:]+ UTC)"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b"), "UID"),
    (re.compile(r"127\.0\.0\.1:\d+"), "SERVER"),
    (re.compile(r"\b(greet|export)-[a-z0-9]{10}\b"), r"\1-NAME"),
    (re.compile(r"(?:<none>|\b(?:browser|desktop|gpu|high_memory)\b(?:,\w+)*)"), "CAPABILITIES"),
    (re.compile(r" patched \(no change\)"), " patched"),  # what a robot measures may change between two looks
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


def settled(command: str, said: str, env: dict[str, str]) -> str:
    """What a command prints; one that only looks may look again, since events come a moment after what they tell of."""
    deadline = time.monotonic() + 10
    printed, only_looks = run(command, env), command.startswith(("kubectl get ", "casare get ", "casare why "))
    while only_looks and steady(printed) != steady(said) and time.monotonic() < deadline:
        printed = run(command, env)
    return printed


def run(command: str, env: dict[str, str]) -> str:
    """What a command prints, on both its outputs."""
    done = subprocess.run(
        ["sh", "-c", command], cwd=env["HOME"], text=True, timeout=60, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=env,
    )  # fmt: skip
    return done.stdout


def of_a_person(fleet: Server, home: Path) -> dict[str, str]:
    """The environment of somebody who works with the fleet."""
    (home / "kubeconfig").write_text(kubeconfig(fleet, fleet.admin_key, "default"))
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home),
        "KUBECONFIG": f"{home}/kubeconfig", "CASARE_ORCHESTRATOR_URL": fleet.url,
        "CASARE_ORCHESTRATOR_API_KEY": fleet.admin_key,
    }  # fmt: skip


@pytest.mark.parametrize("source", PAGES, ids=lambda page: page.name)
def test_the_transcripts_are_what_is_printed(fleet: Server, tmp_path: Path, source: Path) -> None:
    place = tmp_path / "home"
    place.mkdir()
    env = of_a_person(fleet, place)
    page, wrong = source.read_text(encoding="utf-8"), []
    for kind, block in BLOCK.findall(page):
        if kind == "yaml":
            name, _, content = block.partition("\n")
            (place / name.removeprefix("# ")).parent.mkdir(exist_ok=True)
            (place / name.removeprefix("# ")).write_text(content)
            continue
        written = []
        for command, said in commands(block):
            printed = "" if command.startswith("export ") else settled(command, said, env)
            written.append(f"$ {command}\n" + "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines()))
            if steady(printed) != steady(said):
                wrong.append(f"$ {command}\n--- the page says\n{said}\n--- it prints\n{printed}")
        page = page.replace(block, "".join(written))
    if os.environ.get("CASARE_WRITE_TRANSCRIPTS"):
        source.write_text(page, encoding="utf-8")
        return
    assert not wrong, "\n\n".join(wrong)
