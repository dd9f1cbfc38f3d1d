"""Checkouts: the tree that unpacking gives, with files that are shared, through a store that mends itself."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from compare import assert_same
from filesystems import lacking
from grounds import Grounds
from test_oci import rawtar
from test_oci.images import noise
from test_oci.opened import BOTH, NESTED, opened, opened_again, tar

from casync_compat.chunker.params import ChunkSizes
from casync_compat.errors import CasyncError, UsageError
from casync_compat.index import Index, IndexBuilder
from casync_compat.oci.checkout import CheckoutOptions, CheckoutResult, Link, checkout
from casync_compat.oci.image.layersource import WrappedLayer
from casync_compat.oci.spec.descriptor import BlobDigest
from casync_compat.oci.spec.errors import CannotShare, ImageError
from casync_compat.oci.tar.recipe import Recipe
from casync_compat.oci.tar.recipebuilder import RecipeBuilder
from casync_compat.oci.unpack import unpack

BIG = tar(*(rawtar.file(b"f%d" % n, noise(20_000, n), mtime=n) for n in range(30)))
LINKS = pytest.mark.parametrize("link", [Link.HARDLINK, Link.COPY, Link.AUTO])


def check_out(
    tmp_path: Path,
    name: str,
    tars: list[bytes] = NESTED,
    link: Link = Link.HARDLINK,
    *,
    thin: bool = True,
    verify: bool = False,
    tag: str = "image",
    warnings: list[str] | None = None,
) -> CheckoutResult:
    """Check an image out to `tmp_path`/name, with the store `tmp_path`/files."""
    said: list[str] = [] if warnings is None else warnings
    with opened(tmp_path / "layout", tars, thin, tag=tag) as image:
        options = CheckoutOptions(link, verify=verify)
        return checkout(image, bytes(tmp_path / name), bytes(tmp_path / "files"), options, warn=said.append)


@LINKS
@BOTH
def test_same_as_unpacked(tmp_path: Path, link: Link, thin: bool) -> None:
    """A first checkout and a second are what unpacking gives, to the byte and the nanosecond."""
    with opened(tmp_path / "layout", NESTED, thin) as image:
        unpack(image, bytes(tmp_path / "bundle"))
    first = check_out(tmp_path, "one", link=link, thin=thin)
    second = check_out(tmp_path, "two", link=link, thin=thin)
    assert first.stored == first.files > 0
    assert (second.stored, second.fetched, second.files) == (0, 0, first.files)
    for name in ("one", "two"):
        assert_same(tmp_path / "bundle" / "rootfs", tmp_path / name)
        same = [(tmp_path / name / path).stat().st_ino for path in ("etc/passwd", "usr/bin/link")]
        assert same[0] == same[1]


def test_hard_links_share_inodes(tmp_path: Path) -> None:
    """Two trees by hard links have the same inodes, and those of empty files for themselves."""
    check_out(tmp_path, "one")
    check_out(tmp_path, "two")
    for name in ("etc/passwd", "usr/bin/tool", "etc/sparse"):
        assert (tmp_path / "one" / name).samefile(tmp_path / "two" / name)
    assert not (tmp_path / "one/etc/empty").samefile(tmp_path / "two/etc/empty")
    assert (tmp_path / "one/etc/empty").stat().st_nlink == 1


def test_copies_share_nothing(tmp_path: Path) -> None:
    """A tree of copies can be written to without any effect on another."""
    check_out(tmp_path, "one", link=Link.COPY)
    (tmp_path / "one/etc/passwd").write_text("changed")
    check_out(tmp_path, "two", link=Link.COPY)
    assert (tmp_path / "two/etc/passwd").read_text().startswith("root")


@pytest.mark.root
@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_reflinks_share_blocks(ground: Grounds, kind: str) -> None:
    """Where the file system can, files share blocks with the store by default, and are otherwise their own."""
    base = ground("checkout", on=kind)
    members = [rawtar.file(b"big", Random(1).randbytes(4 << 20)), rawtar.file(b"small", b"s")]
    before = _used(base)
    first = check_out(base, "one", [tar(*members)], Link.AUTO, tag="a")
    after_one = _used(base)
    assert first.link is Link.REFLINK
    check_out(base, "two", [tar(*members)], Link.AUTO, tag="a")
    assert_same(base / "one", base / "two")
    assert not (base / "one/big").samefile(base / "two/big")
    # The layout and the store have the data once each; another tree has nearly nothing.
    assert after_one - before > 4 << 20
    assert _used(base) - after_one < 2 << 20
    (base / "one/big").write_bytes(b"changed")
    check_out(base, "three", [tar(*members)], Link.AUTO, tag="a")
    assert_same(base / "two", base / "three")


def _used(base: Path) -> int:
    fd = os.open(base, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.sync()
        status = os.fstatvfs(fd)
    finally:
        os.close(fd)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.root
def test_stores_elsewhere_are_copied_from(ground: Grounds, tmp_path: Path) -> None:
    """A store on another file system cannot share anything: copies are made, or the wish is refused."""
    base = ground("checkout", on="tmpfs")
    if base.stat().st_dev == tmp_path.stat().st_dev:
        lacking("two file systems")
    with opened(tmp_path / "layout", NESTED) as image:
        store = bytes(tmp_path / "files")
        assert checkout(image, bytes(base / "one"), store).link is Link.COPY
        for link in (Link.HARDLINK, Link.REFLINK):
            with pytest.raises(CannotShare, match=r"cannot check out.*keep both on one file system$"):
                checkout(image, bytes(base / "two"), store, CheckoutOptions(link))
    assert (base / "one" / "etc/new").read_text() == "new"
    assert os.listdir(base) == ["one"]


def test_other_images_share_too(tmp_path: Path) -> None:
    """An image whose layers differ takes from the store what has not changed, and fetches the rest alone."""
    check_out(tmp_path, "one", [BIG], tag="one")
    result = check_out(tmp_path, "two", [rawtar.file(b"a-new-one", noise(5000, 99)) + BIG], tag="two")
    assert result.stored == 1
    assert result.fetched < 300_000
    assert (tmp_path / "one/f20").samefile(tmp_path / "two/f20")


def test_changed_metadata_needs_no_fetching(tmp_path: Path) -> None:
    """Files that changed their times only get inodes of their own, whose contents come from the store."""
    other = tar(*(rawtar.file(b"f%d" % n, noise(20_000, n), mtime=n + 1) for n in range(30)))
    check_out(tmp_path, "one", [BIG], tag="one")
    result = check_out(tmp_path, "two", [other], tag="two")
    assert (result.stored, result.fetched) == (30, 0)
    assert (tmp_path / "two/f7").stat().st_mtime == 8
    assert not (tmp_path / "one/f7").samefile(tmp_path / "two/f7")


@LINKS
@pytest.mark.parametrize("verify", [False, True])
def test_modified_stored_file_is_replaced(tmp_path: Path, link: Link, verify: bool) -> None:
    """A stored file that somebody wrote to, in the store or through a tree, is noticed, told of and replaced."""
    check_out(tmp_path, "one", link=link)
    stored = [
        path for path in (tmp_path / "files").rglob("*") if path.is_file() and path.stat().st_size == 30
    ]
    assert len(stored) == 1
    stored[0].chmod(0o644)
    stored[0].write_bytes(stored[0].read_bytes().replace(b"root", b"toor"))
    warnings: list[str] = []
    result = check_out(tmp_path, "two", link=link, warnings=warnings, verify=verify)
    assert result.replaced == 1
    assert result.stored == 1
    assert len(warnings) == 1
    assert (tmp_path / "two/etc/passwd").read_text() == "root:x:0:0:root:/root:/bin/sh\n"


def test_removed_trees_do_no_harm(tmp_path: Path) -> None:
    """After a tree was removed, its files are hashed again and taken as they are."""
    check_out(tmp_path, "one")
    for name in ("etc/passwd", "locked/passwd", "usr/bin/link"):
        (tmp_path / "one" / name).parent.chmod(0o755)
        (tmp_path / "one" / name).unlink()
    result = check_out(tmp_path, "two")
    assert (result.stored, result.replaced) == (0, 0)


def test_at_the_same_time(tmp_path: Path) -> None:
    """Checkouts that run at the same moment over one store all come out right."""
    with opened(tmp_path / "layout", [BIG, *NESTED]):
        pass
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with opened_again(tmp_path) as image:
                checkout(image, bytes(tmp_path / f"tree{number}"), bytes(tmp_path / "files"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number in range(1, 4):
        assert_same(tmp_path / "tree0", tmp_path / f"tree{number}")


def test_failure_leaves_no_tree(tmp_path: Path) -> None:
    """A checkout that fails leaves nothing at its target, and what is in the store is good."""
    hostile = tar(
        rawtar.file(b"good", b"x" * 100), rawtar.symlink(b"link", b"t" * 10), rawtar.symlink(b"empty", b"")
    )
    with pytest.raises(CasyncError):
        check_out(tmp_path, "one", [hostile], thin=False)
    assert sorted(os.listdir(tmp_path)) == ["files", "layout"]
    assert check_out(tmp_path, "two", [tar(rawtar.file(b"good", b"x" * 100))], tag="b").stored == 0


@BOTH
def test_nothing_outside_is_touched(tmp_path: Path, thin: bool) -> None:
    """Names and links that would leave the root are errors here, too."""
    (tmp_path / "secret").write_text("mine")
    for number, members in enumerate(
        (
            [rawtar.hard_link(b"a", b"../secret")],
            [rawtar.file(b"../escaped", b"x")],
            [rawtar.symlink(b"d", b".."), rawtar.hard_link(b"a", b"d/secret")],
        )
    ):
        with pytest.raises(ImageError):
            check_out(tmp_path, "tree", [tar(*members)], thin=thin, tag=f"t{number}")
    assert sorted(os.listdir(tmp_path)) == ["layout", "secret"]
    assert (tmp_path / "secret").stat().st_nlink == 1


@pytest.mark.root
def test_no_more_links(ground: Grounds) -> None:
    """Where a stored inode has as many names as ext4 allows, the tree gets a copy."""
    base = ground("links", on="ext4")
    layer = tar(rawtar.file(b"f", b"same", mode=0o640, mtime=5))
    check_out(base, "one", [layer])
    (base / "names").mkdir()
    with pytest.raises(OSError, match="Too many links"):
        for number in range(70_000):
            os.link(base / "one/f", base / f"names/{number}")
    result = check_out(base, "two", [layer])
    assert (result.link, result.stored) == (Link.HARDLINK, 0)
    assert_same(base / "one", base / "two")
    assert (base / "two/f").stat().st_nlink == 1


def test_equal_files_share(tmp_path: Path) -> None:
    """Files that are equal in everything are stored once, and every one is there."""
    members = [rawtar.file(b"d%d/f%d" % (n % 7, n), b"same") for n in range(300)]
    with opened(tmp_path / "layout", [tar(*members)]) as image:
        result = checkout(
            image, bytes(tmp_path / "one"), bytes(tmp_path / "files"), CheckoutOptions(Link.HARDLINK)
        )
    assert result.stored == 1
    found = list((tmp_path / "one").rglob("f*"))
    assert len(found) == 300
    assert {path.read_bytes() for path in found} == {b"same"}


def test_set_user_id_needs_its_owner(tmp_path: Path) -> None:
    """Without privilege a program that would run as its owner loses that bit, because its owner is another now."""
    layer = tar(rawtar.file(b"su", b"x", mode=0o4755, uid=12345))
    with opened(tmp_path / "layout", [layer]) as image:
        checkout(image, bytes(tmp_path / "one"), bytes(tmp_path / "files"), CheckoutOptions(rootless=True))
    assert (tmp_path / "one/su").stat().st_mode & 0o7777 == 0o755


@dataclass
class FakeImage:
    """What a layer asks of its image, for one with a recipe and nothing else."""

    made: bytes

    @property
    def config(self) -> SimpleNamespace:
        return SimpleNamespace(layers=[SimpleNamespace(stream_size=0)])

    def label(self, layer: int) -> str:
        return f"layer {layer}"

    def recipe(self, layer: int) -> Recipe:
        return Recipe.parse(self.made)

    def index(self, layer: int) -> Index:
        return IndexBuilder(0, ChunkSizes()).build()


def test_zeros_of_a_recipe_take_no_memory() -> None:
    """A recipe may say that a file is all zeros: what tells it from others comes in small pieces all the same."""
    builder = RecipeBuilder(0)
    builder.literal(b"header")
    builder.zeros(5 << 20)
    image = FakeImage(builder.build(BlobDigest.of(b"")))
    layer = WrappedLayer(image, 0, pytest.fail)  # type: ignore[arg-type]
    pieces = list(layer.origin(6, 5 << 20))
    assert len(pieces) >= 5
    assert max(map(len, pieces)) < 2 << 20


def test_link_words() -> None:
    """The ways to link have names, and others are refused."""
    assert [Link.parse(text) for text in ("auto", "reflink", "hardlink", "copy")] == list(Link)
    with pytest.raises(UsageError, match="hardlink"):
        Link.parse("symlink")


def forget_right(tmp_path: Path, how: str) -> None:
    """Let the store's memory say that files have the contents of others."""
    database = sqlite3.connect(tmp_path / "files" / "cache.sqlite")
    rows = database.execute("SELECT origin, content FROM origins ORDER BY origin").fetchall()
    contents = [content for _, content in rows]
    for number, (origin, _) in enumerate(rows):
        wrong = contents[number - 1] if how == "swapped" else contents[0]
        database.execute("UPDATE origins SET content = ? WHERE origin = ?", (wrong, origin))
    database.commit()
    database.close()


