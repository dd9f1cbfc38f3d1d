"""What callers of the library give - paths, locators, objects that are open already, or nothing - and what it means.

Names without a suffix and without a kind are not guessed, and no environment variable is looked at: that is for the
command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from casync_compat.compression import Compression
from casync_compat.errors import NotFound, UsageError, show_path
from casync_compat.index import Index
from casync_compat.kinds import Kind
from casync_compat.locations import (
    Configuration,
    PathType,
    Settings,
    default_store,
    group_members,
    is_remote,
    local_path,
    name_of,
    open_input,
    open_source,
    open_store,
)
from casync_compat.store.base import ChunkSink, ChunkSource
from casync_compat.streams.trees import Tree

__all__ = [
    "NO_FILE",
    "IndexLocation",
    "SinkLocation",
    "SourceLocation",
    "beside",
    "is_directory",
    "kind_of",
    "open_tree",
    "path_list",
    "settings_for",
    "sink_of",
    "source_of",
    "tree_kind",
]

SourceLocation: TypeAlias = ChunkSource | PathType | Sequence[ChunkSource | PathType]
"""A store to read chunks from: open already, or its path or locator; several, the first of which is asked first."""
SinkLocation: TypeAlias = ChunkSink | PathType
"""A store to write chunks to: open already, or its path or locator."""
IndexLocation: TypeAlias = Index | PathType
"""An index: parsed already, or its path or locator."""

NO_FILE = b"the index"
"""What messages call an index that came as an object."""


def settings_for(
    compression: Compression = Compression.ZSTD,
    warn: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """How locations are opened.

    :param warn: called with each warning; None drops them
    :param environ: variables; configuration files are where these say, and without them nowhere
    """
    warn = warn or _ignore
    if not environ:
        return Settings({}, compression, warn)
    configuration = Configuration(environ, warn)
    return Settings(environ, compression, warn, configuration, general=configuration.general)


def _ignore(text: str) -> None:
    """Nobody wants warnings."""


def kind_of(source: PathType, kind: Kind | None) -> Kind:
    """What a name stands for. :raises UsageError: its suffix does not say, and nobody does"""
    name = name_of(source)
    found = kind or Kind.of_suffix(name)
    if found is None:
        raise UsageError(
            f"{show_path(name)}: the name ends in none of .catar, .caidx and .caibx; say its kind"
        )
    return found


def path_list(given: PathType | Iterable[PathType]) -> tuple[bytes, ...]:
    """Paths as the verbs take them; a single one is a list of one, and not of its letters."""
    paths = (given,) if isinstance(given, (str, bytes, os.PathLike)) else given
    return tuple(os.fsencode(path) for path in paths)


def is_directory(source: PathType) -> bool:
    """Whether there is a directory of this name."""
    return not is_remote(source) and os.path.isdir(name_of(source))


def tree_kind(source: PathType, kind: Kind | None) -> Kind:
    """The kind of a tree; one without a suffix may be a directory.

    :raises NotFound: there is nothing of this name
    :raises UsageError: it is no tree, or does not say
    """
    if kind is None and is_directory(source):
        return Kind.DIRECTORY
    name = name_of(source)
    if kind is None and not is_remote(source) and not os.path.lexists(name):
        raise NotFound.at(name)
    return kind_of(source, kind)


def open_tree(
    source: PathType,
    kind: Kind,
    store: SourceLocation | None,
    *,
    jobs: int | None = None,
    contents: bool = True,
) -> Tree:
    """A tree of this kind, opened. :param contents: whether payloads will be asked for"""
    settings = settings_for()
    chunks = source_of(store, source, settings) if kind is Kind.ARCHIVE_INDEX else None
    return Tree(kind, open_input(source, settings), chunks, jobs=jobs, contents=contents)


def beside(index: IndexLocation, settings: Settings) -> PathType:
    """Where an index's chunks are when nobody says. :raises UsageError: it is no file"""
    if isinstance(index, Index):
        raise UsageError("an index that is no file has no store beside it; say which")
    return default_store(index, settings)


def source_of(store: SourceLocation | None, index: IndexLocation, settings: Settings) -> ChunkSource:
    """The store, or stores, to read an index's chunks from, wherever the process changes to meanwhile.

    :raises UsageError: a list of stores has none
    """
    given: list[ChunkSource | PathType]
    if isinstance(store, (list, tuple)):
        given = list(store)
    else:
        given = [beside(index, settings) if store is None else cast("ChunkSource | PathType", store)]
    if not given:
        raise UsageError("no store was given")
    first, *others = map(_absolute, given)
    return open_source(first, others, settings)


def _absolute(place: ChunkSource | PathType) -> ChunkSource | PathType:
    if not isinstance(place, (str, bytes, os.PathLike)):
        return place
    members = group_members(place) if isinstance(place, str) else []
    if len(members) > 1:
        return "|".join(os.fsdecode(_absolute_path(member)) for member in members)
    return _absolute_path(place)


def _absolute_path(place: PathType) -> PathType:
    return place if is_remote(place) else os.path.abspath(local_path(place))


def sink_of(store: SinkLocation | None, index: PathType, settings: Settings) -> ChunkSink:
    """The store to write chunks to, beside the index when nobody says."""
    if store is None or isinstance(store, (str, bytes, os.PathLike)):
        return open_store(default_store(index, settings) if store is None else store, settings)
    return store
