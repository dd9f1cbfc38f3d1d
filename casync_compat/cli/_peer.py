"""What `pycasync pull` and `pycasync push` have in common: casync's protocol on standard input and output.

Whatever goes wrong is told to the other side before this one fails with it.
"""

from __future__ import annotations

import argparse
import errno
import os
from functools import partial

from casync_compat import locations
from casync_compat.cli import _location
from casync_compat.cli._asked import Wish, asked
from casync_compat.cli._options import NETWORK, add_options
from casync_compat.cli._parser import Parser
from casync_compat.cli._types import parse_rate
from casync_compat.errors import CasyncError, FileError, FormatError, StoreError, UsageError
from casync_compat.locations import PathType
from casync_compat.locations.beneath import Root
from casync_compat.locations.shown import without_login
from casync_compat.net.limiter import Limiter
from casync_compat.protocol import Terms
from casync_compat.store.base import ChunkSource
from casync_compat.store.pipe import Pipe
from casync_compat.verbs.pull import offered, serve_pull
from casync_compat.verbs.push import serve_push
from catar.errors import CatarError

__all__ = ["add_arguments", "serve"]


def add_arguments(parser: Parser, *more: str) -> None:
    """What both take, and options of the table beyond that."""
    parser.add_argument("words", nargs="*", metavar="- ARCHIVE INDEX STORE", help="- for what there is not")
    parser.add_argument("--root", metavar="DIR", help="serve only what is beneath it")
    parser.add_argument("--read-only", action="store_true", help="refuse to be pushed to")
    add_options(parser, "--store", "--extra-store", *NETWORK, "--jobs", "--dry-run", *more)


def serve(verb: str, options: argparse.Namespace) -> int:
    """Serve one client. Returns the exit status."""
    if not options.dry_run and (os.isatty(0) or os.isatty(1)):
        raise UsageError(f"{verb} speaks casync's protocol with a program, not with people at a terminal")
    wanted = asked(verb, options.words, os.environ)
    if options.dry_run:
        _serve(verb, wanted, options, None)
        return 0
    limiter = _limiter(options, wanted)
    given = offered(archive=wanted.archive, index=wanted.index, store=wanted.stores or None)
    if wanted.verb == "push":  # each flag for writing is the next one
        given = Terms(given << 1)
    with Pipe(0, 1, given, limiter) as pipe:
        try:
            _serve(verb, wanted, options, pipe)
        except (CasyncError, CatarError, OSError, MemoryError) as error:
            pipe.abort(_number(error), without_login(str(error)))
            raise
    return 0


def _limiter(options: argparse.Namespace, wanted: Wish) -> Limiter | None:
    rates = [options.rate_limit_bps] if options.rate_limit_bps else []
    if wanted.rate is not None:
        try:
            rates.append(parse_rate(wanted.rate))
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"--rate-limit-bps: {error}") from error
    return Limiter(min(rates)) if rates else None


def _serve(verb: str, wanted: Wish, options: argparse.Namespace, pipe: Pipe | None) -> None:
    """:param pipe: None where only is to be tried what is named"""
    if wanted.verb == "push" and (verb == "pull" or options.read_only):
        raise FileError(
            os.fsencode(wanted.index or wanted.archive or wanted.stores[0]),
            "be pushed to",
            OSError(errno.EROFS, os.strerror(errno.EROFS)),
        )
    root = Root(options.root) if options.root is not None else None

    def place(name: str) -> PathType:
        return name if root is None else root.path(name)

    stores: list[PathType] = [place(name) for name in wanted.stores]
    if stores and options.store is not None:  # whoever has started this knows where chunks are
        stores = [options.store, *options.extra_store]
    archive, index = (None if name is None else place(name) for name in (wanted.archive, wanted.index))
    settings = _location.SETTINGS
    if wanted.verb == "pull":
        source: ChunkSource | None = None
        if stores:
            source = locations.open_source(stores[0], stores[1:], settings)
        files = [None if name is None else locations.open_input(name, settings) for name in (archive, index)]
        if pipe is not None:
            serve_pull(pipe, archive=files[0], index=files[1], source=source, jobs=options.jobs)
        return
    where = index if index is not None else archive
    store = locations.open_store(stores[0], settings) if stores else None
    others = [locations.open_source(store, (), settings) for store in stores[1:]]
    if pipe is None:
        return
    serve_push(
        pipe,
        partial(locations.index_output, where, settings),
        store=store,
        others=others,
        jobs=options.jobs,
        wait=options.wait,
        tell=_location.warn,
    )


def _number(error: Exception) -> int:
    """An error number that tells the other side what kind of thing went wrong."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, (FormatError, StoreError, CatarError)):
        return errno.EBADMSG
    return errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO
