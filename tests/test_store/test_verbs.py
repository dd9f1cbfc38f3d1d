"""Every verb works over every store: what a directory can be used for, memory and a registry can be used for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from test_oci.fake_registry import FakeRegistry

import casync_compat.api as casync
from casync_compat.ids import Digest
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.oci.registry.chunkstore import open_chunk_store
from casync_compat.store.base import Store
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryFiles, MemoryStore
from casync_compat.verbs.convert_index import convert_index
from casync_compat.verbs.digest import digest_index
from casync_compat.verbs.gc import collect_garbage
from casync_compat.verbs.info import describe
from casync_compat.verbs.make import MakeOptions, make_archive_index


def make_store(kind: str, tmp_path: Path) -> Store:
    if kind == "directory":
        return LocalStore(os.fsencode(tmp_path / "x.castr"))
    if kind == "registry":
        return open_chunk_store("oci+https://registry.test/a/b", FakeRegistry().client())
    return MemoryStore() if kind == "memory" else ChunkStore(MemoryFiles())


@pytest.fixture(params=["directory", "memory", "files in memory", "registry"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return make_store(request.param, tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "one").write_bytes(b"one" * 40_000)
    (tree / "two").write_bytes(bytes(range(256)) * 400)
    return tree


def test_there_and_back(store: Store, tree: Path, tmp_path: Path) -> None:
    """A tree and a blob come back; the second run stores nothing new."""
    first = casync.make(tmp_path / "x.caidx", tree, store=store)
    second = casync.make(tmp_path / "y.caidx", tree, store=store)
    assert first.chunks is not None
    assert second.chunks is not None
    assert first.chunks.new == len(set(Index.parse((tmp_path / "x.caidx").read_bytes()).ids()))
    assert second.chunks.new == 0
    casync.extract(tmp_path / "x.caidx", tmp_path / "out", store=store)
    assert (tmp_path / "out" / "d" / "one").read_bytes() == b"one" * 40_000
    casync.make(tmp_path / "x.caibx", tree / "two", store=store)
    casync.extract(tmp_path / "x.caibx", tmp_path / "two", store=store)
    assert (tmp_path / "two").read_bytes() == bytes(range(256)) * 400
    with casync.open_archive(tmp_path / "x.caidx", store=store) as opened:
        assert opened.listdir() == [b"d", b"two"]


def test_looked_at_converted_and_pruned(store: Store, tree: Path, tmp_path: Path) -> None:
    """Its chunks are counted, digested, converted, and removed when nothing needs them."""
    made = casync.make(tmp_path / "x.caidx", tree, store=store)
    index = Index.parse((tmp_path / "x.caidx").read_bytes())
    assert describe(index, store).in_store == len(set(index.ids()))
    assert digest_index(index, store, Digest.SHA512_256) == made.digest
    convert_index(
        Kind.ARCHIVE_INDEX,
        os.fsencode(tmp_path / "x.caidx"),
        os.fsencode(tmp_path / "z.caidx"),
        store,
        store,
        digest=Digest.SHA256,
    )
    converted = Index.parse((tmp_path / "z.caidx").read_bytes())
    time.sleep(0.05)  # an index that is as old as the run would count as named
    result = collect_garbage(store, [converted], ignore_unnamed=True)
    assert result.removed == len(set(index.ids()))
    assert result.freed > 0
    assert list(store.ids()) == sorted(set(converted.ids()))


def test_with_a_cache(store: Store, tree: Path, tmp_path: Path) -> None:
    """A second run with a cache makes the same index, and looks at no chunk that it remembers."""
    (tmp_path / "cache").mkdir()
    for _ in range(2):
        make_archive_index(
            os.fsencode(tmp_path / "c.caidx"),
            os.fsencode(tree),
            store,
            MakeOptions(cache=os.fsencode(tmp_path / "cache")),
        )
    casync.make(tmp_path / "x.caidx", tree, store=store)
    assert (tmp_path / "c.caidx").read_bytes() == (tmp_path / "x.caidx").read_bytes()


def test_a_store_inside_the_tree(tree: Path) -> None:
    """A store that lies in the tree is not archived with it."""
    store = LocalStore(os.fsencode(tree / "x.castr"))
    casync.make(tree / "x.caidx", tree, store=store)
    with casync.open_archive(tree / "x.caidx", store=store) as opened:
        assert opened.listdir() == [b"d", b"two"]
