"""Do the workflows under manifests/ give the right answer on the input files beside them?

The invoices' answer is known from how they were made (`make_data.py` decides each invoice's fate before it writes a
bank line); the prices' answer is written out here by somebody who read the pages.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from casare_api.kinds import KINDS

MANIFESTS = Path(__file__).parents[2] / "manifests"
INVOICES = MANIFESTS / "reconcile-invoices"
PRICES = MANIFESTS / "price-watch"
CLEANUP = MANIFESTS / "nightly-cleanup"


def load(path: Path) -> ModuleType:
    """The program as a module, without leaving its folder on the path."""
    spec = importlib.util.spec_from_file_location(f"manifest_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture(scope="module")
def reconcile() -> ModuleType:
    return load(INVOICES / "reconcile.py")


@pytest.fixture(scope="module")
def make_data() -> ModuleType:
    return load(INVOICES / "make_data.py")


@pytest.fixture(scope="module")
def price_watch() -> ModuleType:
    return load(PRICES / "price_watch.py")


def documents() -> list[tuple[Path, dict[str, Any]]]:
    files = sorted(MANIFESTS.rglob("*.yaml"))
    return [(path, doc) for path in files for doc in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def run_as_job(tmp_path: Path, folder: Path, **parameters: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Run a folder's workflow as a robot does: its files in an empty work directory, its arguments filled in."""
    spec = next(doc["spec"] for path, doc in documents() if path.parent == folder and doc["kind"] == "Workflow")
    for file in spec.get("files", []):
        target = tmp_path / file["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((folder / file["path"]).read_bytes())
    args = [str(arg) for arg in spec["args"]]
    for name, value in parameters.items():
        args = [arg.replace("{{ parameters." + name + " }}", value) for arg in args]
    if "source" in spec:
        source = spec["source"]["file"]
        (tmp_path / source).write_bytes((folder / source).read_bytes())
        args = [sys.executable, source, *args]
    else:
        args[0] = sys.executable
    outputs = tmp_path / "outputs.json"
    env = {**os.environ, "CASARE_OUTPUTS_FILE": str(outputs), "CASARE_ARTIFACTS": str(tmp_path), "PYTHONUTF8": "1",
           "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    return done, json.loads(outputs.read_text(encoding="utf-8")) if outputs.exists() else None


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- the manifests themselves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "document"),
    [pytest.param(path, doc, id=f"{doc['kind']}-{doc['metadata']['name']}") for path, doc in documents()],
)
def test_each_document_is_a_valid_resource_whose_files_exist(path: Path, document: dict[str, Any]) -> None:
    kind = KINDS[document["kind"]]
    assert document["apiVersion"] == kind.api_version
    kind.model.model_validate(document)
    files = [file["path"] for file in document["spec"].get("files", [])]
    if source := document["spec"].get("source"):
        files.append(source["file"])
    for file in files:
        assert (path.parent / file).is_file(), file


def test_robots_keys_workflows_schedules_and_jobs_are_all_declared() -> None:
    assert {doc["kind"] for _, doc in documents()} >= {"Robot", "ApiKey", "Workflow", "Schedule", "Job"}


def test_no_manifest_holds_a_key() -> None:
    for path in MANIFESTS.rglob("*.yaml"):
        assert "crpa_" not in path.read_text(encoding="utf-8"), path


def test_every_page_and_table_of_the_price_watch_is_sent_along() -> None:
    spec = next(doc["spec"] for path, doc in documents() if path.parent == PRICES and doc["kind"] == "Workflow")
    sent = {file["path"] for file in spec["files"]}
    assert {f"pages/{page.name}" for page in (PRICES / "pages").glob("*.html")} <= sent


# -- reconcile-invoices ------------------------------------------------------------------------------------------


def test_the_committed_files_are_what_the_generator_makes(make_data: ModuleType) -> None:
    books = make_data.make_books()
    assert (INVOICES / "data" / "invoices.csv").read_bytes() == make_data.invoices_csv(books).encode()
    assert (INVOICES / "data" / "bank-statement.csv").read_bytes() == make_data.statement_csv(books).encode()


def test_the_input_has_the_dirt_it_promises(make_data: ModuleType) -> None:
    books = make_data.make_books()
    fates = [invoice.fate for invoice in books.invoices]
    for fate, _ in make_data.FATES:
        assert fates.count(fate) >= 3, fate
    statement = make_data.statement_csv(books)
    assert books.repeated >= 20
    for pattern in (r"^2026-10-\d\d;", r"^\d\d\.10\.2026;", r";\d{4}\.\d\d$", r";\d\.\d{3},\d\d$", r"RE-2026-\d{4};"):
        assert re.search(pattern, statement, re.MULTILINE), pattern


