"""`pycasync digest`."""

from __future__ import annotations

import argparse
import json
import os

from casync_compat.cli._common import (
    archive_errors,
    feature_flags,
    id_shift,
    input_kind,
    is_stream,
    open_tree,
    source_for,
    tell_losses,
)
from casync_compat.cli._location import local_path, open_input, warn
from casync_compat.cli._options import READING, TREES, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.cli._progress import progress_line
from casync_compat.errors import UsageError
from casync_compat.fs.losses import Losses
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import digest_of_flags
from casync_compat.kinds import Kind
from casync_compat.progress import ProgressCallback
from casync_compat.streams.inputs import load_index, path_of
from casync_compat.verbs.digest import digest_index, digest_tree_part
from casync_compat.verbs.make import MakeOptions, digest_blob, digest_tree

EXAMPLES = (
    ("pycasync digest /etc", "what `make` would print"),
    ("pycasync digest etc.caidx ssh", "of a part: the same as of the directory it was made from"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("[INPUT] [PATH INSIDE]")
    add_positional(parser, "input", "what to digest; default .", "?")
    add_positional(parser, "inside", "path inside the archive", "?")
    add_options(
        parser,
        *READING,
        *TREES,
        "--digest",
        "--exclude-nodump",
        "--exclude-submounts",
        "--exclude-file",
        "--json",
        "--jobs",
        "--no-progress",
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, inside = options.input, options.inside
    kind = input_kind(options, source) or Kind.BLOB
    if inside and kind not in (Kind.ARCHIVE, Kind.ARCHIVE_INDEX):
        raise UsageError("a path inside is only looked up in archives")
    with archive_errors(source), progress_line(options, "digesting") as line:
        losses = Losses(line.above(warn))
        digest, algorithm = _digest(options, kind, source, inside, losses, line.callback)
    if options.json:
        print(json.dumps({"digest": str(digest), "algorithm": algorithm.value, "kind": kind.value}))
    else:
        print(digest)
    return tell_losses(losses)


def _digest(
    options: argparse.Namespace,
    kind: Kind,
    source: str | None,
    inside: str | None,
    losses: Losses,
    progress: ProgressCallback | None,
) -> tuple[ChunkId, Digest]:
    if kind is Kind.DIRECTORY:
        flags = feature_flags(options)
        path = local_path(source or ".")
        digest = digest_tree(
            path, MakeOptions(flags, shift=id_shift(options)), losses=losses, progress=progress
        )
        return digest, digest_of_flags(flags)
    if kind is Kind.BLOB:
        algorithm = Digest.parse(options.digest)
        blob = None if is_stream(source) else open_input(str(source))
        return digest_blob(blob, algorithm, losses=losses, progress=progress), algorithm
    if kind is Kind.BLOB_INDEX:
        file = None if is_stream(source) else open_input(str(source))
        store = source_for(options, source)
        index = load_index(file, store)
        # casync digests blobs with SHA-512/256 whatever the index says; so the number can be compared with its.
        algorithm = Digest.SHA512_256
        return digest_index(index, store, algorithm, path=path_of(file), progress=progress), algorithm
    with open_tree(options, source) as tree:
        return digest_tree_part(tree, os.fsencode(inside or ""), progress=progress)
