"""`pycasync make`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from casync_compat.chunker import ChunkSizes
from casync_compat.cli._common import (
    INCOMPLETE,
    feature_flags,
    id_shift,
    is_stream,
    jobs_for,
    left_out_json,
    named_kind,
    output_is_open,
)
from casync_compat.cli._estimate import Estimate
from casync_compat.cli._location import (
    cache_home,
    default_store,
    index_output,
    is_remote,
    layout_of,
    local_path,
    name_of,
    open_chunk_store,
    shown_name,
    warn,
)
from casync_compat.cli._options import NETWORK, STORE_HELP, TREES, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli._preview import check_output, dry_output, tell_preview
from casync_compat.cli._progress import ProgressLine, counted, human_size, progress_line
from casync_compat.compression import Compression
from casync_compat.errors import UsageError, show_path
from casync_compat.fs.losses import listed
from casync_compat.kinds import Kind
from casync_compat.locations import in_registry
from casync_compat.progress import ProgressCallback
from casync_compat.store.base import Rereading
from casync_compat.store.dry import DryStore
from casync_compat.streams.archive import MakeResult
from casync_compat.streams.leasing import writing
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index, make_blob_index
from catar.flags import flag_names

EXAMPLES = (
    ("pycasync make etc.caidx /etc", "index etc.caidx, chunks in default.castr beside it"),
    ("pycasync make etc.catar /etc", "one plain archive"),
    ("pycasync make disk.caibx disk.img --store=/srv/chunks", "a disk image"),
    ("pycasync make -c home.caidx /home", "read only what changed since the last time"),
    ("pycasync make --with=unix --without=sockets x.catar .", "record less"),
)

_OUTPUTS = (Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX)


_STATUS = (
    "What vanishes, changes or cannot be read meanwhile is told, left out or filled up with zeros, and all the rest is "
    "archived. The exit status is 0 when everything is archived as it was, 1 when that failed, and 3 when all is there "
    "but for what is listed."
)


def _output_kind(options: argparse.Namespace, output: str | None, source: str | None) -> Kind:
    if (kind := named_kind(options)) is not None:
        if kind not in _OUTPUTS:
            raise WrongWords(
                f"--what={kind.value} cannot be made; choose archive, archive-index or blob-index"
            )
        return kind
    if output is not None and output != "-":
        kind_ = Kind.of_suffix(name_of(output))
        if kind_ is None:
            raise WrongWords(
                f"{show_path(shown_name(output))}: the file to make must end in .catar, .caidx or .caibx, or use --what"
            )
        return kind_
    if source is None or os.path.isdir(local_path(source)):
        return Kind.ARCHIVE
    return Kind.BLOB_INDEX


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("[OUTPUT] [INPUT]", f"Prints the digest of the archive or blob. {STORE_HELP} {_STATUS}")
    add_positional(parser, "output", "output: .catar, .caidx or .caibx; - or nothing: standard output", "?")
    add_positional(parser, "input", "input; default .", "?")
    add_options(
        parser,
        *TREES,
        *NETWORK,
        "--store",
        "--chunk-size",
        "--digest",
        "--compression",
        "--layout",
        "--exclude-nodump",
        "--exclude-submounts",
        "--exclude-file",
        "--uid-shift",
        "--uid-range",
        "--strict",
        "--json",
        "--jobs",
        "--stream-digest",
        "--verify-reused",
        "--cache",
        "--cache-auto",
        "--cache-check",
        "--dry-run",
        "--wait",
        "--no-progress",
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    output, source = options.output, options.input
    kind = _output_kind(options, output, source)
    if is_stream(output) and sys.stdout.isatty() and not options.dry_run:
        raise UsageError(
            "standard output is a terminal, and archives are no text; "
            "name the file to make, as in `pycasync make x.caidx DIRECTORY`"
        )
    with progress_line(options, "making") as line, _estimate(kind, output, source, line) as guess:
        progress = line.callback if kind is Kind.BLOB_INDEX else guess.callback
        result = _make(options, kind, output, source, line.above(warn), progress)
        if not options.dry_run:
            _tell_made(line, output, result)
    to = sys.stderr if is_stream(output) else sys.stdout
    if options.dry_run and not options.json:
        tell_preview(output, result, to)
    elif not (is_stream(output) or output_is_open()):
        pass  # the archive is what was asked for, and it is there
    elif options.json:
        print(json.dumps(_summary(kind, output, result, options.dry_run)), file=to)
    elif result.digest is not None:
        print(result.digest, file=to)
    if options.verbose:
        _report(result)
    if not options.quiet and (text := _excluded(result)):
        print(f"pycasync: {text}", file=sys.stderr)
    if result.left_out:
        warn(f"not archived as it was: {listed(result.left_out)}")
        return INCOMPLETE
    return 0


def _estimate(kind: Kind, output: str | None, source: str | None, line: ProgressLine) -> Estimate:
    """A guess of how large an archive will be; of a blob that is known."""
    here = output is not None and not is_stream(output) and not is_remote(output) and kind.is_index
    last = local_path(output) if here and output is not None else None
    wanted = line.callback if kind is not Kind.BLOB_INDEX else None
    return Estimate(local_path(source or "."), last, wanted)


def _make(
    options: argparse.Namespace,
    kind: Kind,
    output: str | None,
    source: str | None,
    tell: Callable[[str], None],
    progress: ProgressCallback | None,
) -> MakeResult:
    flags = feature_flags(options, default=0) if kind is Kind.BLOB_INDEX else feature_flags(options)
    named = None if is_stream(output) else output
    sizes = ChunkSizes.parse(options.chunk_size)
    cache = _cache(options, kind)
    digest = options.stream_digest and cache is None
    if options.verbose:
        _announce(flags, sizes, kind)
    dry = options.dry_run
    how = MakeOptions(
        flags,
        sizes,
        id_shift(options),
        digest,
        cache=cache,
        cache_certain=options.cache_check == "strict",
        strict=options.strict,
        dry_run=dry,
    )
    if kind is Kind.ARCHIVE:
        tree = local_path(source or ".")
        if in_registry(named):
            raise WrongWords(f"{named}: a registry takes indexes, not archives; make a .caidx")
        if dry:
            check_output(None if named is None or is_remote(named) else local_path(named))
            return make_archive(None, tree, how, warn=tell, progress=progress)
        with index_output(named) as out:
            return make_archive(out, tree, how, warn=tell, progress=progress)
    store = open_chunk_store(
        options.store or default_store(named), Compression.parse(options.compression), options.layout
    )
    if isinstance(store, Rereading):
        store.verify_reused = options.verify_reused
    if options.verbose:
        print(f"Layout of the store: {layout_of(store).value}", file=sys.stderr)
    how = replace(how, jobs=jobs_for(options, output), skip=store.own_paths)
    sink = DryStore(store) if dry else store
    with (
        writing(sink, "make", wait=options.wait, tell=tell) as lease,
        nullcontext(dry_output(named)) if dry else index_output(named) as out,
    ):
        if kind is Kind.ARCHIVE_INDEX:
            return make_archive_index(
                out, local_path(source or "."), sink, how, lease=lease, warn=tell, progress=progress
            )
        blob = None if is_stream(source) else local_path(str(source))
        return make_blob_index(out, blob, sink, how, lease=lease, warn=tell, progress=progress)


def _cache(options: argparse.Namespace, kind: Kind) -> bytes | None:
    """The directory of caches, None when none is to be used."""
    if options.cache is None and not options.cache_auto:
        return None
    if kind is Kind.BLOB_INDEX:
        raise UsageError("--cache remembers trees; a blob is read anew each time, so leave it out")
    if options.cache is not None:
        return local_path(options.cache)
    home = cache_home()
    if home is None:
        raise UsageError("there is no home directory to keep a cache in; use --cache=PATH")
    return home


def _summary(kind: Kind, output: str | None, result: MakeResult, dry_run: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "output": "-" if is_stream(output) or output is None else os.fsdecode(shown_name(output)),
        "kind": kind.value,
        "digest": str(result.digest) if result.digest is not None else None,
        "size": result.size,
        "entries": result.entries,
        "left_out": left_out_json(result.left_out),
        **({"dry_run": True} if dry_run else {}),
    }
    if result.excluded is not None:
        data["excluded"] = asdict(result.excluded)
    if result.chunks is not None:
        counts = result.chunks
        data["chunks"] = {
            "total": counts.total,
            "new": counts.new,
            "reused": counts.reused,
            "new_bytes": counts.new_bytes,
            "stored_bytes": counts.stored_bytes,
        }
        if result.cached is not None:
            data["chunks"]["cached"] = result.cached
    return data


def _tell_made(line: ProgressLine, output: str | None, result: MakeResult) -> None:
    name = "standard output" if is_stream(output) or output is None else show_path(shown_name(output))
    new = ""
    if (counts := result.chunks) is not None:
        new = f"{counts.new} of {counted(counts.total, 'chunk')} new: {human_size(counts.new_bytes)}"
        new += f", {human_size(counts.stored_bytes)} stored"
    entries = counted(result.entries, "entry", "entries") if result.entries else ""
    line.tell(f"made {name}: {human_size(result.size)}", entries, new)


def _announce(flags: int, sizes: ChunkSizes, kind: Kind) -> None:
    if kind.is_index:
        print(f"Selected chunk sizes: min={sizes.min}..avg={sizes.avg}..max={sizes.max}", file=sys.stderr)
    if kind is not Kind.BLOB_INDEX:
        print("Using feature flags:", " ".join(flag_names(flags)), file=sys.stderr)


def _excluded(result: MakeResult) -> str | None:
    """What was kept out on purpose, in one line."""
    if result.excluded is None:
        return None
    words = {"nodump": "by the nodump flag", "exclude_file": "by .caexclude", "submounts": "as mount points"}
    parts = [f"{count} {words[why]}" for why, count in asdict(result.excluded).items() if count]
    return f"kept out of the archive: {', '.join(parts)}" if parts else None


def _report(result: MakeResult) -> None:
    print(f"Archive size: {result.size}B", file=sys.stderr)
    counts = result.chunks
    if counts is not None and counts.total:
        reused = counts.reused - (result.cached or 0)
        share = 100 * reused // counts.total
        print(f"Number of chunks: {counts.total}", file=sys.stderr)
        print(f"Reused (non-cached) chunks: {reused} ({share}%)", file=sys.stderr)
        print(f"Effective average chunk size: {result.size // counts.total}B", file=sys.stderr)
        if result.cached is not None:
            misses = counts.total - result.cached
            print(f"Cache hits: {result.cached}, misses: {misses}", file=sys.stderr)
