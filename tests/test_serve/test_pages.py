"""Pages for a browser: what they show, whom, and that no name does harm."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from urllib.parse import quote, urljoin

import pytest
from asking import Heard, ask

from casync_compat import make
from casync_compat.serve.access import NOTHING, Grant, Rules
from casync_compat.serve.application import Application
from casync_compat.serve.pages.looking import Looking
from casync_compat.serve.pages.naming import content_type, disposition
from casync_compat.serve.settings import Served
from casync_compat.store.local import LocalFiles, LocalStore

HOSTILE = (
    b"<script>alert(1)<", b"a\"b'c&d;", b"new\nline", b"\xff\xfebytes", "\u202egpj.exe".encode(), b"x.catar", b"100%25",
    b" lead", b"#a?b=c", b"..x", "ü ☃".encode(),
)  # fmt: skip
DATA = Random(1).randbytes(700_000)


class Reading(HTMLParser):
    """What a browser makes of a page: links, text, elements, and what could run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.risky: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if tag == "a" and name == "href":
                self.links.append(value or "")
            if name.startswith("on") or name == "style" or (value or "").startswith("javascript:"):
                self.risky.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index and an archive of a tree with hostile names, and an index of a blob with a hostile name."""
    tmp_path = tmp_path_factory.mktemp("pages")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for name in HOSTILE:
        Path(os.fsdecode(bytes(tmp_path / "tree") + b"/" + name)).write_bytes(b"of " + name)
    (tmp_path / "tree" / "sub" / "data").write_bytes(DATA)
    for number in range(510):
        (tmp_path / "tree" / "sub" / f"f{number:03}").touch()
    os.symlink("sub/data", tmp_path / "tree" / "link")
    os.symlink("<b>nowhere", tmp_path / "tree" / "dead")
    os.symlink("../../../etc/passwd", tmp_path / "tree" / "out")
    place = tmp_path / "srv"
    place.mkdir()
    make(place / "t.caidx", tmp_path / "tree", store=place / "default.castr")
    make(place / "t.catar", tmp_path / "tree")
    make(place / "<i>'\"&.caibx", tmp_path / "tree" / "sub" / "data", store=place / "default.castr")
    (place / "secret.txt").write_bytes(b"no")
    return place


@pytest.fixture
def served(place: Path) -> Iterator[Application]:
    """All of it, to everybody."""
    yield from running(place)


def running(place: Path) -> Iterator[Application]:
    """A server of a place, with pages."""
    what = Served({"default": LocalStore(bytes(place / "default.castr"))}, LocalFiles(bytes(place)))
    pages = Looking(what)
    application = Application(what, pages=pages)
    yield application
    pages.close()
    application.close()


def read(application: Application, path: str, **fields: str) -> Reading:
    """A page, which keeps the rules that all pages keep."""
    heard = ask(application, "GET", path, fields)
    assert heard.status == 200, heard
    return kept(heard)


def kept(heard: Heard) -> Reading:
    """What a page says that keeps the rules."""
    assert heard.fields["content-type"] == "text/html; charset=utf-8"
    policy = heard.fields["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self' data:")
    found = Reading(heard.text)
    assert not found.risky
    assert not {"script", "iframe", "form", "object", "b", "i"} & set(found.tags)
    assert not re.search(r"(?:src|href)=\"(?:\w+:)?//", heard.text)
    assert '<html lang="en">' in heard.text
    assert found.tags.count("h1") == found.tags.count("main") == 1
    assert found.links[0] == "#content"
    return found


def at(name: str, path: bytes = b"", page: str = "tree") -> str:
    return f"/-/{page}?in={quote(name, safe='')}&at={quote(path, safe='')}"


def test_home_lists_what_there_is(served: Application) -> None:
    """Indexes, archives and stores with sizes; nothing else of the directory."""
    home = read(served, "/")
    for word in ("t.caidx", "t.catar", "<i>'\"&.caibx", "default", "684 KiB"):
        assert word in home.text
    assert "secret" not in home.text


@pytest.mark.parametrize("name", ["t.caidx", "t.catar"])
def test_every_link_leads_somewhere(served: Application, place: Path, name: str) -> None:
    """From the first page on all links can be followed, and every file comes as it is, whatever it is called."""
    wanted = {b"of " + each for each in HOSTILE} | {b"", DATA}
    seen: set[str] = set()
    files: set[bytes] = set()
    left = [at(name)]
    while left:
        url = left.pop()
        if url in seen or url.startswith("#") or "at=out" in url or "at=dead" in url:
            continue
        seen.add(url)
        if "/-/file" in url:
            files.add(ask(served, "GET", url).body)
        else:
            left += [urljoin(url, link) for link in read(served, url).links if not link.startswith("#")]
    assert wanted <= files


def test_names_are_shown_as_text(served: Application) -> None:
    """What is markup in a name is text on the page, and what cannot be seen is escaped."""
    text = read(served, at("t.caidx")).text
    for shown in (
        "<script>alert(1)<",
        "a\"b'c&d;",
        "new\\nline",
        "\\xff\\xfebytes",
        "\\u202egpj.exe",
        "<b>nowhere",
    ):
        assert shown in text
    assert "\u202e" not in text


def test_large_directories_come_in_parts(served: Application) -> None:
    """And all of them are reached."""
    first = read(served, at("t.caidx", b"sub"))
    assert first.text.count("-rw-") == 500
    rest = read(served, urljoin("/-/tree", first.links[-1]))
    assert rest.text.count("-rw-") == 11


def test_a_part_of_a_file(served: Application) -> None:
    """Ranges, conditions and HEAD, of a file in an archive and of a blob."""
    for url in (
        at("t.caidx", b"sub/data", "file"),
        at("<i>'\"&.caibx", b"", "file"),
        at("t.catar", b"link", "file"),
    ):
        whole = ask(served, "GET", url)
        assert whole.body == DATA
        assert whole.fields["content-length"] == str(len(DATA))
        part = ask(served, "GET", url, {"Range": "bytes=300000-650000"})
        assert part.status == 206
        assert part.body == DATA[300_000:650_001]
        assert ask(served, "GET", url, {"If-None-Match": whole.fields["etag"]}).status == 304
        assert ask(served, "GET", url, {"Range": "bytes=700000-"}).status == 416
        head = ask(served, "HEAD", url)
        assert (head.body, head.fields["content-length"]) == (b"", str(len(DATA)))


@pytest.mark.parametrize(
    "path",
    [
        "/-/tree", "/-/tree?in=nothing.caidx", "/-/tree?in=../srv/t.caidx", "/-/tree?in=secret.txt",
        "/-/tree?in=/etc/x.caidx", "/-/tree?in=t.caidx&at=nothing", "/-/tree?in=t.caidx&at=dead",
        "/-/tree?in=t.caidx&at=out", "/-/file?in=t.caidx&at=../../etc/passwd", "/-/file?in=t.caidx&at=sub",
        "/-/file?in=t.caidx&at=%00", "/-/tree?in=%00.caidx", "/-/nothing", "/elsewhere",
    ],
)  # fmt: skip
def test_what_there_is_not(served: Application, path: str) -> None:
    """It is not found; no path and no link leads out of an archive or the place."""
    assert ask(served, "GET", path).status == 404


def test_what_is_damaged_is_a_page(place: Path, tmp_path: Path) -> None:
    """A broken index, and a chunk that is missing, say so, and nothing of the server's paths."""
    place = Path(shutil.copytree(place, tmp_path / "srv"))
    served = next(begun := running(place))
    (place / "broken.caidx").write_bytes(b"nothing of the kind")
    heard = ask(served, "GET", at("broken.caidx"))
    assert heard.status == 500
    kept(heard)
    assert str(place) not in heard.text
    assert "broken.caidx" in read(served, "/").text
    for chunk in (place / "default.castr").rglob("*.cacnk"):
        chunk.unlink()
    heard = ask(served, "GET", at("t.caidx"))
    assert heard.status == 404
    assert "chunk is missing" in kept(heard).text
    assert next(begun, None) is None


