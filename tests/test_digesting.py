"""Digests of what is archived already are those of the bytes, however they are stored."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casync_compat.chunker import ChunkSizes
from casync_compat.errors import ChunkMissing
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder, digest_bits
from casync_compat.kinds import Kind
from casync_compat.progress import Progress
from casync_compat.store.memory import MemoryStore
from casync_compat.streams.trees import Tree
from casync_compat.verbs.digest import digest_index, digest_tree_part
from casync_compat.verbs.make import MakeOptions, digest_tree, make_archive, make_archive_index
from catar import flags
from catar.errors import CatarError, FormatError, NotFound

DIGESTS = pytest.mark.parametrize("digest", list(Digest), ids=lambda digest: digest.value)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with a file of a few hundred kilobytes, small ones, a link and an empty directory."""
    top = tmp_path / "source"
    (top / "sub" / "void").mkdir(parents=True)
    (top / "sub" / "large").write_bytes(random.Random(1).randbytes(700_000))
    (top / "small").write_bytes(b"hello\n")
    (top / "empty").write_bytes(b"")
    os.symlink("small", top / "link")
    return top


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    new = (thread.name for thread in threading.enumerate() if thread not in before)
    assert [name for name in new if name.startswith(("worker", "sequence"))] == []


Opener = Callable[[], Tree]


def openers(source: Path, beside: Path, digest: Digest) -> list[Opener]:
    """The same tree as an archive file and as an index over a store."""
    word = flags.select(digest_bits=digest_bits(digest))
    archive, index = os.fsencode(beside / "x.catar"), os.fsencode(beside / "x.caidx")
    store = MemoryStore()
    make_archive(archive, os.fsencode(source), MakeOptions(feature_flags=word))
    make_archive_index(
        index, os.fsencode(source), store, MakeOptions(feature_flags=word, sizes=ChunkSizes(256, 1024, 4096))
    )
    return [lambda: Tree(Kind.ARCHIVE, archive), lambda: Tree(Kind.ARCHIVE_INDEX, index, store)]


@DIGESTS
@pytest.mark.parametrize("inside", [b"", b"/", b"//"])
def test_whole_archives(source: Path, tmp_path: Path, digest: Digest, inside: bytes) -> None:
    """The digest of an archive is that of its bytes, with the algorithm that the archive says; so `make` said it."""
    for opener in openers(source, tmp_path, digest):
        with opener() as tree:
            found = digest_tree_part(tree, inside)
        assert found == (digest.of((tmp_path / "x.catar").read_bytes()), digest)
        word = flags.select(digest_bits=digest_bits(digest))
        assert found[0] == digest_tree(os.fsencode(source), MakeOptions(feature_flags=word))


@DIGESTS
def test_files_inside(source: Path, tmp_path: Path, digest: Digest) -> None:
    """The digest at a file's path is that of its contents."""
    for opener in openers(source, tmp_path, digest):
        with opener() as tree:
            for name in ("small", "empty", "sub/large", "/sub//large"):
                expected = digest.of((source / name.lstrip("/")).read_bytes())
                assert digest_tree_part(tree, name.encode()) == (expected, digest)


def test_directories_inside(source: Path, tmp_path: Path) -> None:
    """The digest at a directory's path is that of the directory archived alone, as casync's `digest` gives it."""
    for opener in openers(source, tmp_path, Digest.SHA512_256):
        with opener() as tree:
            for name in ("sub", "sub/void"):
                alone = digest_tree(os.fsencode(source / name))
                assert digest_tree_part(tree, name.encode()) == (alone, Digest.SHA512_256)


def test_paths_without_a_digest(source: Path, tmp_path: Path) -> None:
    """A path that is not there, or is no file or directory, is an error."""
    for opener in openers(source, tmp_path, Digest.SHA512_256):
        with opener() as tree:
            with pytest.raises(NotFound):
                digest_tree_part(tree, b"sub/no")
            with pytest.raises(CatarError, match="neither a regular file nor a directory"):
                digest_tree_part(tree, b"link")


@pytest.mark.parametrize("cut", [1, 100, 5000, 650_000])
def test_a_truncated_archive_has_no_digest(source: Path, tmp_path: Path, cut: int) -> None:
    """The archive is checked on the way."""
    opener, _ = openers(source, tmp_path, Digest.SHA512_256)
    path = tmp_path / "x.catar"
    os.truncate(path, path.stat().st_size - cut)
    with opener() as tree, pytest.raises(FormatError):
        digest_tree_part(tree)


@pytest.mark.parametrize("more", [1, 300_000])
def test_bytes_after_the_archive_do_not_count(source: Path, tmp_path: Path, more: int) -> None:
    """What follows an archive in a file is not part of its digest."""
    opener, _ = openers(source, tmp_path, Digest.SHA512_256)
    path = tmp_path / "x.catar"
    data = path.read_bytes()
    path.write_bytes(data + b"x" * more)
    with opener() as tree:
        assert digest_tree_part(tree)[0] == Digest.SHA512_256.of(data)


def index_of(data: bytes, store: MemoryStore, digest: Digest) -> Index:
    builder = IndexBuilder(flags.select(default=0, digest_bits=digest_bits(digest)), ChunkSizes())
    for start in range(0, len(data), 100_000):
        chunk = data[start : start + 100_000]
        store.put(digest.of(chunk), chunk)
        builder.append(digest.of(chunk), len(chunk))
    return builder.build()


@DIGESTS
@pytest.mark.parametrize("size", [0, 1, 1_234_567])
def test_blobs(digest: Digest, size: int) -> None:
    """The digest of a blob index is that of the blob, with any algorithm."""
    data = random.Random(size).randbytes(size)
    store = MemoryStore()
    index = index_of(data, store, Digest.SHA256)
    assert digest_index(index, store, digest) == digest.of(data)


def test_a_missing_chunk() -> None:
    """Without all chunks there is no digest."""
    store = MemoryStore()
    index = index_of(bytes(50) + random.Random(1).randbytes(1_000_000), store, Digest.SHA256)
    store.remove(ChunkId(index[7].id))
    with pytest.raises(ChunkMissing):
        digest_index(index, store, Digest.SHA256)


def test_progress_rises_to_the_total(source: Path, tmp_path: Path) -> None:
    """The callback is told how many bytes are done, of how many, never fewer than before."""
    seen: list[tuple[int, int | None]] = []

    def callback(progress: Progress) -> None:
        seen.append((progress.done, progress.total))

    store = MemoryStore()
    data = random.Random(9).randbytes(300_000)
    digest_index(index_of(data, store, Digest.SHA256), store, Digest.SHA256, progress=callback)
    for opener in openers(source, tmp_path, Digest.SHA512_256):
        for inside in (b"", b"sub", b"sub/large"):
            with opener() as tree:
                digest_tree_part(tree, inside, progress=callback)
    assert len(seen) >= 7
    assert all(total is not None and 0 < done <= total for done, total in seen)
