"""Archives and indexes in any place of files: read in parts, or once from front to back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from places import EVERYWHERE, KINDS, Place, place  # noqa: F401 - a fixture
from webserver import Reply, WebServer

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import AccessDenied, FormatError, NotFound
from casync_compat.fs.apply.tree import ApplyOptions
from casync_compat.kinds import Kind
from casync_compat.lines import list_lines, mtree_lines
from casync_compat.locations import Settings, open_input
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.files import FileChanged, StoredFile
from casync_compat.store.http import HttpFiles
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.extraction import ExtractOptions
from casync_compat.streams.filetree import ArchiveFiles
from casync_compat.streams.inputs import load_index
from casync_compat.streams.trees import Tree
from casync_compat.verbs.cat import cat
from casync_compat.verbs.digest import digest_tree_part
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.ls import ls
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index
from casync_compat.verbs.stat import read_stat

LARGE = random.Random(5).randbytes(3_000_000)
FILES = {"a": b"first", "dir/deep/x": b"x" * 5000, "dir/large": LARGE, "z": b"last"} | {
    f"many/{n:03}": random.Random(n).randbytes(40_000) for n in range(40)
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of some megabytes."""
    top = tmp_path_factory.mktemp("source") / "tree"
    for name, data in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    (top / "link").symlink_to("dir/deep")
    return top


@pytest.fixture(scope="module")
def archive(source: Path) -> bytes:
    """It, as a file."""
    out = source.parent / "x.catar"
    make_archive(os.fsencode(out), os.fsencode(source))
    return out.read_bytes()


