"""Where do the invoices and the bank statement of this example come from, and what is the right answer?

Each invoice is given a fate first (paid, paid in two parts, charged back, ...) and the bank lines are then written
from that fate, dirt included. So the right answer is known without matching anything: `Books.truth` holds it.
The same seed gives the same bytes with every Python. `python make_data.py` writes the files under data/ anew.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeVar

SEED = 2026_10
INVOICES_PER_MONTH = {(2026, 9): 96, (2026, 10): 318}
LAST_DAY = date(2026, 11, 20)
SECOND_EXPORT_FROM = date(2026, 10, 8)  # the two exports of the statement overlap on these days
FIRST_EXPORT_TO = date(2026, 10, 12)
CENT = Decimal("0.01")
UMLAUTS = {
    ord(letter): plain for letter, plain in zip("äöüÄÖÜß", ("ae", "oe", "ue", "Ae", "Oe", "Ue", "ss"), strict=True)
}
PAYER_WIDTH = 27  # banks cut the payer's name at 27 characters

# The fates of a hundred invoices. A pair takes the next invoice of the same customer along.
FATES = (
    ("paid", 58), ("cent", 6), ("pair", 6), ("two parts", 5), ("part", 4), ("charged back", 3),
    ("paid twice", 2), ("paid twice, one returned", 2), ("third party", 3), ("unpaid", 11),
)  # fmt: skip
CUSTOMERS = (
    "Bäckerei Sommer GmbH", "Müller & Söhne KG", "Hansa Logistik AG", "Optik Weißmann e.K.", "Café Zwölf UG",
    "Druckhaus Lindner GmbH & Co. KG", "Elektro Öztürk", "Fahrrad Kühn OHG", "Gärtnerei Blumenthal",
    "Hotel Adler am Markt", "Ingenieurbüro Krause und Partner", "Juwelier Stein GmbH", "Klempnerei Voß",
    "Lackiererei Nord GmbH", "Metzgerei Huber", "Naturkost Wiesengrund eG", "Orthopädie Schramm GmbH",
    "Papier Engel KG", "Quellwasser Vertrieb GmbH", "Reisebüro Fernweh", "Schreinerei Holzapfel",
    "Tierarztpraxis Dr. Bergmann", "Umzüge Flink GmbH", "Verlag Morgenrot AG", "Weingut Sankt Urban",
    "Yachtcharter Ostsee GmbH", "Zahnlabor Perl GmbH", "Autohaus Rheintal GmbH & Co. KG", "Bootswerft Petersen",
    "Catering Löffel GmbH",
)  # fmt: skip
STRANGERS = ("Online-Marktplatz Erlöse", "Versicherung Nordstern", "Privatkonto Einlage", "Kartenzahlungen Sammler")
OUTGOING = (
    ("Stadtwerke", "Abschlag Strom"), ("Finanzamt Mitte", "USt Voranmeldung"), ("Vermietung Hofgut", "Miete Lager"),
    ("Mobilfunk Plus", "Rechnung 88231-7"), ("Personal", "Gehaelter"),
)  # fmt: skip
PARENTS = ("Holding Vier Türme GmbH", "Familienbüro Hartwig", "Treuhand Südwest AG")

T = TypeVar("T")


@dataclass
class Invoice:
    number: str
    customer: str
    day: date
    amount: Decimal
    fate: str = ""


@dataclass(frozen=True)
class Line:
    """One booking; `settles` names the invoices it is meant for, which the statement does not say."""

    day: date
    payer: str
    text: str
    amount: Decimal
    settles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """What became of one invoice: how much of it is paid after all returns, and its state."""

    state: str
    paid: Decimal


@dataclass
class Books:
    """Everything that was made: the invoices, the bookings (each once), how often lines repeat, the right answer."""

    invoices: list[Invoice]
    lines: list[Line] = field(default_factory=list)
    truth: dict[str, Truth] = field(default_factory=dict)
    repeated: int = 0


class Dice:
    """Choices from `Random.random()` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random

    def below(self, limit: int) -> int:
        return int(self._random() * limit)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[tuple[str, int]]) -> str:
        left = self.below(sum(weight for _, weight in items))
        for name, weight in items:
            left -= weight
            if left < 0:
                return name
        return items[-1][0]


def make_books(seed: int = SEED) -> Books:
    """All invoices with their fates, the bookings that follow from them, and the right answer."""
    dice = Dice(seed)
    books = Books(_make_invoices(dice))
    waiting = {id(invoice): invoice for invoice in books.invoices}
    for invoice in books.invoices:
        if waiting.pop(id(invoice), None) is None:
            continue  # already settled as the second of a pair
        fate = dice.weighted(FATES)
        partner = _partner(invoice, list(waiting.values())) if fate == "pair" else None
        if partner:
            waiting.pop(id(partner))
        _settle(books, dice, invoice, partner, fate)
    _add_other_bookings(books, dice)
    books.lines = [line for line in books.lines if line.day <= LAST_DAY]
    books.truth = {invoice.number: _truth(invoice, books.lines) for invoice in books.invoices}
    return books


