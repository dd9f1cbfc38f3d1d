"""How much of a store is asked for when somebody looks into a mount: counts of chunks, never times."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest
from archives import END, Step, encode
from fusekernel import Kernel

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index, IndexBuilder
from casync_compat.mount.archive import MountedArchive
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.lookahead import SharedReader
from catar import Archive, Node, flags

SIZES = ChunkSizes(1 << 10, 4 << 10, 16 << 10)
DIRECTORIES, FILES = 4, 1500
AHEAD = 64
"""Chunks of this size that are read ahead for who seems to read on."""


class CountingStore:
    """Chunks in memory, and ids of those that were asked for."""

    name = "memory"

    def __init__(self) -> None:
        self.chunks: dict[ChunkId, bytes] = {}
        self.asked: list[ChunkId] = []

    def get(self, id: ChunkId, digest: Digest, limit: int) -> bytes:
        self.asked.append(id)
        return self.chunks[id]


def steps() -> Iterator[Step]:
    """Directories of many files, each another's content."""
    yield Node(b"", stat.S_IFDIR | 0o755)
    for directory in range(DIRECTORIES):
        yield Node(b"d%d" % directory, stat.S_IFDIR | 0o755)
        for number in range(FILES):
            yield (
                Node(b"file-%05d" % number, stat.S_IFREG | 0o644, mtime=number),
                b"%d %d" % (directory, number),
            )
        yield END
    yield END


@pytest.fixture(scope="module")
def archived() -> tuple[Index, dict[ChunkId, bytes]]:
    data = encode(steps())
    builder = IndexBuilder(flags.DEFAULT, SIZES)
    chunks = {}
    for start, end in Chunker(SIZES).split(data):
        id_ = Digest.SHA512_256.of(data[start:end])
        chunks[id_] = data[start:end]
        builder.append(id_, end - start)
    return builder.build(), chunks


@pytest.fixture
def store(archived: tuple[Index, dict[ChunkId, bytes]]) -> CountingStore:
    store = CountingStore()
    store.chunks = archived[1]
    return store


@pytest.fixture
def kernel(archived: tuple[Index, dict[ChunkId, bytes]], store: CountingStore) -> Iterator[Kernel]:
    with SharedReader(ChunkFetcher(archived[0], store)) as reader:
        yield Kernel(MountedArchive(Archive(reader, archived[0].feature_flags)))


def test_one_file_takes_few_chunks(kernel: Kernel, store: CountingStore) -> None:
    """A file in a directory of many is found by the lookup table, and the next beside it costs next to nothing."""
    assert len(store.asked) <= 3
    assert kernel.read(kernel.find(b"d2", b"file-00700"), 0, 100) == b"2 700"
    assert len(store.asked) <= 16 + AHEAD
    before = len(store.asked)
    assert kernel.read(kernel.find(b"d2", b"file-00701"), 0, 100) == b"2 701"
    assert len(store.asked) - before <= 3


def test_a_listing_reads_its_directory_once(kernel: Kernel, store: CountingStore) -> None:
    """`ls -l` of one directory fetches each of its chunks once, and but a little of what is beside it."""
    names = kernel.names(kernel.find(b"d1"), 32 << 10)
    assert len(names) == FILES + 2
    assert len(store.asked) == len(set(store.asked))
    assert len(store.asked) <= len(store.chunks) // DIRECTORIES + 16 + AHEAD
    before = len(store.asked)
    for number in range(0, FILES, 100):
        assert kernel.find(b"d1", b"file-%05d" % number) == names[number + 2][1]
    assert len(store.asked) == before


def test_find_is_one_pass(kernel: Kernel, store: CountingStore) -> None:
    """A walk over the whole tree fetches each chunk once."""
    for directory in range(DIRECTORIES):
        assert len(kernel.names(kernel.find(b"d%d" % directory), 32 << 10)) == FILES + 2
    assert len(store.asked) == len(set(store.asked)) <= len(store.chunks)
