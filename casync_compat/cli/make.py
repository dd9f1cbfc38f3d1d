"""`pycasync make`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from casync_compat.chunker import ChunkSizes
from casync_compat.cli._common import arguments, feature_flags, id_shift, is_stream
from casync_compat.cli._location import default_store, local_path, open_store
from casync_compat.cli._progress import ProgressLine
from casync_compat.compression import Compression
from casync_compat.errors import UsageError
from casync_compat.kinds import Kind
from casync_compat.make import MakeResult, make_archive, make_archive_index, make_blob_index
from casync_compat.progress import ProgressCallback
from catar.flags import flag_names

_OUTPUTS = (Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX)


def _output_kind(options: argparse.Namespace, output: str | None, source: str | None) -> Kind:
    if options.what is not None:
        kind = Kind.parse(options.what)
        if kind not in _OUTPUTS:
            raise UsageError(
                f"--what={kind.value} cannot be made; choose archive, archive-index or blob-index"
            )
        return kind
    if output is not None and output != "-":
        kind_ = Kind.of_suffix(local_path(output))
        if kind_ is None:
            raise UsageError(
                f"{output}: the file to make must end in .catar, .caidx or .caibx, or use --what"
            )
        return kind_
    if source is None or os.path.isdir(local_path(source)):
        return Kind.ARCHIVE
    return Kind.BLOB_INDEX


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    output, source = arguments(options)
    kind = _output_kind(options, output, source)
    with ProgressLine("making", wanted=not (options.no_progress or options.verbose)) as line:
        result = _make(options, kind, output, source, line.callback)
    to = sys.stderr if is_stream(output) else sys.stdout
    if options.json:
        print(json.dumps(_summary(kind, output, result)), file=to)
    elif result.digest is not None:
        print(result.digest, file=to)
    if options.verbose:
        _report(result)
    return 0


def _make(
    options: argparse.Namespace,
    kind: Kind,
    output: str | None,
    source: str | None,
    progress: ProgressCallback | None,
) -> MakeResult:
    flags = feature_flags(options, default=0) if kind is Kind.BLOB_INDEX else feature_flags(options)
    out = None if is_stream(output) else local_path(str(output))
    sizes = ChunkSizes.parse(options.chunk_size)
    digest = options.stream_digest
    if options.verbose:
        _announce(flags, sizes, kind)
    if kind is Kind.ARCHIVE:
        tree = local_path(source or ".")
        return make_archive(
            out, tree, feature_flags=flags, shift=id_shift(options), stream_digest=digest, progress=progress
        )
    locator = options.store or default_store(None if is_stream(output) else output)
    store = open_store(locator, Compression.parse(options.compression))
    if kind is Kind.ARCHIVE_INDEX:
        return make_archive_index(
            out,
            local_path(source or "."),
            store,
            feature_flags=flags,
            sizes=sizes,
            shift=id_shift(options),
            stream_digest=digest,
            jobs=options.jobs,
            skip=[store.path],
            progress=progress,
        )
    blob = None if is_stream(source) else local_path(str(source))
    return make_blob_index(
        out,
        blob,
        store,
        feature_flags=flags,
        sizes=sizes,
        stream_digest=digest,
        jobs=options.jobs,
        progress=progress,
    )


def _summary(kind: Kind, output: str | None, result: MakeResult) -> dict[str, Any]:
    data: dict[str, Any] = {
        "output": "-" if is_stream(output) else output,
        "kind": kind.value,
        "digest": str(result.digest) if result.digest is not None else None,
        "size": result.size,
        "entries": result.entries,
    }
    if result.chunks is not None:
        counts = result.chunks
        data["chunks"] = {
            "total": counts.total,
            "new": counts.new,
            "reused": counts.reused,
            "new_bytes": counts.new_bytes,
            "stored_bytes": counts.stored_bytes,
        }
    return data


def _announce(flags: int, sizes: ChunkSizes, kind: Kind) -> None:
    if kind.is_index:
        print(f"Selected chunk sizes: min={sizes.min}..avg={sizes.avg}..max={sizes.max}", file=sys.stderr)
    if kind is not Kind.BLOB_INDEX:
        print("Using feature flags:", " ".join(flag_names(flags)), file=sys.stderr)


def _report(result: MakeResult) -> None:
    print(f"Archive size: {result.size}B", file=sys.stderr)
    counts = result.chunks
    if counts is not None and counts.total:
        share = 100 * counts.reused // counts.total
        print(f"Number of chunks: {counts.total}", file=sys.stderr)
        print(f"Reused (non-cached) chunks: {counts.reused} ({share}%)", file=sys.stderr)
        print(f"Effective average chunk size: {result.size // counts.total}B", file=sys.stderr)