@pytest.mark.parametrize("seed", [202610, 1, 2, 3, 4, 5, 6, 7])
def test_every_invoice_ends_in_the_state_it_was_made_for(
    seed: int, make_data: ModuleType, reconcile: ModuleType, tmp_path: Path
) -> None:
    books = make_data.make_books(seed)
    (tmp_path / "invoices.csv").write_text(make_data.invoices_csv(books), encoding="utf-8")
    (tmp_path / "statement.csv").write_text(make_data.statement_csv(books, seed), encoding="utf-8")
    invoices = reconcile.read_invoices(tmp_path / "invoices.csv")
    result = reconcile.reconcile(invoices, reconcile.read_payments(tmp_path / "statement.csv"))
    found = {invoice.number: (invoice.state, invoice.paid) for invoice in result.invoices}
    assert found == {number: (truth.state, truth.paid) for number, truth in books.truth.items()}
    assert result.duplicates == books.repeated
    assert len(result.strangers) == sum(not line.settles for line in books.lines)


@pytest.mark.parametrize("month", ["2026-09", "2026-10"])
def test_the_job_puts_out_the_right_totals_and_a_report(month: str, make_data: ModuleType, tmp_path: Path) -> None:
    books = make_data.make_books()
    wanted = [invoice for invoice in books.invoices if f"{invoice.day:%Y-%m}" == month]
    states = {invoice.number: books.truth[invoice.number].state for invoice in wanted}
    settled = [number for number, state in states.items() if state in ("paid", "overpaid")]
    done, outputs = run_as_job(tmp_path, INVOICES, month=month)
    assert done.returncode == 0, done.stderr
    assert f"{len(settled)} of {len(wanted)} are settled" in done.stdout
    assert (outputs["invoices"], outputs["matched"]) == (len(wanted), len(settled))
    assert outputs["unmatched"] == len(wanted) - len(settled)
    assert Decimal(outputs["amountInvoiced"]) == sum(invoice.amount for invoice in wanted)
    assert Decimal(outputs["amountPaid"]) == sum(books.truth[invoice.number].paid for invoice in wanted)
    report = [row for row in table(tmp_path / "report.csv") if row["number"]]
    assert {row["number"]: row["state"] for row in report} == states


def test_a_month_without_invoices_fails_with_one_line(tmp_path: Path) -> None:
    done, outputs = run_as_job(tmp_path, INVOICES, month="2031-01")
    assert done.returncode == 1
    assert done.stderr.strip() == "reconcile: no invoice is dated 2031-01; the list holds 2026-09, 2026-10"
    assert outputs is None


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1.234,56", "1234.56"), ("1234.56", "1234.56"), ("1,234.56", "1234.56"), ("-12,50", "-12.50"),
        ("0.07", "0.07"), ("1.234", "1234.00"), ("12.345.678,90", "12345678.90"), ("350", "350.00"),
    ],
)  # fmt: skip
def test_amounts_are_read_in_both_decimal_styles(text: str, amount: str, reconcile: ModuleType) -> None:
    assert reconcile.read_amount(text) == Decimal(amount)


@pytest.mark.parametrize("line", ["2026-13-01;A;B;1.00", "2026-10-01;A;B;1,0,0", "2026-10-01;A;B;", "x;A;B;1.00"])
def test_a_line_that_cannot_be_read_is_named(line: str, reconcile: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "bank.csv").write_text(f"booked;payer;reference;amount\n{line}\n", encoding="utf-8")
    with pytest.raises(reconcile.Wrong, match=r"bank\.csv, line 2: "):
        reconcile.read_payments(tmp_path / "bank.csv")


# -- price-watch -------------------------------------------------------------------------------------------------