def _make_invoices(dice: Dice) -> list[Invoice]:
    invoices: list[Invoice] = []
    for (year, month), count in INVOICES_PER_MONTH.items():
        days = sorted(dice.below(30) for _ in range(count))
        for day in days:
            customer = dice.pick(CUSTOMERS)
            amount = _fresh_amount(dice, [one.amount for one in invoices if one.customer == customer])
            number = f"RE-2026-{10001 + len(invoices)}"
            invoices.append(Invoice(number, customer, date(year, month, 1) + timedelta(days=day), amount))
    return invoices


def _fresh_amount(dice: Dice, taken: list[Decimal]) -> Decimal:
    """A round price plus 19 % tax that leaves the customer's invoices tellable apart by amount."""
    while True:
        net = Decimal(dice.pick((19, 49, 80, 120, 245, 390, 650, 1180, 2400))) + Decimal(dice.below(9000)) / 100
        amount = (net * Decimal("1.19")).quantize(CENT)
        if _tellable([*taken, amount]):
            return amount


def _tellable(amounts: list[Decimal]) -> bool:
    """Whether each amount, and each sum of two, is more than 4 cents away from all others: else nobody could say
    which invoices a payment without a number is for."""
    pairs = [first + second for place, first in enumerate(amounts) for second in amounts[:place]]
    values = sorted(amounts + pairs)
    return all(after - before > 4 * CENT for before, after in pairwise(values))


def _partner(invoice: Invoice, waiting: list[Invoice]) -> Invoice | None:
    for other in waiting:
        if other.customer == invoice.customer and other.day - invoice.day <= timedelta(days=10):
            return other
    return None


def _settle(books: Books, dice: Dice, invoice: Invoice, partner: Invoice | None, fate: str) -> None:
    """Write the bookings of one invoice (or a pair of them)."""
    invoice.fate = fate if fate != "pair" or partner else "paid"
    day, number, amount = invoice.day, invoice.number, invoice.amount
    payer = _payer(dice, invoice.customer)

    def book(after: int, text: str, value: Decimal, who: str = payer, both: bool = False) -> None:
        settles = (number, partner.number) if both and partner else (number,)
        books.lines.append(Line(_bank_day(day + timedelta(days=after)), who, text, value, settles))

    wait = 4 + dice.below(16)
    if invoice.fate == "paid":
        book(wait, _any_reference(dice, books, invoice), amount)
    elif invoice.fate == "cent":
        book(wait, _any_reference(dice, books, invoice), amount + dice.pick((-CENT, CENT)))
    elif invoice.fate == "pair" and partner:
        partner.fate = "pair"
        book(8 + wait, _pair_reference(dice, number, partner.number), amount + partner.amount, both=True)
    elif invoice.fate in ("part", "two parts"):
        first = (amount * Decimal(dice.pick((30, 40, 50, 60))) / 100).quantize(CENT)
        book(wait, "Teilzahlung " + _reference(dice, number), first)
        if invoice.fate == "two parts":
            book(wait + 9, "Restzahlung " + _reference(dice, number), amount - first)
    elif invoice.fate == "charged back":
        book(wait, _reference(dice, number), amount)
        book(wait + 3, "RUECKLASTSCHRIFT " + _reference(dice, number), -amount)
    elif invoice.fate.startswith("paid twice"):
        book(wait, _reference(dice, number), amount)
        book(wait + 5, _reference(dice, number), amount)
        if invoice.fate.endswith("returned"):
            book(wait + 12, "Erstattung Doppelzahlung " + _reference(dice, number), -amount)
    elif invoice.fate == "third party":
        book(wait, _reference(dice, number), amount, who=_payer(dice, dice.pick(PARENTS)))


def _bank_day(day: date) -> date:
    """Banks book from Monday to Friday."""
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() > 4 else 0)


def _payer(dice: Dice, name: str) -> str:
    """The customer's name as a bank shows it: often capitals without umlauts, cut at 27 characters."""
    plain = name.translate(UMLAUTS)
    shapes = (name, plain, plain.upper(), plain.upper(), plain.replace("&", "u.").replace(" und ", " u. "))
    return dice.pick(shapes)[:PAYER_WIDTH].rstrip()


