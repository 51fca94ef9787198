"""Does a person in a real browser see the fleet as it is, live, and nothing that is not theirs to see?

The tables are drawn on a canvas; what is in them is read from the same table that a screen reader is given.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from casare_client import Client
from tests.conftest import Server, free_port, until

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROW = 35  # pixels
PRINTS = "import time\nfor n in range(600):\n    print('step', n, flush=True)\n    time.sleep(0.5)\n"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def dashboard(server: Server) -> str:
    """The URL of a dashboard of the server, which has a robot, too."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server.start_agent("seen-1")
    server.run(
        "dashboard", "-m", "casare_dashboard", CASARE_ORCHESTRATOR_URL=server.url, CASARE_DASHBOARD_PORT=str(port)
    )
    until(lambda: _answers(f"{url}/_stcore/health"), f"the dashboard answers; {server.log('dashboard')}")
    return url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, dashboard: str, server: Server) -> Iterator[Page]:
    """A fresh visitor at the dashboard. Whoever asks another host than the dashboard fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1300})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(dashboard)
    yield page
    context.close()
    print(server.log("dashboard"))  # pytest shows it where the test failed
    assert not [url for url in asked if not url.startswith((dashboard, "data:", "blob:"))]


def test_a_wrong_key_is_refused_in_words_and_the_right_one_is_nowhere_to_be_read(
    page: Page, server: Server, dashboard: str
) -> None:
    sign_in(page, "crpa_this-is-nobodys-key")
    expect(page.get_by_text("The server does not accept this key.")).to_be_visible()
    expect(page.get_by_role("heading", name="Robots")).to_have_count(0)
    sign_in(page, server.admin_key)
    expect(page.get_by_role("heading", name="Robots")).to_be_visible()
    expect(page.get_by_text("seen-1").first).to_be_attached()
    assert page.url.rstrip("/") == dashboard
    assert server.admin_key not in page.content()
    assert server.admin_key not in server.log("dashboard")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_have_value("")


def test_robots_show_their_state_live_and_in_detail(page: Page, server: Server, client: Client) -> None:
    client.create(robot("declared-1", {"environment": "production", "tags": ["finance"]}))
    signed_in(page, server)
    expect_row(page, "seen-1", "Idle", "0 of 1", "default")
    expect_row(page, "declared-1", "Pending", "production")
    client.patch("Robot", "seen-1", {"spec": {"desiredState": "Paused"}})
    expect_row(page, "seen-1", "Idle", "Paused")
    client.patch("Robot", "seen-1", {"spec": {"desiredState": "Active"}})
    page.get_by_role("textbox", name="Search").fill("seen")
    expect(cell(page, "declared-1")).to_have_count(0)
    choose(page, "seen-1")
    expect(details(page).get_by_text("System", exact=True)).to_be_visible()
    expect(details(page).get_by_text("Ready", exact=True)).to_be_visible()
    page.get_by_role("textbox", name="Search").fill("there is no such robot")
    expect(page.get_by_text("No robot fits the filter.")).to_be_visible()


def test_a_robot_is_paused_resumed_and_drained(page: Page, server: Server, client: Client) -> None:
    client.create(robot("by-hand", {}))
    signed_in(page, server)
    expect_row(page, "by-hand", "Pending")
    choose(page, "by-hand")
    for button, wanted in (("Pause", "Paused"), ("Drain", "Drained"), ("Resume", "Active")):
        details(page).get_by_role("button", name=button, exact=True).click()
        expect(details(page).get_by_role("button", name=button, exact=True)).to_have_count(0)
        assert client.get("Robot", "by-hand")["spec"]["desiredState"] == wanted
    details(page).get_by_role("button", name="Restart").click()
    until(lambda: "restartRequestedAt" in client.get("Robot", "by-hand")["spec"], "its agent is asked to restart")


def test_a_robot_is_declared(page: Page, server: Server, client: Client) -> None:
    signed_in(page, server)
    page.get_by_text("Declare a robot").click()
    page.get_by_role("button", name="Declare it").click()
    expect(page.get_by_text("Give the robot an id")).to_be_visible()
    page.get_by_label("Robot id").fill("PC_07")
    page.get_by_label("Capabilities").fill("browser, sap")
    page.get_by_role("button", name="Declare it").click()
    expect(page.get_by_text("is declared. Its agent needs a key")).to_be_visible()
    (made,) = [one for one in client.list("Robot")["items"] if one["spec"].get("robotId") == "PC_07"]
    assert made["spec"]["capabilities"] == ["browser", "sap"]
    expect_row(page, made["metadata"]["name"], "Pending")


def test_a_key_is_made_shown_once_and_taken_back(page: Page, server: Server, client: Client) -> None:
    signed_in(page, server, "Keys")
    page.get_by_text("New key").click()
    page.get_by_label("Name").fill("auditor")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("A key for a robot needs the robot's id.")).to_be_visible()
    page.get_by_role("combobox", name="Role").click()
    page.get_by_role("option", name="viewer").click()
    page.get_by_role("button", name="Make the key").click()
    shown = page.locator(".st-key-new_key code")
    expect(shown).to_contain_text("crpa_")
    key = shown.inner_text().strip()
    assert Client(replace(client.config, key=key)).get("ApiKey", "auditor")["spec"]["role"] == "viewer"
    page.get_by_role("button", name="I have it").click()
    expect(page.get_by_text("New key")).to_be_visible()
    expect_row(page, "auditor", "Active", "viewer")
    assert key not in page.content() and key not in server.log("dashboard")
    choose(page, "auditor")
    details(page).get_by_role("button", name="Revoke").click()
    details(page).get_by_role("button", name="Yes, revoke it").click()
    expect_row(page, "auditor", "Revoked")
    assert client.get("ApiKey", "auditor")["spec"]["revoked"] is True


def test_a_job_is_followed_from_its_wait_to_its_end_with_its_log(page: Page, server: Server, client: Client) -> None:
    signed_in(page, server, "Jobs")
    client.create(job("waits", PRINTS, {"capabilities": ["sap"]}))
    expect_row(page, "waits", "Queued", "sap")
    choose(page, "waits")
    expect(details(page).get_by_text("It waits:")).to_be_visible()
    client.create(job("runs", PRINTS))
    expect_row(page, "runs", "Running", "seen-1")
    expect(details(page).get_by_role("heading", name="waits")).to_be_visible()  # the choice stays with its job
    choose(page, "runs")
    expect(page.locator(".st-key-log")).to_contain_text("step 3\nstep 4")
    details(page).get_by_role("button", name="Cancel job").click()
    details(page).get_by_role("button", name="Yes, cancel it").click()
    expect_row(page, "runs", "Cancelled")
    assert client.get("Job", "runs")["spec"]["cancel"] is True
    expect(details(page).get_by_role("button", name="Cancel job")).to_have_count(0)


def test_a_viewer_sees_jobs_but_no_way_to_cancel_them(page: Page, server: Server, client: Client) -> None:
    client.create(api_key("eve", "viewer"))
    client.create(job("not-eves", PRINTS, {"capabilities": ["sap"]}))
    sign_in(page, client.issue_key("eve"))
    page.get_by_role("link", name="Jobs").click()
    expect_row(page, "not-eves", "Queued")
    choose(page, "not-eves")
    expect(details(page).get_by_text("It has not started yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel job")).to_have_count(0)
    client.delete("ApiKey", "eve")
    expect(page.get_by_text("You were signed out")).to_be_visible()


def test_a_server_that_goes_away_is_one_calm_line_until_it_is_back(page: Page, server: Server) -> None:
    signed_in(page, server)
    expect_row(page, "seen-1", "Idle")
    server.kill("apiserver")
    expect(page.get_by_text("No news from")).to_be_visible()
    expect(cell(page, "seen-1")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(1)
    server.run("apiserver", "-m", "casare_apiserver")
    expect(page.get_by_text("No news from")).to_have_count(0)
    expect(cell(page, "seen-1")).to_have_count(1)


# -- what a person does and looks at -----------------------------------------------------------------------------


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def signed_in(page: Page, server: Server, where: str = "Robots") -> None:
    sign_in(page, server.admin_key)
    page.get_by_role("link", name=where).click()
    expect(page.get_by_role("heading", name=where)).to_be_visible()


def cell(page: Page, text: str) -> Locator:
    return page.locator("[role=gridcell]", has_text=text)


def details(page: Page) -> Locator:
    return page.locator(".st-key-details")


def expect_row(page: Page, *texts: str) -> None:
    """That one row of the table holds all these texts."""
    row = page.locator("tr[role=row]")
    for text in texts:
        row = row.filter(has_text=text)
    expect(row).to_have_count(1)


def choose(page: Page, name: str) -> None:
    """Click the row of this name, wherever it is when the click arrives, until its details are open."""
    table = page.get_by_test_id("stDataFrame")

    def chosen() -> bool:
        names = page.locator("[role=gridcell][aria-colindex='1']").all_text_contents()
        box = table.bounding_box()
        if name in names and box:
            page.mouse.click(box["x"] + 120, box["y"] + ROW * (names.index(name) + 1.5))
        heading = details(page).get_by_role("heading", name=name)
        try:
            expect(heading).to_be_visible(timeout=5_000)
        except AssertionError:
            return False
        return True

    until(chosen, f"the details of {name}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def robot(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "fleet.casare.net/v1", "kind": "Robot", "metadata": {"name": name}, "spec": spec}


def api_key(name: str, role: str) -> dict[str, object]:
    return {"apiVersion": "fleet.casare.net/v1", "kind": "ApiKey", "metadata": {"name": name}, "spec": {"role": role}}


def job(name: str, code: str, requirements: dict[str, object] | None = None) -> dict[str, object]:
    workflow = {"runner": "python", "source": {"inline": code}, "requirements": requirements or {}}
    spec = {"workflow": workflow}
    return {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
