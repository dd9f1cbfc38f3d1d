"""What is on each page: values become HTML. No IO."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from casync_compat.progress import human_size
from casync_compat.serve.pages.html import Html, Text, Url, element, page, table
from casync_compat.serve.pages.picture import IndexSharing, draw
from casync_compat.streams.filetree import FileStat

__all__ = ["Shown", "StoreShown", "blob", "directory", "file", "home", "sharing", "sorry"]

_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """An index or archive.

    :ivar what: what it is, for people
    :ivar stored: bytes of the file; None where nobody knows
    :ivar content: bytes of what it describes; None where that was not looked up
    :ivar chunks: that it needs
    """

    name: bytes
    what: str
    stored: int | None
    modified: int | None
    content: int | None = None
    chunks: int | None = None


@dataclass(frozen=True, slots=True)
class StoreShown:
    """A store.

    :ivar counted: chunks, and bytes on disk; None where that is not known
    :ivar note: why it is not
    """

    name: str
    path: str
    counted: tuple[int, int] | None
    note: str = ""


def _size(count: int | None) -> Html:
    if count is None:
        return Text("unknown")
    return element("span", Text(human_size(count)), title=f"{count} bytes")


def _number(count: int | None) -> Html:
    return Text("" if count is None else f"{count:,}")


def _date(moment: int | None) -> Html:
    """A moment, in nanoseconds since 1970."""
    if moment is None:
        return Text("")
    try:
        when = datetime.fromtimestamp(moment // 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return Text(f"{moment // 10**9} s after 1970")
    return element("time", Text(f"{when:%Y-%m-%d %H:%M}"), datetime=f"{when:%Y-%m-%dT%H:%M:%SZ}")


def home(stores: Sequence[StoreShown], files: Sequence[Shown] | None, note: str = "") -> bytes:
    """The first page.

    :param files: None where none are served, or may be seen
    :param note: why some are missing
    """
    parts: list[Html] = []
    if files is not None:
        parts.append(element("h2", Text("Indexes and archives")))
        if note:
            parts.append(element("p", Text(note)))
        if files:
            rows = [
                (
                    element("a", Text(each.name), href=Url("-/tree", **{"in": each.name})),
                    Text(each.what),
                    _size(each.content),
                    _number(each.chunks),
                    _size(each.stored),
                    _date(each.modified),
                )
                for each in files
            ]
            heads = ("Name", "Kind~", "Content#", "Chunks#~", "File#~", "Modified (UTC)")
            parts.append(table("What can be looked into", heads, rows))
        if sum(each.chunks is not None for each in files) > 1:
            link = element("a", Text("What these indexes share"), href=Url("-/sharing"))
            parts.append(element("p", link))
        if not files and not note:
            parts.append(element("p", Text("There are none yet.")))
    if stores:
        parts.append(element("h2", Text("Chunk stores")))
        places = [
            (
                Text(each.name.encode()),
                element("code", Text(each.path)),
                Text(each.note) if each.counted is None else _number(each.counted[0]),
                Text("") if each.counted is None else _size(each.counted[1]),
            )
            for each in stores
        ]
        parts.append(table("Where clients find chunks", ("Name", "Path", "Chunks#", "Stored#"), places))
    return page("pycasync", "./", [], *parts)


def _trail(name: bytes, path: bytes) -> list[tuple[bytes, str]]:
    trail: list[tuple[bytes, str]] = [(name, Url("tree", **{"in": name}))]
    at = b""
    for part in filter(None, path.split(b"/")):
        at = f"{at.decode('latin-1')}/{part.decode('latin-1')}".encode("latin-1").lstrip(b"/")
        trail.append((part, Url("tree", **{"in": name, "at": at})))
    return trail


def directory(
    name: bytes, found: FileStat, children: Sequence[FileStat], start: int, more: int | None
) -> bytes:
    """A directory of an archive.

    :param name: of the archive
    :param children: what is in it, from number `start` on
    :param more: the number from which the next page goes on; None where this is the last
    """
    rows = []
    for child in children:
        query = {"in": name, "at": child.path}
        url = Url("file" if child.kind == stat.S_IFREG else "tree", **query)
        label = Text(child.name + (b"/" if child.is_dir else b""))
        shown = element("a", label, href=url) if child.is_dir or child.kind in _LINKED else label
        if child.kind == stat.S_IFLNK:
            shown = Html(shown + Text(" → ") + Text(child.target))
        rows.append(
            (
                shown,
                Text(_KINDS.get(child.kind, "unknown")),
                _size(child.size) if child.kind == stat.S_IFREG else Text(""),
                element("code", Text(stat.filemode(child.kind | child.mode))),
                _date(child.mtime),
            )
        )
    heads = ("Name", "Kind~", "Size#", "Mode~", "Modified (UTC)")
    what = f"Entries from number {start + 1} on" if start or more is not None else "What is in this directory"
    parts = [table(what, heads, rows) if rows else element("p", Text("This directory is empty."))]
    if more is not None:
        query = {"in": name, "at": found.path, "from": b"%d" % more}
        parts.append(element("p", element("a", Text("Further entries"), href=Url("tree", **query))))
    trail = _trail(name, found.path)
    return page(trail[-1][0], "../", trail[:-1], *parts)


_LINKED = frozenset({stat.S_IFREG, stat.S_IFLNK})


def file(name: bytes, found: FileStat) -> bytes:
    """What is known of something that is no directory."""
    query = {"in": name, "at": found.path}
    said: list[tuple[str, Html]] = [
        ("Kind", Text(_KINDS.get(found.kind, "unknown"))),
        ("Mode", element("code", Text(stat.filemode(found.kind | found.mode)))),
        ("Owner", Text(f"user {found.uid}, group {found.gid}")),
        ("Modified (UTC)", _date(found.mtime)),
    ]
    if found.kind == stat.S_IFREG:
        said.insert(1, ("Size", _size(found.size)))
    parts = [_described(said)]
    if found.kind == stat.S_IFREG:
        parts.append(element("p", element("a", Text("Download"), href=Url("file", **query))))
    trail = _trail(name, found.path)
    return page(trail[-1][0], "../", trail[:-1], *parts)


def blob(shown: Shown, unique: int) -> bytes:
    """What is known of the index of a blob.

    :param unique: how many different chunks it needs
    """
    said = (
        ("Content", _size(shown.content)),
        ("Chunks", Html(_number(shown.chunks) + Text(f", {unique:,} of them different"))),
        ("Index", _size(shown.stored)),
        ("Modified (UTC)", _date(shown.modified)),
    )
    link = element("a", Text("Download the content"), href=Url("file", **{"in": shown.name}))
    return page(shown.name, "../", [], _described(said), element("p", link))


def _described(said: Sequence[tuple[str, Html]]) -> Html:
    return element("dl", *(Html(element("dt", Text(key)) + element("dd", value)) for key, value in said))


def sharing(counted: IndexSharing, left_out: int) -> bytes:
    """What indexes share.

    :param left_out: how many are not counted
    """
    rows = counted.rows
    alone = sum(row.size for row in rows)
    text = (
        f"Together these indexes need {human_size(counted.together)} of different chunks, before compression; one "
        f"by one they would need {human_size(alone)}."
    )
    if left_out:
        text += f" {left_out} further ones are not counted."
    key = element(
        "p", Text("Amber, on the left: what another index needs, too. Blue: what only this one needs.")
    )
    heads = ("Index", "Needs#", "Shared#", "Its own#", "Most in common with~", "That is#~")
    lines = []
    for number, row in enumerate(rows):
        others = [(size, other) for other, size in enumerate(row.common) if other != number and size]
        size, other = max(others, default=(0, -1))
        nearest = rows[other].name if other >= 0 else b""
        part = f"{100 * size / row.size:.0f}%" if row.size and size else ""
        link = element("a", Text(row.name), href=Url("tree", **{"in": row.name}))
        lines.append((link, _size(row.size), _size(row.shared), _size(row.own), Text(nearest), Text(part)))
    parts = [element("p", Text(text)), key, draw(rows), table("The same in numbers", heads, lines)]
    return page("What indexes share", "../", [], *parts)


def sorry(title: str, text: str, root: str = "../") -> bytes:
    """A page in place of one that there is not."""
    return page(title, root, [], element("p", Text(text)))
