"""What indexes share, counted, and drawn as SVG within a page. No IO.

>>> counted = count([("a.caidx", index), ("b.caidx", other)])
>>> counted.rows[0].shared
4096
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from casync_compat.index import Index
from casync_compat.progress import human_size
from casync_compat.serve.pages.html import Html, Text, element

__all__ = ["IndexShare", "IndexSharing", "count", "draw"]

_WIDTH = 1000
_LABEL = 260
_BAR = 560
_HEIGHT = 28


@dataclass(frozen=True, slots=True)
class IndexShare:
    """An index.

    :ivar own: bytes of its different chunks that no other index has
    :ivar shared: bytes of those that another has
    :ivar common: bytes of its different chunks that each index has, itself included, in their order
    """

    name: bytes
    own: int
    shared: int
    common: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of its different chunks."""
        return self.own + self.shared


@dataclass(frozen=True, slots=True)
class IndexSharing:
    """What some indexes share.

    :ivar together: bytes of all their different chunks, each counted once
    """

    rows: tuple[IndexShare, ...]
    together: int


def count(indexes: Iterable[tuple[bytes, Index]]) -> IndexSharing:
    """Count it. Sizes are those before compression."""
    names: list[bytes] = []
    chunks: dict[bytes, tuple[int, int]] = {}  # of each its size, and a bit for each index that has it
    for number, (name, index) in enumerate(indexes):
        names.append(name)
        for chunk in index:
            size, seen = chunks.get(chunk.id, (chunk.size, 0))
            chunks[chunk.id] = (size, seen | 1 << number)
    by_group: dict[int, int] = {}
    for size, seen in chunks.values():
        by_group[seen] = by_group.get(seen, 0) + size
    rows = []
    for number, name in enumerate(names):
        mine = {seen: size for seen, size in by_group.items() if seen >> number & 1}
        own = mine.get(1 << number, 0)
        common = tuple(
            sum(size for seen, size in mine.items() if seen >> other & 1) for other in range(len(names))
        )
        rows.append(IndexShare(name, own, sum(mine.values()) - own, common))
    return IndexSharing(tuple(rows), sum(by_group.values()))


def draw(rows: Sequence[IndexShare]) -> Html:
    """A bar for each index: what it shares, and what only it has."""
    most = max((row.size for row in rows), default=0) or 1
    parts = [element("title", Text("What each index shares with the others"), id="picture-title")]
    said = "; ".join(f"{human_size(row.shared)} of {human_size(row.size)}" for row in rows)
    parts.append(element("desc", Text(f"Shared, in the order of the table below: {said}"), id="picture-desc"))
    for number, row in enumerate(rows):
        top = number * _HEIGHT + 4
        shared, own = (round(part * _BAR / most, 1) for part in (row.shared, row.own))
        label = Text(row.name)
        parts += [
            element("text", _short(row.name), x=str(_LABEL - 10), y=str(top + 15), text_anchor="end"),
            element(
                "g",
                element("title", Html(label + Text(f": {human_size(row.shared)} shared"))),
                element("rect", class_="shared", x=str(_LABEL), y=str(top), width=str(shared), height="20"),
            ),
            element(
                "g",
                element("title", Html(label + Text(f": {human_size(row.own)} of its own"))),
                element(
                    "rect", class_="own", x=str(_LABEL + shared), y=str(top), width=str(own), height="20"
                ),
            ),
            element("text", Text(human_size(row.size)), x=str(_LABEL + shared + own + 8), y=str(top + 15)),
        ]
    height = len(rows) * _HEIGHT + 4
    return element(
        "svg",
        *parts,
        role="img",
        aria_labelledby="picture-title picture-desc",
        viewBox=f"0 0 {_WIDTH} {height}",
        xmlns="http://www.w3.org/2000/svg",
    )


def _short(name: bytes) -> Html:
    """A name that has room beside its bar."""
    text = name.decode("utf-8", "replace")
    return Text((text if len(text) <= 34 else f"{text[:18]}…{text[-15:]}").encode())
