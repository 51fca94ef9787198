"""What does a saved HTML page say, and where? A small tree made with the standard library's parser.

It holds for real pages: unclosed list items and table cells end where browsers end them, entities are characters,
comments, scripts and styles are no text, and the bytes are read in the character set that the page declares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))
SILENT = frozenset(("script", "style"))
# An opening tag ends what is still open of these, up to the nearest of the second set.
ENDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "li": (frozenset({"li"}), frozenset({"ul", "ol"})),
    "p": (frozenset({"p"}), frozenset({"div", "td", "section"})),
    "table": (frozenset({"p"}), frozenset({"div", "td", "section"})),
    "tr": (frozenset({"tr", "td", "th"}), frozenset({"table"})),
    "td": (frozenset({"td", "th"}), frozenset({"tr", "table"})),
    "th": (frozenset({"td", "th"}), frozenset({"tr", "table"})),
}


@dataclass
class Element:
    """One element: its attributes, and its elements and texts in their order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    content: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, white space (also non-breaking) folded to single spaces."""
        if self.tag in SILENT:
            return ""
        parts = [part if isinstance(part, str) else part.text for part in self.content]
        return re.sub(r"\s+", " ", " ".join(parts)).strip()

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def all(self, tag: str = "", name: str = "", **attributes: str) -> Iterator[Element]:
        """Every element inside with this tag, this class name and these attributes, in the page's order."""
        for part in self.content:
            if isinstance(part, Element):
                if part._is(tag, name, attributes):
                    yield part
                yield from part.all(tag, name, **attributes)

    def first(self, tag: str = "", name: str = "", **attributes: str) -> Element | None:
        return next(self.all(tag, name, **attributes), None)

    def _is(self, tag: str, name: str, attributes: dict[str, str]) -> bool:
        return (
            (not tag or self.tag == tag)
            and (not name or name in self.classes)
            and all(self.attributes.get(key) == value for key, value in attributes.items())
        )


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_implied(tag)
        element = Element(tag, {key: value or "" for key, value in attrs})
        self._open[-1].content.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag == tag:
                del self._open[depth:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].content.append(data)

    def _end_implied(self, tag: str) -> None:
        ended, fence = ENDS.get(tag, (frozenset(), frozenset()))
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag in fence:
                return
            if self._open[depth].tag in ended and not self._ends_further_out(depth, ended, fence):
                del self._open[depth:]
                return

    def _ends_further_out(self, depth: int, ended: frozenset[str], fence: frozenset[str]) -> bool:
        for outer in range(depth - 1, 0, -1):
            if self._open[outer].tag in fence:
                return False
            if self._open[outer].tag in ended:
                return True
        return False


def read_page(path: Path) -> Element:
    """The page's tree."""
    data = path.read_bytes()
    declared = re.search(rb"charset=[\"']?([\w-]+)", data[:1024], re.IGNORECASE)
    builder = _Builder()
    builder.feed(data.decode(declared[1].decode("ascii") if declared else "utf-8", errors="replace"))
    builder.close()
    return builder.root
