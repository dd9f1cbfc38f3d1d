"""The verbs about indexes and the stores that they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from casync_compat.api.given import (
    IndexLocation,
    SinkLocation,
    SourceLocation,
    beside,
    kind_of,
    settings_for,
    sink_of,
    source_of,
)
from casync_compat.chunker import ChunkSizes
from casync_compat.compression import Compression
from casync_compat.errors import UsageError, naming, show_path
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.locations import PathType, index_output, input_path, name_of, open_index, open_input
from casync_compat.locations import open_store as _open_store
from casync_compat.progress import ProgressCallback
from casync_compat.store.base import Prunable, Store
from casync_compat.streams.archive import MakeResult
from casync_compat.streams.inputs import path_of
from casync_compat.streams.leasing import writing
from casync_compat.verbs.apply import ApplyResult, apply_delta
from casync_compat.verbs.convert_index import convert_index as _convert_index
from casync_compat.verbs.delta import DeltaResult, make_delta
from casync_compat.verbs.gc import GcResult, collect_garbage
from casync_compat.verbs.info import IndexInfo, describe

__all__ = ["apply", "convert_index", "delta", "gc", "info", "open_store"]


def open_store(
    where: PathType,
    *,
    compression: Compression = Compression.ZSTD,
    environ: Mapping[str, str] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Store:
    """Open a chunk store, to be given to several verbs.

    :param where: a directory, which the first chunk makes, or a locator as `oci+https://ghcr.io/me/store`
    :param compression: of new chunks
    :param environ: variables, `os.environ` say, from which a registry's login is taken (`DESYNC_OCI_USERNAME`, the
        files of docker and podman), `CASYNC_COMPRESSED_CHUNK_SUFFIX`, and where the files are that say how stores are
        reached (`PYCASYNC_CONFIG`, `HOME`); None for none
    :param warn: called with each warning, of a registry; None drops them
    :raises UsageError: the location is malformed, or of a kind that cannot be opened
    :raises CasyncError: it cannot be opened

    >>> chunks = casync.open_store("all.castr", compression=casync.Compression.NONE)
    >>> casync.make("etc2.caidx", "etc", store=chunks).chunks.new
    1
    """
    settings = settings_for(compression, warn, environ)
    return _open_store(where, settings)


def info(index: IndexLocation, *, store: SourceLocation | None = None) -> IndexInfo:
    """What an index says about itself, and how its chunks are spread over sizes.

    :param store: asked for each chunk whether it is there; None asks none
    :raises NotFound: `index` is missing
    :raises FormatError: it is no index
    :raises CasyncError: the index or the store cannot be read

    >>> about = casync.info("disk.caibx", store=store)
    >>> about.size, about.in_store == about.unique
    (300000, True)
    """
    settings = settings_for()
    chunks = None if store is None else source_of(store, index, settings)
    return describe(open_index(index, settings), chunks)


def gc(
    indexes: IndexLocation | Iterable[IndexLocation],
    *,
    store: Prunable | PathType | None = None,
    dry_run: bool = False,
    ignore_unnamed: bool = False,
    grace: float = 0.0,
    wait: float | None = None,
    on_chunk: Callable[[ChunkId], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> GcResult:
    """Remove from a store every chunk that is in none of the indexes.

    Name all indexes whose chunks are to stay. They are read before anything is removed, and once nobody else writes to
    the store.

    :param store: None for `default.castr` beside the first index
    :param dry_run: remove nothing, and tell what would be
    :param ignore_unnamed: remove also what is needed by index files in the directory that holds the store and not named
    :param grace: seconds; chunks that were written, or came here, later than so long ago stay
    :param wait: seconds to wait for others who write to the store; None for a minute
    :param on_chunk: called with each chunk before it is removed, also in a dry run
    :param warn: called with each warning; None drops them
    :raises UsageError: no index is given, so that everything would go
    :raises UnnamedIndexes: (of `casync_compat.verbs.gc`) such files would lose chunks; nothing is removed
    :raises StoreBusy: (of `casync_compat.store.leases`) others write to the store, and do not end; nothing is removed
    :raises CasyncError: an index cannot be read, or the store not be changed

    >>> result = casync.gc(["etc.caidx", "small.caidx"])
    >>> result.remaining == result.needed
    True
    """
    if isinstance(indexes, (Index, str, bytes, os.PathLike)):
        indexes = [indexes]
    places = tuple(indexes)
    if not places:
        raise UsageError("no index is given, so that every chunk would be removed")
    settings = settings_for()
    needed = (open_index(place, settings) for place in places)
    if store is None:
        store = beside(places[0], settings)
    chunks: Prunable = _open_store(store, settings) if isinstance(store, (str, bytes, os.PathLike)) else store
    return collect_garbage(
        chunks,
        needed,
        dry_run=dry_run,
        ignore_unnamed=ignore_unnamed,
        grace=grace,
        wait=wait,
        named=[os.fsencode(place) for place in places if isinstance(place, (str, bytes, os.PathLike))],
        on_chunk=on_chunk,
        tell=warn,
    )


def convert_index(
    source: PathType,
    output: PathType,
    *,
    kind: Kind | None = None,
    store: SourceLocation | None = None,
    output_store: SinkLocation | None = None,
    digest: Digest = Digest.SHA512_256,
    sizes: ChunkSizes | None = None,
    compression: Compression = Compression.ZSTD,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> MakeResult:
    """Write the content of an index as another index: with other chunk sizes, or another digest.

    :param kind: None takes it from the suffix of `source`
    :param store: where the chunks of `source` are; None for `default.castr` beside it
    :param output_store: where the new ones go; None for `default.castr` beside `output`
    :param digest: of the new chunk ids
    :param sizes: of the new chunks; None for casync's default
    :raises NotFound: `source` is missing
    :raises CasyncError: nothing appears at `output` then

    >>> casync.convert_index("etc.caidx", "small.caidx", sizes=casync.ChunkSizes(64, 256, 1024)).index.sizes.max
    1024
    """
    what = kind_of(source, kind)
    if not what.is_index:
        raise UsageError(f"{show_path(name_of(source))}: a {what.value} is not an index")
    settings = settings_for(compression)
    chunks, sink = source_of(store, source, settings), sink_of(output_store, output, settings)
    file = open_input(source, settings)
    with (
        writing(sink, "convert-index") as lease,
        index_output(output, settings) as out,
        naming(path_of(file)),
    ):
        assert out is not None
        return _convert_index(
            what,
            file,
            out,
            chunks,
            sink,
            digest=digest,
            sizes=sizes,
            jobs=jobs,
            lease=lease,
            progress=progress,
        )


def delta(
    bases: PathType | Iterable[PathType],
    target: PathType,
    output: PathType,
    *,
    store: SourceLocation | None = None,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> DeltaResult:
    """Make an update file: the chunks that an index has and others have not, for a place that has those others.

    :param bases: the indexes of what is there; none makes a file with all chunks
    :param target: the index that the update leads to
    :param output: the file to make
    :param store: where the chunks of `target` are; None for `default.castr` beside it
    :raises NotFound: an index is missing
    :raises UsageError: the indexes have different digests
    :raises CasyncError: nothing appears at `output` then

    >>> casync.delta("etc.caidx", "etc.caidx", "nothing.patch").chunks
    0
    """
    settings = settings_for()
    named = (bases,) if isinstance(bases, (str, bytes, os.PathLike)) else tuple(bases)
    with index_output(output, settings) as out:
        assert out is not None
        return make_delta(
            (name_of(target), open_index(target, settings)),
            [(name_of(base), open_index(base, settings)) for base in named],
            out,
            source_of(store, target, settings),
            jobs=jobs,
            progress=progress,
        )


def apply(
    patch: PathType,
    index: PathType,
    *,
    store: Store | PathType | None = None,
    compression: Compression = Compression.ZSTD,
    jobs: int | None = None,
    progress: ProgressCallback | None = None,
) -> ApplyResult:
    """Use an update file: put its chunks into a store that has all others, and write its index.

    :param index: the index to make
    :param store: None for `default.castr` beside `index`
    :raises BaseMissing: (of `casync_compat.verbs.apply`) the store lacks chunks that the update builds upon; nothing is
        written
    :raises FormatError: `patch` is damaged; nothing is written
    :raises CasyncError: nothing appears at `index` then

    >>> made = casync.delta([], "etc.caidx", "etc.patch")
    >>> casync.apply("etc.patch", "again.caidx").new
    0
    """
    settings = settings_for(compression)
    sink = _open_store(beside(index, settings) if store is None else store, settings)
    with writing(sink, "apply") as lease, index_output(index, settings) as out:
        assert out is not None
        return apply_delta(input_path(patch, settings), out, sink, lease=lease, jobs=jobs, progress=progress)
