"""Which invoices of a month are paid, and which payments belong to no invoice?

The rules, in this order:
1. Statement lines that say the same once dates and amounts are read (two exports overlap) are one payment.
2. A payment whose reference names invoices settles those, oldest first. A number counts when the payer is that
   invoice's customer, or, for anybody else, when the amount fits to the cent: so a slipped digit that hits
   somebody else's invoice does no harm.
3. A payment without such a number settles the one unpaid invoice of its payer with that amount, or the one pair of
   them with that sum. Where there is more than one possibility, nothing is guessed.
4. One cent per invoice of difference is rounding. Less leaves the invoice "partly paid", more makes it "overpaid".
5. Money going out that names an invoice takes back what was paid on it.

A robot keeps the report as a file of the job. By hand it is written here:
`python reconcile.py --month 2026-10 --data data`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import combinations
from pathlib import Path

CENT = Decimal("0.01")
FULL_NUMBER = re.compile(r"20\d\d[\s./-]*((?:[0-9OoIl]\s?){5})(?![0-9])")
BARE_NUMBER = re.compile(r"(?<![0-9A-Za-z])([0-9]{5})(?![0-9])")
LEGAL_FORMS = frozenset(("gmbh", "kg", "ag", "ohg", "ug", "eg", "ek", "co", "und", "u"))
UMLAUTS = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue"}


@dataclass
class Invoice:
    number: str
    customer: str
    day: date
    amount: Decimal
    paid: Decimal = Decimal(0)
    rules: list[str] = field(default_factory=list)

    @property
    def due(self) -> Decimal:
        return self.amount - self.paid

    @property
    def state(self) -> str:
        if abs(self.due) <= CENT:
            return "paid"
        if self.due < 0:
            return "overpaid"
        return "partly paid" if self.paid > 0 else "open"


@dataclass(frozen=True)
class Payment:
    day: date
    payer: str
    reference: str
    amount: Decimal


@dataclass
class Result:
    invoices: list[Invoice]
    lines: int
    payments: list[Payment]
    strangers: list[Payment]

    @property
    def duplicates(self) -> int:
        return self.lines - len(self.payments)


class Wrong(Exception):
    """An input that a person has to put right; the message says where it is and what is expected."""


def read_date(text: str) -> date:
    """`2026-10-03` or `03.10.2026`."""
    for form in ("%Y-%m-%d", "%d.%m.%Y"):
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no date like 2026-10-03 or 03.10.2026")


def read_amount(text: str) -> Decimal:
    """`1.234,56`, `1,234.56`, `1234.56`, `-12,50`: the last separator before two digits is the decimal one."""
    found = re.fullmatch(r"([+-]?)(\d{1,3}(?:[., ]\d{3})+|\d+)(?:[.,](\d{2}))?", text.strip())
    if not found:
        raise ValueError(f"{text!r} is no amount like 1234.56 or 1.234,56")
    sign, whole, cents = found.groups()
    return Decimal(f"{sign}{re.sub('[., ]', '', whole)}.{cents or '00'}")


def read_invoices(path: Path) -> list[Invoice]:
    return [
        Invoice(row["number"], row["customer"], day, amount) for row, day, amount in _rows(path, ",", "date", "amount")
    ]


def read_payments(path: Path) -> list[Payment]:
    """Every line of the statement, repeated ones too."""
    return [
        Payment(day, " ".join(row["payer"].split()), " ".join(row["reference"].split()), amount)
        for row, day, amount in _rows(path, ";", "booked", "amount")
    ]


def _rows(path: Path, delimiter: str, day: str, amount: str) -> Iterable[tuple[dict[str, str], date, Decimal]]:
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise Wrong(f"{path}: {error.strerror}") from None
    with file:
        for line, row in enumerate(csv.DictReader(file, delimiter=delimiter), start=2):
            try:
                yield row, read_date(row[day]), read_amount(row[amount])
            except KeyError as error:
                raise Wrong(f"{path}: column {error} is missing") from None
            except ValueError as error:
                raise Wrong(f"{path}, line {line}: {error}") from None


def plain_name(name: str) -> str:
    """A name as it compares: small letters, no umlauts, no legal form, no punctuation."""
    text = name.casefold().translate(UMLAUTS)
    words = re.sub(r"[^a-z0-9 ]", "", text.replace("-", " ")).split()
    return " ".join(word for word in words if word not in LEGAL_FORMS)


def same_party(customer: str, payer: str) -> bool:
    """Banks cut names off, so one may be the beginning of the other."""
    ours, theirs = plain_name(customer), plain_name(payer)
    return ours == theirs or (min(len(ours), len(theirs)) >= 8 and (ours.startswith(theirs) or theirs.startswith(ours)))


def named_numbers(reference: str) -> list[str]:
    """The five-digit ends of the invoice numbers in a reference; O and l where a digit is meant are read as digits."""
    full = [re.sub(r"\s", "", found) for found in FULL_NUMBER.findall(reference)]
    full = [found.translate(str.maketrans("OoIl", "0011")) for found in full]
    return list(dict.fromkeys(full + BARE_NUMBER.findall(reference)))


def named_invoices(payment: Payment, by_end: dict[str, Invoice]) -> list[Invoice]:
    """Rule 2: the invoices that a payment names, as far as its payer or its amount bears the numbers out."""
    named = [by_end[end] for end in named_numbers(payment.reference) if end in by_end]
    own = [invoice for invoice in named if same_party(invoice.customer, payment.payer)]
    return own or [invoice for invoice in named if abs(payment.amount - invoice.due) <= CENT]


def settle(payment: Payment, invoices: list[Invoice], rule: str) -> None:
    """Spread a payment over its invoices, oldest first; what is too much or too little stays with the last."""
    left = payment.amount
    rounding = CENT * len(invoices)
    complete = len(invoices) > 1 and abs(left - sum(invoice.due for invoice in invoices)) <= rounding
    for invoice in invoices:
        share = min(left, invoice.due) if invoice is not invoices[-1] else left
        invoice.paid += invoice.due if complete else share
        invoice.rules.append(rule)
        left -= share


def by_amount(payment: Payment, invoices: list[Invoice]) -> list[Invoice]:
    """Rule 3: the only unpaid invoice, or the only two, of this payer that the amount fits."""
    mine = [
        one for one in invoices if one.due > CENT and one.day <= payment.day and same_party(one.customer, payment.payer)
    ]
    single = [[one] for one in mine if abs(payment.amount - one.due) <= CENT]
    fits = single or [
        [one, two] for one, two in combinations(mine, 2) if abs(payment.amount - one.due - two.due) <= 2 * CENT
    ]
    return fits[0] if len(fits) == 1 else []


def reconcile(invoices: list[Invoice], lines: list[Payment]) -> Result:
    """Match all payments with all invoices; each invoice then knows its state."""
    payments = sorted(dict.fromkeys(lines), key=lambda one: one.day)
    by_end = {invoice.number[-5:]: invoice for invoice in invoices}
    unnamed = []
    for payment in payments:
        named = named_invoices(payment, by_end)
        if named:
            settle(payment, named, "number" if payment.amount > 0 else "taken back")
        else:
            unnamed.append(payment)
    strangers = []
    for payment in unnamed:
        fitting = by_amount(payment, invoices)
        if fitting:
            settle(payment, fitting, "amount")
        else:
            strangers.append(payment)
    return Result(invoices, len(lines), payments, strangers)


def of_month(result: Result, month: str) -> list[Invoice]:
    found = [invoice for invoice in result.invoices if f"{invoice.day:%Y-%m}" == month]
    if not found:
        months = sorted({f"{invoice.day:%Y-%m}" for invoice in result.invoices})
        raise Wrong(f"no invoice is dated {month}; the list holds {', '.join(months)}")
    return found


def totals(result: Result, invoices: list[Invoice]) -> dict[str, object]:
    """What the job puts out. `matched` invoices are settled; amounts are texts, so that no cent is lost."""
    states = [invoice.state for invoice in invoices]
    unknown = [payment for payment in result.strangers if payment.amount > 0]
    return {
        "invoices": len(invoices),
        "matched": states.count("paid") + states.count("overpaid"),
        "unmatched": states.count("open") + states.count("partly paid"),
        "partlyPaid": states.count("partly paid"),
        "overpaid": states.count("overpaid"),
        "amountInvoiced": str(sum(invoice.amount for invoice in invoices)),
        "amountPaid": str(sum(invoice.paid for invoice in invoices)),
        "amountOpen": str(sum(max(invoice.due, Decimal(0)) for invoice in invoices if invoice.state != "paid")),
        "statementLines": result.lines,
        "duplicateLines": result.duplicates,
        "unknownPayments": len(unknown),
        "amountUnknown": str(sum(payment.amount for payment in unknown)),
        "report": "artifact://report.csv",
    }


def write_report(path: Path, invoices: list[Invoice], strangers: list[Payment]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["number", "customer or payer", "date", "amount", "paid", "difference", "state", "matched by"])
        for one in invoices:
            rules = " + ".join(dict.fromkeys(one.rules))
            out.writerow([one.number, one.customer, one.day, one.amount, one.paid, one.due, one.state, rules])
        for payment in strangers:
            state = "unknown payment" if payment.amount > 0 else "other outgoing"
            out.writerow(["", payment.payer, payment.day, "", payment.amount, "", state, payment.reference])


def print_summary(month: str, invoices: list[Invoice], sums: dict[str, object]) -> None:
    print(f"\nInvoices of {month}: {sums['matched']} of {sums['invoices']} are settled\n")
    for state in ("paid", "overpaid", "partly paid", "open"):
        group = [invoice for invoice in invoices if invoice.state == state]
        print(f"  {state:<12}{len(group):>5} invoices {sum(one.amount for one in group):>12,.2f} EUR")
    owed = Decimal(str(sums["amountOpen"]))
    print(f"\n  still owed {owed:,.2f} EUR; {sums['unknownPayments']} payments belong to no invoice")
    print("\nTo look at first:")
    attention = [one for one in invoices if one.state in ("overpaid", "partly paid")]
    attention += sorted((one for one in invoices if one.state == "open"), key=lambda one: -one.due)[:10]
    for one in attention:
        print(f"  {one.number}  {one.customer[:32]:<32}  {one.state:<12} {one.due:>10,.2f} EUR")


def progress(percent: int, message: str) -> None:
    """Tell the robot how far we are; by hand this only prints."""
    print(f"{percent:3} %  {message}", flush=True)
    if path := os.environ.get("CASARE_PROGRESS_FILE"):
        Path(path).write_text(json.dumps({"percent": percent, "message": message}), encoding="utf-8")


def run(month: str, folder: Path) -> None:
    progress(0, "reading invoices and the bank statement")
    invoices = read_invoices(folder / "invoices.csv")
    lines = read_payments(folder / "bank-statement.csv")
    progress(30, f"matching {len(lines)} statement lines with {len(invoices)} invoices")
    result = reconcile(invoices, lines)
    wanted = of_month(result, month)
    progress(80, "writing the report")
    sums = totals(result, wanted)
    write_report(Path(os.environ.get("CASARE_ARTIFACTS", ".")) / "report.csv", wanted, result.strangers)
    if path := os.environ.get("CASARE_OUTPUTS_FILE"):
        Path(path).write_text(json.dumps(sums), encoding="utf-8")
    print_summary(month, wanted, sums)
    progress(100, f"matched {sums['matched']} of {sums['invoices']} invoices")


def main() -> int:
    parser = argparse.ArgumentParser(description="Match the invoices of a month with a bank statement.")
    parser.add_argument("--month", required=True, help="such as 2026-10")
    parser.add_argument("--data", type=Path, default=Path("."), help="folder of invoices.csv and bank-statement.csv")
    options = parser.parse_args()
    try:
        run(options.month, options.data)
    except Wrong as wrong:
        print(f"reconcile: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