def test_sharing(served: Application) -> None:
    """The picture has a text beside it, and a bar for each index."""
    found = read(served, "/-/sharing")
    assert found.tags.count("svg") == 1
    assert found.tags.count("rect") == 4
    assert "t.caidx" in found.text
    assert "Shared" in found.text


def test_nothing_beyond_what_may_be_read(place: Path) -> None:
    """Without a right there is no page; with one for a store only, no index; with one for indexes only, no chunk."""
    local = LocalStore(bytes(place / "default.castr"))
    what = Served(
        {"default": local, "internal": LocalStore(bytes(place / "other"))}, LocalFiles(bytes(place))
    )
    pages = Looking(what)
    try:
        for grant, status, seen, hidden in (
            (NOTHING, 401, "", "default"),
            (Grant(frozenset({"default"})), 200, "default", "t.caidx"),
            (Grant(frozenset({"indexes"})), 200, "t.caidx", "default"),
            (Grant(frozenset({"indexes", "default"})), 200, "default", "internal"),
        ):
            application = Application(what, access=Rules(anybody=grant), pages=pages)
            heard = ask(application, "GET", "/")
            assert heard.status == status
            assert seen in heard.text
            assert hidden not in heard.text
            inside = ask(application, "GET", at("t.caidx"))
            assert inside.status == (
                200 if {"indexes", "default"} <= grant.read else 404 if "indexes" in grant.read else 401
            )
            application.close()
    finally:
        pages.close()


def test_how_downloads_are_called() -> None:
    """By their names, as RFC 6266 has it: plain where that will do, else in UTF-8 as well; nothing breaks out."""
    assert disposition(b"a.txt")[1] == b'attachment; filename="a.txt"'
    assert disposition("ü.txt".encode())[1] == b"attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"
    for name in (*HOSTILE, b"a\r\nSet-Cookie: x", b"..", b"", b"../../x", b"a/b", b"\\\\host"):
        value = disposition(name)[1].decode("ascii")
        assert re.fullmatch(r"attachment; filename=\"[ !#-\[\]-~]+\"(; filename\*=UTF-8''[\w.%~-]+)?", value)
        assert "/" not in value.partition(";")[2].replace("UTF-8", "")
    assert content_type(b"x.html")[1] == b"text/html; charset=utf-8"
    assert content_type(b"x.tar.gz")[1] == b"application/gzip"
    assert content_type(b"x")[1] == b"application/octet-stream"


def test_pages_can_be_off(place: Path) -> None:
    """Then there are only chunks and files."""
    application = Application(Served({}, LocalFiles(bytes(place))))
    assert ask(application, "GET", "/").status == 404
    assert ask(application, "GET", "/t.caidx").status == 200
    application.close()
