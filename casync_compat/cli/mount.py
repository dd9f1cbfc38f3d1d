"""`pycasync mount`."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack

from casync_compat.cli._common import (
    archive_errors,
    input_kind,
    is_far,
    is_stream,
    open_tree,
    source_for,
    tree_kind,
)
from casync_compat.cli._daemon import in_background
from casync_compat.cli._location import local_path, name_of, open_input, shown_name, warn
from casync_compat.cli._mounted import until_gone
from casync_compat.cli._options import READING, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.errors import UsageError, show_path
from casync_compat.kinds import Kind
from casync_compat.mount.archive import MountedArchive
from casync_compat.mount.nodes import MountedBlob, MountedTree
from casync_compat.streams.assemble import ChunkFetcher
from casync_compat.streams.inputs import load_index, path_of
from casync_compat.streams.lookahead import KEPT, SharedReader
from casync_compat.verbs.mount import mount

EXAMPLES = (
    ("pycasync mount etc.caidx /mnt", "until fusermount3 -u /mnt, or Ctrl-C"),
    ("pycasync mount https://host/etc.caidx /mnt --store=https://host/store", "fetches what is read"),
)


NEEDS = "On a machine that has FUSE, and the program fusermount3 (Debian's package fuse3)."


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("INPUT MOUNTPOINT", NEEDS)
    add_positional(parser, "input", "archive or index; of a blob's, the blob is the one file")
    add_positional(parser, "mountpoint", "directory to mount it on")
    add_options(parser, *READING, "--what", "--mkdir", "--background")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    assert options.input is not None
    if options.background and (status := in_background()) is not None:
        return status
    with archive_errors(options.input), ExitStack() as stack:
        tree = _opened(options, stack)
        session = mount(
            tree,
            local_path(options.mountpoint),
            fsname=os.fsdecode(shown_name(options.input)),
            tell=warn,
            far=is_far(options, options.input),
            mkdir=options.mkdir,
        )
        until_gone(session, f"Mounted: {show_path(options.mountpoint)}", background=options.background)
    return 0


def _opened(options: argparse.Namespace, stack: ExitStack) -> MountedTree:
    source: str = options.input
    if input_kind(options, source) is not Kind.BLOB_INDEX:
        if tree_kind(options, source) is Kind.DIRECTORY:
            raise UsageError(f"{show_path(source)}: a directory needs no mount; give an archive or an index")
        if is_stream(source) and options.what == Kind.ARCHIVE.value:
            raise UsageError("an archive that comes as a stream cannot be mounted; give a file, or an index")
        return MountedArchive(stack.enter_context(open_tree(options, source)).archive(keep=KEPT))
    where = None if is_stream(source) else open_input(source)
    store = source_for(options, source)
    index = load_index(where, store)
    fetcher = ChunkFetcher(index, store, path_of(where))
    name = (
        b"blob" if where is None else name_of(source).rpartition(b"/")[2].removesuffix(b".caibx") or b"blob"
    )
    reader = stack.enter_context(SharedReader(fetcher))
    return MountedBlob(reader, name, uid=os.getuid(), gid=os.getgid(), mtime=time.time_ns())
