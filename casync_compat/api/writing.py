"""The verbs that write what others read: `make` and `extract`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from casync_compat.api.given import (
    SinkLocation,
    SourceLocation,
    kind_of,
    path_list,
    settings_for,
    sink_of,
    source_of,
)
from casync_compat.api.opened import InsidePath
from casync_compat.compression import Compression
from casync_compat.errors import UsageError, naming, show_path
from casync_compat.kinds import Kind
from casync_compat.locations import PathType, index_output, is_remote, local_path, name_of, open_input
from casync_compat.progress import ProgressCallback
from casync_compat.store.base import OnDisk
from casync_compat.store.dry import DryStore
from casync_compat.streams.archive import MakeResult
from casync_compat.streams.extraction import ExtractOptions, ExtractResult
from casync_compat.streams.inputs import path_of
from casync_compat.streams.leasing import writing
from casync_compat.verbs.extract import extract_archive
from casync_compat.verbs.extract_blob import extract_blob
from casync_compat.verbs.make import MakeOptions, make_archive, make_archive_index, make_blob_index

__all__ = ["extract", "make"]


def make(
    output: PathType,
    source: PathType,
    *,
    kind: Kind | None = None,
    store: SinkLocation | None = None,
    options: MakeOptions | None = None,
    compression: Compression = Compression.ZSTD,
    wait: float | None = None,
    warn: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Make an archive (.catar) or its index (.caidx) of a directory, or a blob's index (.caibx) of a file or device.

    :param kind: None takes it from the suffix of `output`
    :param store: where chunks go; None for `default.castr` beside the index. A plain archive has none
    :param options: what is recorded, how it is cut; None for casync's defaults
    :param compression: of new chunks, unless `store` is one that is open already
    :param wait: seconds to wait for a `gc` that is at work in the store; None for a minute
    :param warn: called with each warning; None drops them
    :param progress: called about ten times a second
    :returns: digest, size in bytes, counts, and the index
    :raises NotFound: `source` is missing
    :raises FileError: something cannot be read or written
    :raises UsageError: the options contradict one another, or the kind cannot be told
    :raises StoreBusy: (of `casync_compat.store.leases`) the `gc` does not end
    :raises CasyncError: whichever it is, nothing appears at `output` then

    >>> made = casync.make("etc.caidx", "etc", options=casync.MakeOptions(sizes=casync.ChunkSizes(1024, 4096, 16384)))
    >>> made.entries, len(made.index)
    (4, 1)
    >>> store = casync.MemoryStore()
    >>> casync.make("disk.caibx", "disk.img", store=store).size
    300000
    """
    what = kind_of(output, kind)
    options = _with_bytes(options or MakeOptions())
    settings = settings_for(compression, warn)
    src = os.fsencode(source)
    if what is Kind.ARCHIVE:
        here = options.dry_run or not is_remote(output)
        with (
            nullcontext(os.fsencode(output)) if here else index_output(output, settings) as out,
            naming(out),
        ):
            return make_archive(out, src, options, warn=warn, progress=progress)
    if not what.is_index:
        raise UsageError(f"{show_path(name_of(output))}: a {what.value} cannot be made")
    chunks = sink_of(store, output, settings)
    if options.dry_run:
        chunks = DryStore(chunks)
    with (
        writing(chunks, "make", wait=wait, tell=warn) as lease,
        nullcontext(_local(output)) if options.dry_run else index_output(output, settings) as path,
        naming(path),
    ):
        if what is Kind.BLOB_INDEX:
            return make_blob_index(path, src, chunks, options, lease=lease, warn=warn, progress=progress)
        if isinstance(chunks, OnDisk):
            options = replace(options, skip=(*options.skip, *chunks.own_paths))
        return make_archive_index(path, src, chunks, options, lease=lease, warn=warn, progress=progress)


def _local(output: PathType) -> bytes | None:
    """The path of an output; None where it is no local file."""
    return None if is_remote(output) else local_path(output)


def _with_bytes(options: MakeOptions) -> MakeOptions:
    """The same options, with paths that may have been given as `str` or `os.PathLike`."""
    cache = None if options.cache is None else os.fsencode(options.cache)
    return replace(options, skip=path_list(options.skip), cache=cache)


def extract(
    source: PathType,
    output: PathType,
    *,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
    path: InsidePath = b"",
    options: ExtractOptions | None = None,
    warn: Callable[[str], None] | None = None,
    progress: ProgressCallback | None = None,
) -> ExtractResult:
    """Extract an archive or its index to a directory, or a blob's index to a file.

    :param output: the directory, which is made, or updated in place when it is there; or the file
    :param kind: None takes it from the suffix of `source`
    :param store: where chunks are; None for `default.castr` beside the index
    :param path: extract only this node of an archive, as `output`/NAME
    :param options: what is restored and how, and which seeds to take data from
    :param warn: called with each warning; None drops them
    :param progress: called about ten times a second
    :returns: size in bytes, and counts
    :raises NotFound: `source` is missing, or `path` in it
    :raises FormatError: `source` or a chunk is malformed
    :raises StoreError: a chunk cannot be had
    :raises FileError: something cannot be read or written
    :raises CasyncError: whichever it is, no file is left half-written; what was complete until then stays

    >>> casync.extract("etc.caidx", "copy", path="ssh/sshd_config").entries
    1
    """
    what = kind_of(source, kind)
    out, inside = os.fsencode(output), os.fsencode(path)
    shown = show_path(name_of(source))
    if what not in (Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX):
        raise UsageError(f"{shown}: a {what.value} cannot be extracted")
    if what is Kind.BLOB_INDEX and inside.strip(b"/"):
        raise UsageError(f"{shown}: a blob has no paths inside")
    options = options or ExtractOptions()
    options = replace(options, seeds=path_list(options.seeds))
    settings = settings_for(warn=warn)
    tell = settings.warn
    file = open_input(source, settings)
    chunks = source_of(store, source, settings)
    with naming(path_of(file)):
        if what is Kind.BLOB_INDEX:
            return extract_blob(file, out, chunks, options=options, warn=tell, progress=progress)
        return extract_archive(
            what, file, out, chunks, inside=inside, options=options, warn=tell, progress=progress
        )