def _reference(dice: Dice, number: str) -> str:
    """A reference text that still holds the number, for somebody who reads with care."""
    year, digits = number[3:7], number[8:]
    shapes = (
        number, number, number, number.lower(), f"Rechnung {number}", f"RE{year}-{digits}", f"RE {year} {digits}",
        f"Rg.Nr. {year}/{digits}", f"{number} KD 20{digits[-3:]}", f"SVWZ+{number} EREF+NOTPROVIDED",
        f"Zahlung zu RE-{year}-{digits.replace('0', 'O')}", f"re-{year}-{digits.replace('1', 'l', 1)}",
        f"Inv.No {digits}", f"RE-{year}- {digits[:2]} {digits[2:]}",
    )  # fmt: skip
    return dice.pick(shapes)


def _any_reference(dice: Dice, books: Books, invoice: Invoice) -> str:
    """Mostly a readable reference; now and then one with a slipped digit, a cut number or no number at all."""
    kind = dice.weighted((("readable", 84), ("swapped", 6), ("cut", 4), ("none", 6)))
    if kind == "none":
        return dice.pick(("Ihre Rechnung", "siehe Avis vom Vormonat", "Danke!", "Ueberweisung"))
    if kind == "cut":
        return f"Rechnung {invoice.number[:-1]}"
    if kind == "swapped":
        wrong = invoice.number[:-2] + invoice.number[-1] + invoice.number[-2]
        own = {one.number for one in books.invoices if one.customer == invoice.customer}
        if wrong not in own:
            return f"Rechnung {wrong}"
    return _reference(dice, invoice.number)


def _pair_reference(dice: Dice, first: str, second: str) -> str:
    shapes = (
        f"{first}, {second}", f"{first} + {second}", f"{first}/{second[8:]}", f"Rechnungen {first} und {second}",
        "Sammelzahlung offene Rechnungen",
    )  # fmt: skip
    return dice.pick(shapes)


def _add_other_bookings(books: Books, dice: Dice) -> None:
    """Money that has nothing to do with invoices: payers nobody knows, and what we pay ourselves."""
    start = date(2026, 9, 1)
    for count in range(24):
        day = _bank_day(start + timedelta(days=dice.below(80)))
        amount = Decimal(1500 + dice.below(90000)) / 100
        books.lines.append(Line(day, dice.pick(STRANGERS), f"Gutschrift {dice.below(900000) + 100000}", amount))
        payee, text = dice.pick(OUTGOING)
        amount = Decimal(4000 + dice.below(400000)) / 100
        books.lines.append(Line(day, payee, f"{text} {day:%m/%Y}-{count}", -amount))


def _truth(invoice: Invoice, lines: list[Line]) -> Truth:
    """The state that the bookings meant for this invoice add up to; a pair is paid in full or not at all."""
    mine = [line for line in lines if invoice.number in line.settles]
    if any(len(line.settles) == 2 for line in mine):
        return Truth("paid", invoice.amount)
    paid = sum((line.amount for line in mine), Decimal(0))
    if abs(paid - invoice.amount) <= CENT:
        return Truth("paid", paid)
    state = "overpaid" if paid > invoice.amount else "partly paid" if paid > 0 else "open"
    return Truth(state, paid)


def invoices_csv(books: Books) -> str:
    """The invoice list as the shop's own system writes it."""
    rows = [[one.number, one.customer, one.day.isoformat(), f"{one.amount:.2f}", "EUR"] for one in books.invoices]
    return _csv([["number", "customer", "date", "amount", "currency"], *rows], ",")


def statement_csv(books: Books, seed: int = SEED) -> str:
    """Two exports of one account pasted together: they overlap by some days and each writes in its own way."""
    dice = Dice(seed + 1)
    lines = sorted(books.lines, key=lambda line: (line.day, line.payer, line.text))
    first = [line for line in lines if line.day <= FIRST_EXPORT_TO]
    second = [line for line in lines if line.day >= SECOND_EXPORT_FROM]
    rows = [[one.day.isoformat(), one.payer, one.text, f"{one.amount:.2f}"] for one in first]
    rows += [[f"{one.day:%d.%m.%Y}", one.payer, one.text, _german(one.amount)] for one in second]
    repeats = sorted(dice.below(len(rows)) for _ in range(5))
    for count, place in enumerate(repeats):
        rows.insert(place + count, list(rows[place + count]))
    books.repeated = len(rows) - len(lines)
    return "\ufeff" + _csv([["booked", "payer", "reference", "amount"], *rows], ";")


def _german(amount: Decimal) -> str:
    return f"{amount:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def _csv(rows: list[list[str]], delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()


def main() -> None:
    folder = Path(__file__).parent / "data"
    books = make_books()
    for name, text in (("invoices.csv", invoices_csv(books)), ("bank-statement.csv", statement_csv(books))):
        (folder / name).write_text(text, encoding="utf-8", newline="")
    print(f"{len(books.invoices)} invoices, {len(books.lines)} bookings, {books.repeated} of them listed twice")


if __name__ == "__main__":
    main()
