"""Locations of indexes and archives, opened to be read, and indexes' to be written."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

from casync_compat.errors import NotFound
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.locations.forms import (
    default_store,
    in_files,
    in_peer,
    in_registry,
    is_remote,
    local_path,
    shown_name,
    split_url,
)
from casync_compat.locations.remote import open_files
from casync_compat.locations.settings import IndexPlace, PathType, Settings
from casync_compat.locations.shown import shown
from casync_compat.store.files import Files, StoredFile
from casync_compat.store.local import LocalFiles
from casync_compat.streams.inputs import Input, load_index

__all__ = ["index_location", "index_output", "input_path", "open_directory", "open_index", "open_input"]


def index_location(where: IndexPlace, settings: Settings) -> tuple[Files, bytes]:
    """An index's location taken apart: a place of files, and the name in it.

    :raises UsageError: the location is malformed, or of a kind that this version cannot open
    """
    if isinstance(where, tuple):
        return where
    if isinstance(where, str) and in_files(where):
        directory, file = split_url(where)
        return open_files(directory, settings), file
    if isinstance(where, str) and in_peer(where):
        from casync_compat.locations import peers  # lazily, as all that starts programs

        store = default_store(where, settings)
        return peers.index_files(
            where, store if isinstance(store, str) and in_peer(store) else None, settings
        )
    if not isinstance(where, str) or not in_registry(where):
        parent, name = os.path.split(local_path(where))
        return LocalFiles(parent or b"."), name
    from casync_compat.locations import registries  # lazily, as is all that knows registries

    return registries.index_files(where, settings)


def open_directory(where: PathType, settings: Settings) -> Files:
    """The place of files that a location of a directory, of indexes say, names.

    :raises UsageError: the location is malformed, or of a kind that this version cannot open
    """
    if isinstance(where, str) and is_remote(where):
        if in_files(where):
            return open_files(where, settings)
        return index_location(f"{where.rstrip('/')}/-", settings)[0]
    return LocalFiles(local_path(where))


def open_index(where: IndexPlace | Index, settings: Settings) -> Index:
    """The index at a location. One that was read already is given back.

    :raises CasyncError: it cannot be read, or is no index
    """
    return where if isinstance(where, Index) else load_index(open_input(where, settings))


def open_input(where: IndexPlace, settings: Settings) -> Input:
    """A file to read, an index or an archive. Nothing is read here of what lies in a place of files.

    :raises UsageError: the location is malformed, or of a kind that this version cannot open
    """
    if isinstance(where, tuple):
        return StoredFile(*where)
    if isinstance(where, str) and (in_files(where) or in_peer(where)):
        return StoredFile(*index_location(where, settings), shown_name(where))
    return input_path(where, settings)


def input_path(where: IndexPlace, settings: Settings) -> bytes:
    """The path of a file to read. An index that is no local file is fetched into a temporary one, which goes at exit.

    :raises CasyncError: it cannot be fetched
    """
    if isinstance(where, tuple):
        return settings.shared.keep(os.path.basename(where[1]), _content(*where))
    if not isinstance(where, str) or not is_remote(where):
        return local_path(where)
    fetched = settings.shared.fetched
    if where not in fetched and (in_files(where) or in_peer(where)):
        fetched[where] = _fetch(where, settings)
    elif where not in fetched:
        from casync_compat.locations import registries

        fetched[where] = registries.fetch_index(where, settings)
    return fetched[where]


def _fetch(where: str, settings: Settings) -> bytes:
    """Fetch a file into a temporary one, whose path is returned."""
    files, name = index_location(where, settings)
    pieces = files.pieces(name)
    if pieces is None:
        raise NotFound.at(os.fsencode(shown(where)))
    path = settings.shared.keep(os.path.basename(name), b"")
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
    return path


def _content(files: Files, name: bytes) -> bytes:
    data = files.read(name, MAX_INDEX_SIZE)
    if data is None:
        raise NotFound.at(os.fsencode(files.name) + b"/" + name)
    return data


@contextmanager
def index_output(where: IndexPlace | None, settings: Settings) -> Iterator[bytes | None]:
    """The path to write an index or archive to. One elsewhere is sent when the block has ended without an error.

    :param where: None for standard output, which has no path
    :raises UsageError: the location is malformed
    """
    if where is None or not (isinstance(where, tuple) or is_remote(where)):
        yield None if where is None else local_path(where)
        return
    files, name = index_location(where, settings)
    files.expect(name)
    path = settings.shared.keep(os.path.basename(name), b"")
    yield path
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        files.write(name, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")
    files.sync()
