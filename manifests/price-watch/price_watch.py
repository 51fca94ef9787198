"""What do the shops ask today, and what has changed since last time?

Three shops, each built differently, so each has its own reader; they agree on `Offer`. A price is what a buyer pays
now: not the struck-out one, not a monthly rate, not the postage, not another product's.

By hand: `python price_watch.py --pages pages --last last-prices.csv`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from saved_page import Element, read_page

CURRENCIES = {"€": "EUR", "EUR": "EUR", "$": "USD", "USD": "USD"}
AMOUNT = re.compile(r"\d{1,3}(?:[.,\s]\d{3})+(?!\d)(?:[.,](?:\d{2}(?!\d)|[-–]))?|\d+(?:[.,](?:\d{2}(?!\d)|[-–]))?")


@dataclass(frozen=True)
class Offer:
    """One product in one shop; `gtin` is the number under the bar code and the same everywhere."""

    shop: str
    gtin: str
    product: str
    price: Decimal
    currency: str
    old_price: Decimal | None
    in_stock: bool


def read_price(text: str) -> tuple[Decimal, str]:
    """The amount and the currency in `1.299,– €`, `US$ 1,049.99`, `1 149,90 €`. ValueError when there is none."""
    sign = next((sign for sign in CURRENCIES if sign in text), None)
    found = AMOUNT.search(text)
    if sign is None or found is None:
        raise ValueError(f"no price in {text!r}")
    whole, decimals = re.fullmatch(r"(.*?)(?:[.,](\d{2}|[-–]))?", found[0]).groups()  # type: ignore[union-attr]
    cents = decimals if decimals and decimals.isdigit() else "00"
    return Decimal(f"{re.sub(r'[^0-9]', '', whole)}.{cents}"), CURRENCIES[sign]


def _needed(element: Element | None, what: str) -> Element:
    if element is None:
        raise ValueError(f"the page has no {what}")
    return element


def _old_price(element: Element | None) -> Decimal | None:
    return read_price(element.text)[0] if element and element.text else None


def kessler(page: Element) -> Iterator[Offer]:
    """One product a page, marked up with schema.org names; what matters is inside the buy box."""
    box = _needed(page.first("div", "buybox"), "buy box")
    price, currency = read_price(_needed(box.first(name="price--now"), "price in its buy box").text)
    yield Offer(
        shop="Kessler Technik",
        gtin=_needed(page.first(itemprop="gtin13"), "EAN").text,
        product=_needed(page.first(itemprop="name"), "name").text,
        price=price,
        currency=currency,
        old_price=_old_price(box.first(name="price--old")),
        in_stock=box.first(name="stock--yes") is not None,
    )


def harbour_and_pine(page: Element) -> Iterator[Offer]:
    """A list of cards; advertisements are cards too, but have no bar code."""
    for card in page.all("article", "card"):
        if gtin := card.attributes.get("data-gtin"):
            block = _needed(card.first(name="card-price"), f"price for {gtin}")
            old = block.first("s")
            price, currency = read_price((block.first("span") or block).text)
            sold_out = any(badge.text.lower() == "sold out" for badge in card.all(name="badge"))
            name = _needed(card.first("h3"), f"name for {gtin}").text
            yield Offer("Harbour & Pine", gtin, name, price, currency, _old_price(old), not sold_out)


def bricolux(page: Element) -> Iterator[Offer]:
    """A table as they were made in 1998; rows without all five cells are remarks."""
    for row in page.all("tr"):
        cells = [cell.text for cell in row.all("td")]
        if len(cells) == 5:
            gtin, name, old, now, stock = cells
            price, currency = read_price(now)
            old_price = read_price(old)[0] if old else None
            yield Offer("Bricolux", gtin.replace(" ", ""), name, price, currency, old_price, stock != "Épuisé")


SHOPS: dict[str, Callable[[Element], Iterator[Offer]]] = {
    "kessler": kessler,
    "harbour-and-pine": harbour_and_pine,
    "bricolux": bricolux,
}


def read_offers(pages: list[Path]) -> tuple[list[Offer], list[str]]:
    """All offers in a stable order, and one line for each page that could not be read."""
    offers: list[Offer] = []
    problems = []
    for path in pages:
        reader = next((reader for shop, reader in SHOPS.items() if path.name.startswith(shop)), None)
        try:
            if reader is None:
                raise ValueError(f"no reader for this shop; known are {', '.join(SHOPS)}")
            offers += reader(read_page(path))
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
    return sorted(offers, key=lambda offer: (offer.gtin, offer.shop)), problems


def last_prices(path: Path) -> dict[tuple[str, str], Decimal]:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["shop"], row["gtin"]): Decimal(row["price"]) for row in csv.DictReader(file)}


def change(offer: Offer, before: dict[tuple[str, str], Decimal]) -> str:
    """`new`, `` for the same price, or the difference such as `-19.01`."""
    last = before.get((offer.shop, offer.gtin))
    if last is None:
        return "new"
    return f"{offer.price - last:+.2f}" if offer.price != last else ""


def write_table(path: Path, offers: list[Offer], before: dict[tuple[str, str], Decimal]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["shop", "gtin", "product", "price", "currency", "old price", "in stock", "change"])
        for one in offers:
            stock = "yes" if one.in_stock else "no"
            old = one.old_price if one.old_price is not None else ""
            out.writerow([one.shop, one.gtin, one.product, one.price, one.currency, old, stock, change(one, before)])


def totals(offers: list[Offer], pages: int, before: dict[tuple[str, str], Decimal]) -> dict[str, object]:
    """What the job puts out. `cheaper` and `dearer` compare with the last table."""
    changes = [change(offer, before) for offer in offers]
    return {
        "pages": pages,
        "offers": len(offers),
        "products": len({offer.gtin for offer in offers}),
        "soldOut": sum(not offer.in_stock for offer in offers),
        "cheaper": sum(one.startswith("-") for one in changes),
        "dearer": sum(one.startswith("+") for one in changes),
        "new": changes.count("new"),
        "table": "prices.csv",
    }


def print_table(offers: list[Offer], before: dict[tuple[str, str], Decimal]) -> None:
    print(f"\n{'product':<46} {'shop':<16} {'price':>13} {'change':>10}  stock")
    for one in offers:
        price = f"{one.price:,.2f} {one.currency}"
        stock = "" if one.in_stock else "sold out"
        print(f"{one.product[:46]:<46} {one.shop:<16} {price:>13} {change(one, before):>10}  {stock}".rstrip())


def progress(percent: int, message: str) -> None:
    """Tell the robot how far we are; by hand this only prints."""
    print(f"{percent:3} %  {message}", flush=True)
    if path := os.environ.get("CASARE_PROGRESS_FILE"):
        Path(path).write_text(json.dumps({"percent": percent, "message": message}), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a table of prices from saved shop pages.")
    parser.add_argument("--pages", type=Path, default=Path("pages"), help="folder of saved .html pages")
    parser.add_argument("--last", type=Path, default=Path("last-prices.csv"), help="the table of last time")
    options = parser.parse_args()
    pages = sorted(options.pages.glob("*.html"))
    if not pages:
        print(f"price-watch: no .html page in {options.pages}", file=sys.stderr)
        return 1
    progress(0, f"reading {len(pages)} pages")
    offers, problems = read_offers(pages)
    before = last_prices(options.last)
    write_table(Path("prices.csv"), offers, before)
    sums = totals(offers, len(pages), before)
    if path := os.environ.get("CASARE_OUTPUTS_FILE"):
        Path(path).write_text(json.dumps(sums), encoding="utf-8")
    print_table(offers, before)
    progress(100, f"{sums['offers']} offers, {sums['cheaper']} cheaper and {sums['dearer']} dearer than last time")
    for problem in problems:
        print(f"price-watch: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
