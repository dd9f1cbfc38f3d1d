"""`pycasync mount`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from casync_compat.cli._common import (
    archive_errors,
    blob_fetcher,
    input_kind,
    is_far,
    is_stream,
    open_tree,
    source_for,
    tree_kind,
)
from casync_compat.cli._daemon import in_background
from casync_compat.cli._location import (
    default_store,
    is_remote,
    local_path,
    name_of,
    open_cache,
    shown_name,
    warn,
)
from casync_compat.cli._mounted import until_gone
from casync_compat.cli._options import READING, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.errors import CasyncError, UsageError, show_path
from casync_compat.kinds import Kind
from casync_compat.locations import group_members
from casync_compat.mount.archive import MountedArchive
from casync_compat.mount.directory import MountedDirectory, MountedMember, OpenedMember, find_members
from casync_compat.mount.nodes import MountedBlob, MountedTree
from casync_compat.store.cached import Cached, ChunkCache
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.inputs import load_index
from casync_compat.streams.lookahead import KEPT, SharedReader
from casync_compat.streams.warming import Warming, read_all
from casync_compat.verbs.mount import mount

EXAMPLES = (
    ("pycasync mount etc.caidx /mnt", "until fusermount3 -u /mnt, or Ctrl-C"),
    ("pycasync mount https://host/etc.caidx /mnt --store=https://host/store", "fetches what is read"),
    ("pycasync mount https://host/x.caibx /mnt --fetch --chunk-cache=chunks", "and meanwhile the rest"),
    ("pycasync mount backups /mnt", "all archives and indexes of a directory, each under its name"),
)

_Fetchers = Callable[[], Iterable[ChunkFetcher]]
_EACH = KEPT // 8
"""Bytes of chunks to keep of one of several."""

NEEDS = "On a machine that has FUSE, and the program fusermount3 (Debian's package fuse3)."


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("INPUT MOUNTPOINT", NEEDS)
    add_positional(
        parser,
        "input",
        "archive or index; of a blob's, the blob is the one file; or a directory of such, which all appear in it, "
        "each opened when it is first looked at",
    )
    add_positional(parser, "mountpoint", "directory to mount it on")
    add_options(parser, *READING, "--what", "--mkdir", "--verify", "--fetch", "--background")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    assert options.input is not None
    if options.background and (status := in_background()) is not None:
        return status
    with archive_errors(options.input), ExitStack() as stack:
        tree, fetchers = _opened(options, stack)
        cache = _cache_of(options, fetchers)
        if fetchers is not None and options.verify:
            for fetcher in fetchers():
                read_all(fetcher)
        session = mount(
            tree,
            local_path(options.mountpoint),
            fsname=os.fsdecode(shown_name(options.input)),
            tell=warn,
            far=is_far(options, options.input),
            mkdir=options.mkdir,
            reading=_reading(options),
        )
        if fetchers is not None and cache is not None:
            stack.enter_context(Warming(fetchers(), cache, warn))
        until_gone(session, f"Mounted: {show_path(options.mountpoint)}", background=options.background)
    return 0


def _opened(options: argparse.Namespace, stack: ExitStack) -> tuple[MountedTree, _Fetchers | None]:
    """What is to be mounted, and what gets its chunks, if it has any."""
    source: str = options.input
    if input_kind(options, source) is not Kind.BLOB_INDEX:
        if tree_kind(options, source) is Kind.DIRECTORY:
            return _directory(options, local_path(source), stack)
        if is_stream(source) and options.what == Kind.ARCHIVE.value:
            raise UsageError("an archive that comes as a stream cannot be mounted; give a file, or an index")
        tree = stack.enter_context(open_tree(options, source))
        of_tree = tree.fetcher
        return MountedArchive(tree.archive(keep=KEPT)), (lambda: [of_tree]) if of_tree is not None else None
    fetcher = blob_fetcher(options, source)
    name = (
        b"blob"
        if is_stream(source)
        else name_of(source).rpartition(b"/")[2].removesuffix(b".caibx") or b"blob"
    )
    reader = stack.enter_context(SharedReader(fetcher))
    blob = MountedBlob(reader, name, uid=os.getuid(), gid=os.getgid(), mtime=time.time_ns())
    return blob, lambda: [fetcher]


def _reading(options: argparse.Namespace) -> list[bytes]:
    """What of this machine is read while it is mounted: stores, and a directory of archives."""
    kind = input_kind(options, options.input)
    if kind is Kind.ARCHIVE:  # which stays open
        return []
    source = None if is_stream(options.input) else options.input
    paths = [*group_members(options.store or default_store(source)), *options.extra_store]
    if options.chunk_cache is not None:
        paths.append(options.chunk_cache)
    if source is not None and kind is Kind.DIRECTORY:
        paths.append(source)
    return [local_path(each) for each in paths if not is_remote(each)]


def _directory(
    options: argparse.Namespace, top: bytes, stack: ExitStack
) -> tuple[MountedDirectory, _Fetchers]:
    found = {
        path: (kind, name) for name, path in find_members(top, warn).items() if (kind := Kind.of_suffix(path))
    }
    if not found:
        raise UsageError(f"{show_path(top)}: neither archives nor indexes are in it, by their suffixes")
    one = argparse.Namespace(**{**vars(options), "what": None})

    def opened(path: bytes, kind: Kind) -> OpenedMember:
        source = os.fsdecode(path)
        with archive_errors(source):
            if kind is Kind.BLOB_INDEX:
                reader = stack.enter_context(SharedReader(blob_fetcher(one, source), _EACH))
                mtime = os.stat(path).st_mtime_ns
                blob = MountedBlob(reader, b"", uid=os.getuid(), gid=os.getgid(), mtime=mtime)
                return OpenedMember(blob, reader.rest)
            tree = MountedArchive(stack.enter_context(open_tree(one, source)).archive(keep=_EACH))
            return OpenedMember(tree, tree.rest)

    def fetchers() -> Iterator[ChunkFetcher]:
        for path, (kind, _) in sorted(found.items()):
            try:
                if kind.is_index:
                    source = os.fsdecode(path)
                    yield ChunkFetcher(load_index(path), source_for(one, source), path)
            except CasyncError as error:
                if options.verify:
                    raise
                warn(str(error))

    members = {name: MountedMember(kind, partial(opened, path, kind)) for path, (kind, name) in found.items()}
    mtime = os.stat(top).st_mtime_ns
    return MountedDirectory(members, uid=os.getuid(), gid=os.getgid(), mtime=mtime), fetchers


def _cache_of(options: argparse.Namespace, fetchers: _Fetchers | None) -> ChunkCache | None:
    """Where `--fetch` puts chunks; None without it."""
    if fetchers is None and (options.verify or options.fetch):
        flag = "--verify" if options.verify else "--fetch"
        raise WrongWords(f"{flag} is about chunks, and {show_path(options.input)} has none: give an index")
    if fetchers is None or not options.fetch:
        return None
    if options.chunk_cache is not None:
        return open_cache(options.chunk_cache)
    for fetcher in fetchers():
        if isinstance(fetcher.source, Cached):
            return fetcher.source.cache
    raise WrongWords("--fetch puts chunks into a chunk cache: give --chunk-cache=DIR")