def contents(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def seen(kind: Kind, where: Any, store: Any = None) -> list[object]:
    """What the verbs that read say of an archive."""

    def of(look: Callable[[Tree], object]) -> object:
        with Tree(kind, where, store) as tree:
            return look(tree)

    return [
        of(lambda tree: b"".join(list_lines(tree.stream()))),
        of(lambda tree: b"".join(mtree_lines(tree.stream(b"dir")))),
        of(lambda tree: digest_tree_part(tree)),
        of(lambda tree: digest_tree_part(tree, b"dir")),
        of(lambda tree: digest_tree_part(tree, b"dir/large")),
        of(lambda tree: read_stat(tree.stream(b"many/007"))),
        of(lambda tree: b"".join(cat(ArchiveFiles(tree.archive(), b"x"), b"link/x"))),
        of(lambda tree: b"".join(cat(ArchiveFiles(tree.archive(), b"x"), b"dir/large")) == LARGE),
        of(lambda tree: list(ls(ArchiveFiles(tree.archive(), b"x"), b"", recursive=True))),
    ]


@EVERYWHERE
def test_every_verb_says_the_same(place: Place, source: Path, archive: bytes) -> None:  # noqa: F811
    """An archive is what it is, wherever it lies."""
    local = os.fsencode(source.parent / "x.catar")
    assert seen(Kind.ARCHIVE, place.put(b"d/x.catar", archive)) == seen(Kind.ARCHIVE, local)


@EVERYWHERE
@pytest.mark.parametrize("inside", [b"", b"dir", b"dir/large"])
def test_extract(place: Place, archive: bytes, source: Path, tmp_path: Path, inside: bytes) -> None:  # noqa: F811
    """All of it, and a part."""
    where = place.put(b"d/x.catar", archive)
    result = extract_archive(Kind.ARCHIVE, where, os.fsencode(tmp_path / "out"), inside=inside)
    if inside:
        got = contents(tmp_path / "out")
        assert got == {
            name.removeprefix("dir/") if inside == b"dir/large" else name: data
            for name, data in FILES.items()
            if name.encode().startswith(inside)
        }
    else:
        assert contents(tmp_path / "out") == contents(source)
        assert result.size == len(archive)


@EVERYWHERE
def test_what_is_wrong_names_the_file(place: Place) -> None:  # noqa: F811
    """A missing file, a damaged one and a web page in its place each are one line with the file's name."""
    for kind in (Kind.ARCHIVE, Kind.ARCHIVE_INDEX):
        for look in (lambda tree: tree.archive().node(), lambda tree: list(tree.stream())):
            where = StoredFile(place.files, b"none.x")
            with (
                pytest.raises(NotFound, match=r"none\.x: cannot open: No such file"),
                Tree(kind, where, MemoryStore()) as tree,
            ):
                look(tree)
            for page in (b"<!DOCTYPE html>\n<title>Index of /", b"\n<HTML><h1>Not here</h1>" * 1000):
                where = place.put(b"page.x", page)
                with (
                    pytest.raises(FormatError, match=r"page\.x: a web page"),
                    Tree(kind, where, MemoryStore()) as tree,
                ):
                    look(tree)
    with pytest.raises(FormatError, match=r"bad\.caidx: "):
        load_index(place.put(b"bad.caidx", b"no index at all" * 10))
    with pytest.raises(FormatError, match=r"empty\.caidx: "):
        load_index(place.put(b"empty.caidx", b""))


@EVERYWHERE
def test_an_index_and_its_chunks(place: Place, source: Path, tmp_path: Path) -> None:  # noqa: F811
    """An index is read where it lies, with a store in the same place."""
    store = ChunkStore(place.files)
    made = os.fsencode(tmp_path / "x.caidx")
    make_archive_index(made, os.fsencode(source), store, MakeOptions(sizes=ChunkSizes(4096, 16384, 65536)))
    where = place.put(b"x.caidx", Path(os.fsdecode(made)).read_bytes())
    assert seen(Kind.ARCHIVE_INDEX, where, store) == seen(Kind.ARCHIVE_INDEX, made, store)


class TestOnTheWeb:
    """How much is asked for."""

    running: WebServer | None

    @pytest.fixture
    def files(self, tmp_path: Path) -> Iterator[HttpFiles]:
        with KINDS["web"](tmp_path) as made:
            self.running = made.server
            assert isinstance(made.files, HttpFiles)
            yield made.files

    @pytest.fixture
    def server(self, files: HttpFiles) -> WebServer:
        assert self.running is not None
        return self.running

    @pytest.fixture
    def where(self, files: HttpFiles, server: WebServer, archive: bytes) -> StoredFile:
        server.files["/at/x.catar"] = archive
        return StoredFile(files, b"x.catar")

    def spent(self, server: WebServer) -> int:
        """Requests since the last time."""
        count = len(server.asked)
        server.asked.clear()
        return count

    def test_opening_asks_nothing(self, server: WebServer, where: StoredFile) -> None:
        """Nothing is asked for before it is wanted."""
        with Tree(Kind.ARCHIVE, where):
            assert self.spent(server) == 0

    def test_streams_are_one_request(self, server: WebServer, where: StoredFile, tmp_path: Path) -> None:
        """Who reads all of it asks once, and for no range."""
        extract_archive(Kind.ARCHIVE, where, os.fsencode(tmp_path / "out"))
        assert [(method, fields.get("range")) for method, _, fields in server.asked] == [("GET", None)]

    def test_a_file_costs_few_requests(self, server: WebServer, where: StoredFile, archive: bytes) -> None:
        """A small file of a large archive: some round trips, and little of the archive."""
        with Tree(Kind.ARCHIVE, where) as tree:
            assert b"".join(cat(ArchiveFiles(tree.archive(), b"x"), b"many/020")) == FILES["many/020"]
        assert self.spent(server) <= 5

    def test_a_directory_is_read_at_once(self, server: WebServer, where: StoredFile) -> None:
        """Listing forty files that lie far from one another costs no round trip a file."""
        with Tree(Kind.ARCHIVE, where) as tree:
            names = [entry.name for entry in ls(ArchiveFiles(tree.archive(), b"x"), b"many")]
        assert names == [b"%03d" % n for n in range(40)]
        assert self.spent(server) <= 8 + 40

    def test_pages_are_kept(self, server: WebServer, where: StoredFile) -> None:
        """What was looked at is not asked for again."""
        with Tree(Kind.ARCHIVE, where) as tree:
            files = ArchiveFiles(tree.archive(), b"x")
            files.stat(b"many/007")
            self.spent(server)
            files.stat(b"many/007")
            assert self.spent(server) == 0

    def test_without_ranges_it_comes_once(self, server: WebServer, where: StoredFile) -> None:
        """A server that answers a range with all of it is asked once, whatever is looked at."""
        server.ranges = False
        with Tree(Kind.ARCHIVE, where) as tree:
            files = ArchiveFiles(tree.archive(), b"x")
            for name in ("a", "z", "dir/large"):
                assert b"".join(cat(files, name.encode())) == FILES[name]
            assert b"".join(list_lines(tree.stream()))
        assert self.spent(server) == 1

    def test_a_change_is_no_mixture(self, server: WebServer, where: StoredFile, archive: bytes) -> None:
        """An archive that is replaced between two parts is an error, whether or not its size is another."""
        for other in (archive + b"!", archive[:-1] + b"!"):
            server.files["/at/x.catar"] = archive
            with Tree(Kind.ARCHIVE, where) as tree:
                files = ArchiveFiles(tree.archive(), b"x")
                server.files["/at/x.catar"] = other
                with pytest.raises(FileChanged, match=r"x\.catar in .* was changed"):
                    files.stat(b"z")

    def test_only_needed_chunks(
        self, server: WebServer, files: HttpFiles, source: Path, tmp_path: Path
    ) -> None:
        """A path in an index costs the chunks on the way to it, and its own."""
        store = ChunkStore(files)
        made = tmp_path / "x.caidx"
        sizes = ChunkSizes(4096, 16384, 65536)
        index = make_archive_index(
            os.fsencode(made), os.fsencode(source), store, MakeOptions(sizes=sizes)
        ).index
        assert index is not None
        server.files["/at/x.caidx"] = made.read_bytes()
        self.spent(server)
        with Tree(Kind.ARCHIVE_INDEX, StoredFile(files, b"x.caidx"), store) as tree:
            assert b"".join(cat(ArchiveFiles(tree.archive(), b"x"), b"many/020")) == FILES["many/020"]
        asked = [path for _, path, _ in server.asked if "cacnk" in path]
        assert 0 < len(asked) < 20 < len(index)
        assert len(asked) == len(set(asked))

    def test_access_is_told(self, server: WebServer, where: StoredFile) -> None:
        """A file that may not be read is another thing than one that is not there."""
        server.special = lambda *_: Reply(403)
        with pytest.raises(AccessDenied, match="403"), Tree(Kind.ARCHIVE, where) as tree:
            list(tree.stream())

    def test_secrets_stay_out_of_messages(self, server: WebServer) -> None:
        """What stands in the query of an URL is in no error."""
        where = open_input(server.url + "/no/x.caidx?token=secret", Settings())
        with pytest.raises(NotFound) as caught:
            load_index(where)
        assert "secret" not in str(caught.value)
        assert server.asked[0][1].endswith("?token=secret")

    def test_writing_starts_before_the_end(
        self, server: WebServer, where: StoredFile, tmp_path: Path
    ) -> None:
        """A body that breaks off leaves what came before in the target."""
        server.special = lambda *_: Reply(200, server.files["/at/x.catar"][:2_000_000], length=9_000_000)
        with pytest.raises(Exception, match=r"x\.catar"):
            extract_archive(
                Kind.ARCHIVE,
                where,
                os.fsencode(tmp_path / "out"),
                options=ExtractOptions(apply=ApplyOptions()),
            )
        assert (tmp_path / "out" / "a").read_bytes() == b"first"