K, H, B = "Kessler Technik", "Harbour & Pine", "Bricolux"
PRICES_AS_READ_BY_A_PERSON = {
    (B, "4012345678016"): ("Perceuse visseuse BRUNNER BS 18", "104.90", "EUR", "", "yes", ""),
    (K, "4012345678016"): ("Brunner Akku-Bohrschrauber BS 18 „Kompakt“", "99.99", "EUR", "129.99", "yes", "-19.01"),
    (B, "4012345678023"): ("Lampadaire Lumo, chêne", "79.90", "EUR", "99.90", "yes", "-20.00"),
    (H, "4012345678023"): ('Lumo floor lamp, "Nordic" oak', "89.95", "USD", "", "yes", ""),
    (H, "4012345678030"): ("Mokka 60 burr grinder", "64.50", "USD", "", "yes", "+5.50"),
    (K, "4012345678030"): ("Kaffeemühle Mokka 60, Edelstahl", "59.95", "EUR", "", "no", ""),
    (B, "4012345678047"): ("Casque sans fil Quiet One", "289.00", "EUR", "", "yes", ""),
    (H, "4012345678047"): ("Quiet One headphones <wireless>", "279.99", "USD", "349.00", "yes", "-69.01"),
    (H, "4012345678054"): (
        "Bella Vita espresso machine — the “classic”", "1399.00", "USD", "1499.00", "no", "-100.00",
    ),
    (K, "4012345678054"): ("Siebträgermaschine Bella Vita & Dampf", "1299.00", "EUR", "1449.00", "yes", ""),
    (B, "4012345678061"): ("Aspirateur robot R2", "1049.90", "EUR", "1149.90", "no", "-100.00"),
    (H, "4012345678061"): ("R2 robot vacuum", "1049.00", "USD", "", "yes", "new"),
}  # fmt: skip


def test_the_table_holds_every_price_that_a_person_reads_on_the_pages(tmp_path: Path) -> None:
    done, outputs = run_as_job(tmp_path, PRICES)
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "prices.csv")
    found = {
        (row["shop"], row["gtin"]): tuple(
            row[name] for name in ("product", "price", "currency", "old price", "in stock", "change")
        )
        for row in rows
    }
    assert found == PRICES_AS_READ_BY_A_PERSON
    assert len(rows) == len(found)
    assert outputs == {
        "pages": 6, "offers": 12, "products": 6, "soldOut": 3,
        "cheaper": 5, "dearer": 1, "new": 1, "table": "prices.csv",
    }  # fmt: skip
    assert "Aspirateur robot R2" in done.stdout


def test_a_page_that_has_changed_its_build_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    run_as_job(tmp_path, PRICES)
    (tmp_path / "pages" / "kessler-espresso.html").write_text("<h1>We are closed</h1>", encoding="utf-8")
    again = subprocess.run(
        [sys.executable, "price_watch.py"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"}, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert again.stderr.strip() == "price-watch: kessler-espresso.html: the page has no buy box"
    assert len(table(tmp_path / "prices.csv")) == len(PRICES_AS_READ_BY_A_PERSON) - 1


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("1.299,– €", ("1299.00", "EUR")), ("US$ 1,049.99", ("1049.99", "USD")), ("1 149,90 €", ("1149.90", "EUR")),
        ("$64.50", ("64.50", "USD")), ("289 €", ("289.00", "EUR")), ("nur 99,99 €*", ("99.99", "EUR")),
        ("$1,049", ("1049.00", "USD")), ("1\u202f149,90\u00a0€", ("1149.90", "EUR")), ("EUR 5,-", ("5.00", "EUR")),
    ],
)  # fmt: skip
def test_prices_are_read_as_shops_write_them(text: str, price: tuple[str, str], price_watch: ModuleType) -> None:
    assert price_watch.read_price(text) == (Decimal(price[0]), price[1])


@pytest.mark.parametrize("text", ["", "auf Anfrage", "12,90", "€"])
def test_a_text_without_a_price_is_refused(text: str, price_watch: ModuleType) -> None:
    with pytest.raises(ValueError, match="no price in"):
        price_watch.read_price(text)


# -- nightly-cleanup ---------------------------------------------------------------------------------------------


def test_the_cleanup_removes_old_files_alone_and_names_them(tmp_path: Path) -> None:
    done, _ = run_as_job(tmp_path, CLEANUP)
    assert done.returncode == 0, done.stderr
    kept = {file.relative_to(tmp_path / "scratch").as_posix() for file in (tmp_path / "scratch").rglob("*.*")}
    assert kept == {"exports/statement-2026-10.csv", "screenshots/today.png"}
    assert "removed screenshots/login-failed.png (45 days old)" in done.stdout
    assert "removed 3 files, 259 kB" in done.stdout


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need a right on Windows")
def test_the_cleanup_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "scratch"
    outside.mkdir()
    inside.mkdir()
    (outside / "old.txt").write_text("mine")
    os.utime(outside / "old.txt", (0, 0))
    (inside / "door").symlink_to(outside)
    (inside / "link.txt").symlink_to(outside / "old.txt")
    cleanup = load(CLEANUP / "cleanup.py")
    assert cleanup.old_files(inside, 30, 2_000_000_000) == []
