"""`pycasync mirror`, and what `pycasync copy` shares with it."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from casync_compat.cli._common import jobs_at
from casync_compat.cli._location import (
    inside,
    is_remote,
    local_path,
    open_chunk_store,
    open_directory,
    open_source,
    side_store,
    warn,
)
from casync_compat.cli._options import NETWORK, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli._progress import ProgressLine, human_size, progress_line
from casync_compat.compression import Compression
from casync_compat.errors import CasyncError, FileError, show_path
from casync_compat.store.base import ChunkSource, Rereading, Store
from casync_compat.streams.leasing import writing
from casync_compat.verbs.mirror import INDEXES, MirrorResult, mirror

EXAMPLES = (
    ("pycasync mirror s3://bucket/releases /srv/releases", "all indexes there, and their chunks"),
    (
        "pycasync mirror https://example.com/releases /srv/releases v1.caidx v2.caidx",
        "a web server lists nothing",
    ),
    (
        "pycasync mirror --delete --keep='stable-*' sftp://host/srv/releases /srv/releases '*.caidx'",
        "and no others",
    ),
)

COPYING = (
    "--store",
    "--extra-store",
    *NETWORK,
    "--compression",
    "--layout",
    "--verify-reused",
    "--json",
    "--jobs",
)
"""Options of both verbs, and the next."""
RUNNING = ("--dry-run", "--wait", "--no-progress")
STORES = (
    "Chunks go to --store, and come from --source-store and --extra-store. Without these they are in default.castr "
    "beside the indexes; or in $CASYNC_STORE, for what is on this machine."
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "SOURCE TARGET [PATTERN...]",
        "SOURCE and TARGET are directories, here or elsewhere. Files in SOURCE that match a PATTERN (without one: "
        "*.caidx and *.caibx) come to TARGET, indexes with the chunks that they need and that are not there; each "
        "index appears when all its chunks are there. SOURCE need not be listed where files are named. A run that "
        f"breaks off is taken up by the next one. {STORES} What cannot be copied is told, all else is copied, and "
        "the exit status is 1.",
    )
    add_positional(parser, "source", "SOURCE: where indexes and archives are")
    add_positional(parser, "target", "TARGET: where they go")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names, or patterns of names")
    parser.add_argument(
        "--delete",
        action="store_true",
        help="remove from TARGET what matches a PATTERN and is not in SOURCE; for chunks there is gc",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATTERN",
        help="but not what matches this; repeatable",
    )
    add_source_store(parser)
    add_options(parser, *COPYING, *RUNNING, but="--delete")


def add_source_store(parser: Parser) -> None:
    """The option of both verbs."""
    parser.add_argument("--source-store", metavar="PATH", help="chunk store of what is copied")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    if options.keep and not options.delete:
        raise WrongWords("--keep says what --delete leaves; without that nothing is removed")
    origin, end = inside(options.source, "x.caidx"), inside(options.target, "x.caidx")
    if not is_remote(options.source) and not os.path.isdir(path := local_path(options.source)):
        raise FileError(path, "mirror", "it is not a directory")
    if not is_remote(options.target) and not options.dry_run:
        _make_directory(local_path(options.target))
    source, target = open_directory(options.source), open_directory(options.target)
    chunks, store = stores(options, origin, end)
    with (
        writing(None if options.dry_run else store, "mirror", wait=options.wait, tell=warn) as lease,
        progress_line(options, "mirroring", fetched="fetched") as line,
    ):
        say = line.above(warn)

        def failed(name: bytes, error: CasyncError) -> None:
            say(f"{show_path(name)} is not copied: {error}")

        result = mirror(
            source,
            target,
            chunks,
            store,
            options.patterns or INDEXES,
            delete=options.delete,
            keep=options.keep,
            dry=options.dry_run,
            jobs=jobs_at(options, options.store or end),
            lease=lease,
            on_file=Telling(options, line),
            on_failure=failed,
            progress=line.callback,
        )
    tell(result, options)
    return 1 if result.failed else 0


def _make_directory(path: bytes) -> None:
    """Make the target, if it is not there. :raises FileError: it cannot be made"""
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise FileError(path, "create", error) from error


def stores(options: argparse.Namespace, source: str, target: str) -> tuple[ChunkSource, Store]:
    """Where the chunks of an index come from, and where they go.

    :param source: location of an index; so is `target`
    """
    chunks = open_source(options.source_store or side_store(source), options.extra_store)
    store = open_chunk_store(
        options.store or side_store(target), Compression.parse(options.compression), options.layout
    )
    if isinstance(store, Rereading):
        store.verify_reused = options.verify_reused
    return chunks, store


class Telling:
    """Says what becomes of files, where that is wanted."""

    def __init__(self, options: argparse.Namespace, line: ProgressLine) -> None:
        self._wanted = (options.dry_run or options.verbose) and not options.json
        self._line = line
        self._dry = options.dry_run

    def __call__(self, what: str, name: bytes) -> None:
        """Take a file."""
        if self._wanted:
            self._line.clear()
            print(f"Would {what} {show_path(name)}" if self._dry else f"{what} {show_path(name)}")


def tell(result: MirrorResult, options: argparse.Namespace) -> None:
    """Say in one line what was done."""
    if options.json:
        print(json.dumps({**({"dry_run": True} if options.dry_run else {}), **asdict(result)}))
        return
    size = human_size(result.fetched_bytes)
    if options.dry_run:
        print(f"Would fetch {result.fetched} of {result.chunks} chunks, {result.fetched_bytes} bytes")
        return
    if options.quiet:
        return
    deleted = f", deleted {result.deleted}" if result.deleted else ""
    print(
        f"Copied {result.copied} of {result.files} files{deleted}; "
        f"{result.fetched} of {result.chunks} chunks fetched, {size}"
    )
