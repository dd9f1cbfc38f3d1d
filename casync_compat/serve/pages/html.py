"""Text and values become HTML here, and nowhere else. No IO.

>>> element("a", Text("a < b"), href="x&y")
'<a href="x&amp;y">a &lt; b</a>'
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from casync_compat.errors import show_path

__all__ = ["Html", "Text", "Url", "element", "page", "table"]

_VOID = frozenset({"meta", "link", "rect", "line"})


class Html(str):
    """What is HTML already."""


class Text(Html):
    """Text, escaped. Bytes are a name from outside: what in it cannot be printed is shown as an escape."""

    def __new__(cls, text: str | bytes) -> Text:
        shown = show_path(text) if isinstance(text, bytes) else text
        return super().__new__(cls, html.escape(shown))


class Url(str):
    """The URL of a page, relative to the one that it is on."""

    def __new__(cls, path: str, **query: bytes) -> Url:
        """
        :param query: any bytes
        """
        fields = "&".join(f"{key}={quote(value, safe='/')}" for key, value in query.items())
        return super().__new__(cls, f"{path}?{fields}" if fields else path)


def element(tag: str, *content: Html, **attributes: str) -> Html:
    """An element.

    :param attributes: `_` at the end of a name does not count, within one it is a dash
    """
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in attributes.items()
    )
    return Html(f"<{tag}{said}>" if tag in _VOID else f"<{tag}{said}>{''.join(content)}</{tag}>")


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Html]]) -> Html:
    """A table whose first column is the head of each row; other columns whose head has a ``#`` are of numbers, and
    those with a ``~`` are left out where there is little room.

    :param caption: what it is, for those who do not see it
    """
    classes = [("number" if "#" in head else "word") + (" minor" if "~" in head else "") for head in heads]
    top = [
        element("th", Text(head.rstrip("#~")), scope="col", class_=kind)
        for head, kind in zip(heads, classes, strict=True)
    ]
    body = []
    for first, *others in rows:
        cells = [element("th", first, scope="row")]
        cells += [element("td", cell, class_=kind) for cell, kind in zip(others, classes[1:], strict=True)]
        body.append(element("tr", *cells))
    return element(
        "table",
        element("caption", Text(caption)),
        element("thead", element("tr", *top)),
        element("tbody", *body),
    )


def page(title: str | bytes, root: str, trail: Sequence[tuple[str | bytes, str]], *content: Html) -> bytes:
    """A whole page.

    :param root: what leads from it to the server's first page, relative
    :param trail: the pages that lead here, with their URLs
    """
    home = "pycasync"
    where = [element("li", element("a", Text(name), href=url)) for name, url in ((home, root), *trail)]
    body = element(
        "body",
        element("a", Text("Skip to the content"), href="#content", class_="skip"),
        element(
            "header",
            element("nav", element("ol", *where), aria_label="Where you are"),
        ),
        element("main", element("h1", Text(title)), *content, id="content", tabindex="-1"),
    )
    shown = Text(title) if title == home else Html(Text(title) + Text(" - " + home))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", shown),
        element("link", rel="stylesheet", href=f"{root}-/style.css"),
        element("link", rel="icon", href="data:,"),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n".encode()