@pytest.mark.parametrize("how", ["swapped", "all one"])
@pytest.mark.parametrize("verify", [False, True])
@LINKS
def test_origins_are_hints(tmp_path: Path, link: Link, verify: bool, how: str) -> None:
    """Wrong memories of where contents came from give no wrong files: never of another size, and none with --verify."""
    same = [rawtar.file(b"same%d" % n, noise(5000, n)) for n in range(4)] if verify else []
    tars = [tar(*same, *(rawtar.file(b"g%d" % n, noise(1000 * n + 1, n)) for n in range(1, 6)))]
    check_out(tmp_path, "one", tars, link, tag="a")
    forget_right(tmp_path, how)
    check_out(tmp_path, "two", tars, link, verify=verify, tag="a")
    assert_same(tmp_path / "one", tmp_path / "two")


def spoil_rows(tmp_path: Path, how: str) -> None:
    """Let the store's memory of its own files be wrong."""
    database = sqlite3.connect(tmp_path / "files" / "cache.sqlite")
    rows = database.execute("SELECT name, content FROM files ORDER BY name").fetchall()
    assert len(rows) > 3
    for number, (name, _) in enumerate(rows):
        other = rows[number - 1][1]
        if how == "contents swapped":
            database.execute("UPDATE files SET content = ? WHERE name = ?", (other, name))
        elif how == "stamps of others":
            database.execute(
                "UPDATE files SET (inode, size, mtime, ctime) = (SELECT inode, size, mtime, ctime FROM files "
                "WHERE name = ?) WHERE name = ?",
                (rows[number - 1][0], name),
            )
        elif how == "words for numbers":
            database.execute(
                "UPDATE files SET size = 'large', ctime = 1.5, seal = 'x' WHERE name = ?", (name,)
            )
        elif how == "words for names":
            database.execute("UPDATE files SET name = ? WHERE name = ?", (f"inodes/{number}", name))
        elif how == "names outside":
            database.execute("UPDATE files SET name = ? WHERE name = ?", (b"../%d" % number, name))
    if how == "another schema":
        database.executescript("DROP TABLE files; CREATE TABLE files (name TEXT, x INT)")
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "how",
    [
        *("contents swapped", "stamps of others", "words for numbers", "words for names", "names outside"),
        "another schema",
    ],
)
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("mtime", [1, 2])
@LINKS
def test_rows_are_hints(tmp_path: Path, link: Link, verify: bool, mtime: int, how: str) -> None:
    """Wrong memories of stored files give no wrong trees, and nothing that is right is thrown away."""
    tars = [[tar(*(rawtar.file(b"f%d" % n, noise(5000, n), mtime=m) for n in range(5)))] for m in (1, mtime)]
    check_out(tmp_path, "one", tars[0], link, tag="a")
    spoil_rows(tmp_path, how)
    result = check_out(tmp_path, "two", tars[1], link, verify=verify, tag="b")
    for n in range(5):
        assert (tmp_path / f"two/f{n}").read_bytes() == noise(5000, n)
        assert (tmp_path / f"two/f{n}").stat().st_mtime == mtime
    assert result.replaced == 0
